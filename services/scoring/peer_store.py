"""Scoring's SQL of peers: what a survey found usual among the accounts of each segment.

A score refers to its model's version; of that version's surveys the one in force at the moment of
the score is its own, so that its reasons stay what they were.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import numpy as np
from sqlalchemy import and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.peers import Cohorts, Peers
from services.scoring.tables import models, peers

KEPT: Final = 30
"""Surveys of one model: far more than there are between two looks at an account."""


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    segment: str | None
    accounts: int
    base_rate: float
    mean: list[float]
    median: list[float]


async def save(
    connection: AsyncConnection,
    version: str,
    cohorts: Cohorts,
    *,
    accounts: int,
    now: datetime,
    cohort_ratio: float = 1.0,
) -> None:
    """Put a survey in force, made when there were `accounts`; the oldest and those of gone models
    go.
    """
    document = [
        _Document(
            segment=one.segment,
            accounts=one.accounts,
            base_rate=one.base_rate,
            mean=one.mean.tolist(),
            median=one.median.tolist(),
        )
        for one in cohorts.values()
    ]
    await connection.execute(
        peers.insert().values(
            model_version=version,
            created_at=now,
            accounts=accounts,
            cohort_ratio=cohort_ratio,
            document=msgspec.to_builtins(document),
        )
    )
    newest = (
        select(peers.c.id)
        .where(peers.c.model_version == version)
        .order_by(peers.c.id.desc())
        .limit(KEPT)
    )
    await connection.execute(
        delete(peers).where(
            or_(
                and_(peers.c.model_version == version, peers.c.id.not_in(newest)),
                peers.c.model_version.not_in(select(models.c.version)),
            )
        )
    )


async def read_times(connection: AsyncConnection, version: str) -> list[tuple[int, datetime]]:
    """The surveys under a model, the newest first: their ids, and since when they are in force."""
    rows = await connection.execute(
        select(peers.c.id, peers.c.created_at)
        .where(peers.c.model_version == version)
        .order_by(peers.c.id.desc())
    )
    return [(row.id, row.created_at) for row in rows]


async def read(connection: AsyncConnection, survey: int) -> Cohorts | None:
    document = await connection.scalar(select(peers.c.document).where(peers.c.id == survey))
    return None if document is None else _cohorts(document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found when, among how many `accounts` there were; see `Standard`."""

    id: int
    created_at: datetime
    accounts: int
    cohort_ratio: float
    cohorts: Cohorts


async def read_newest(connection: AsyncConnection, version: str) -> Survey | None:
    """What the accounts are compared with from now on."""
    row = (
        await connection.execute(
            select(peers)
            .where(peers.c.model_version == version)
            .order_by(peers.c.id.desc())
            .limit(1)
        )
    ).one_or_none()
    if row is None:
        return None
    return Survey(
        id=row.id,
        created_at=row.created_at,
        accounts=row.accounts,
        cohort_ratio=row.cohort_ratio,
        cohorts=_cohorts(row.document),
    )


def _cohorts(document: object) -> Cohorts:
    known = msgspec.convert(document, list[_Document])
    return {
        one.segment: Peers(
            segment=one.segment,
            accounts=one.accounts,
            base_rate=one.base_rate,
            mean=np.array(one.mean),
            median=np.array(one.median),
        )
        for one in known
    }
