"""Scoring: what intake needs next, the model in service, and sources that fell silent."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.doctor.findings import Area, Finding, failed, ok, warning
from services.scoring import drift, model_store, storm
from services.scoring.domain.model import ModelRejected, load
from services.scoring.tables import outages, scores
from shared.clock import Clock

_DAYS_AHEAD: Final = 2
"""Scoring makes a week's; with fewer than these it has not looked for five days."""
_MUCH_DRIFT: Final = 0.25
_CALIBRATED: Final = (0.5, 2.0)


async def look(connection: AsyncConnection, clock: Clock) -> list[Finding]:
    return [
        *await _of_partitions(connection, clock()),
        *await _of_model(connection),
        *await _of_sources(connection, clock()),
    ]


async def _of_partitions(connection: AsyncConnection, now: datetime) -> list[Finding]:
    """Days whose events can be told from repeated ones."""
    missing = await connection.scalars(
        _MISSING_DAYS, {"first": now.date(), "last": now.date() + timedelta(days=_DAYS_AHEAD)}
    )
    days = [f"{day:%Y-%m-%d}" for day in missing]
    if not days:
        return [ok(Area.SCORING, "ids of events have a partition for the days to come")]
    return [
        failed(
            Area.SCORING,
            f"ids of events have no partition for {', '.join(days)}",
            "start scoring: it makes them; if it runs, deploy/runbooks/PartitionMissing.md",
        )
    ]


# Days of which no partition says that it holds them; bounds as PostgreSQL writes them.
_MISSING_DAYS: Final = text(
    "SELECT day::date FROM generate_series(CAST(:first AS date), CAST(:last AS date), '1 day')"
    " AS day WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,"
    "  LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid),"
    "    $re$FROM \\('(\\d{4}-\\d\\d-\\d\\d)'\\) TO \\('(\\d{4}-\\d\\d-\\d\\d)'\\)$re$) AS m"
    "  WHERE i.inhparent = 'scoring.seen_events'::regclass"
    "  AND day::date >= m[1]::date AND day::date < m[2]::date) ORDER BY 1"
)


async def _of_model(connection: AsyncConnection) -> list[Finding]:
    stored = await model_store.read_active(connection)
    if stored is None:
        scored = await connection.scalar(select(func.count()).select_from(scores))
        if scored:
            return [
                failed(
                    Area.SCORING,
                    f"no model is in service, and {scored:,} accounts have scores of an older one",
                    "perennial models list; perennial models activate VERSION",
                )
            ]
        return [ok(Area.SCORING, "no model yet: the first sweep makes one of the prior weights")]
    try:
        load(stored.document)
    except ModelRejected as error:
        return [
            failed(
                Area.SCORING,
                f"model {stored.version} cannot be served: {error}",
                "perennial models rollback",
            )
        ]
    drifted = _of_drift(await drift.read_newest(connection), stored.version)
    return drifted or [ok(Area.SCORING, f"model {stored.version} serves")]


def _of_drift(found: Mapping[str, object] | None, version: str) -> list[Finding]:
    if found is None:
        return []
    psi, ratio = found.get("psi_max"), found.get("calibration_ratio")
    told = []
    if isinstance(psi, int | float) and psi >= _MUCH_DRIFT:
        told.append(f"accounts look otherwise than in its training (stability index {psi:.2f})")
    low, high = _CALIBRATED
    if isinstance(ratio, int | float) and not low <= ratio <= high:
        told.append(f"it predicts {ratio:.1f} losses for each that there was")
    if not told:
        return []
    return [
        warning(
            Area.SCORING,
            f"model {version}: {'; '.join(told)}",
            "perennial models drift; perennial train",
        )
    ]


async def _of_sources(connection: AsyncConnection, now: datetime) -> list[Finding]:
    out = await connection.execute(
        select(outages.c.source, outages.c.why, outages.c.began_at).where(
            outages.c.ended_at.is_(None)
        )
    )
    findings = [
        warning(
            Area.SCORING,
            f"{row.source or 'the pipeline'} is out since"
            f" {(now - row.began_at).total_seconds() / 3600:,.0f} h ({row.why}): flags on use are"
            " held back",
            "is the product app still sending? perennial keys list; perennial quarantine list",
        )
        for row in out
    ]
    held = sum((await storm.count_held(connection)).values())
    if held:
        findings.append(
            warning(
                Area.SCORING,
                f"the storm guard holds {held:,} flags",
                "perennial flags list; then perennial flags release: let them out, or drop them",
            )
        )
    return findings or [ok(Area.SCORING, "no source is out, no flag is held")]
