"""The ways in which accounts are cut into parts, and filtered: one value per account and cut.

A value is a code: an index into the cut's names, -1 where it is not known. Each account has one
value in each cut, so that the parts of a cut sum to the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.ledger import UNKNOWN, Dimension, Ledger, LifeStage
from services.scoring.domain.usage import Integers

Truths: TypeAlias = NDArray[np.bool_]

SALES: Final = ("direct", "indirect")
STAGES: Final = tuple(stage.name.lower() for stage in LifeStage)


class Cut(StrEnum):
    """What accounts are told apart by."""

    WHOLE = "whole"
    OWNER = "owner"
    SEGMENT = "segment"
    PLAN = "plan"
    REGION = "region"
    SALES = "sales"
    """Through a reseller (indirect) or not (direct)."""
    RESELLER = "reseller"
    STAGE = "stage"
    CURRENCY = "currency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The value of each account in one cut: `code` `(accounts,)` is an index into `names`."""

    code: Integers
    names: tuple[str, ...]


def parts(ledger: Ledger, cut: Cut, *, version: Integers, stage: Integers) -> Parts:
    """`version`, `stage` `(accounts,)`: as `Ledger.version_at` and `stage_at` give them."""
    match cut:
        case Cut.WHOLE:
            return Parts(code=np.zeros(len(version), np.int64), names=(cut,))
        case Cut.STAGE:
            return Parts(code=stage - 1, names=STAGES)
        case Cut.SALES:
            reseller = of_version(ledger.versions.reseller, version)
            code = np.where(version == UNKNOWN, UNKNOWN, (reseller != UNKNOWN).astype(np.int64))
            return Parts(code=code, names=SALES)
        case _:
            column: Integers = getattr(ledger.versions, cut)
            return Parts(code=of_version(column, version), names=ledger.names[Dimension(cut)])


def of_version(column: Integers, version: Integers) -> Integers:
    """The codes of these versions; not known where there is no version."""
    return np.append(column, UNKNOWN)[version]


def matching(
    ledger: Ledger, wanted: Mapping[Cut, str], *, version: Integers, stage: Integers
) -> Truths:
    """The accounts `(accounts,)` that have all of the values; an empty one is "not known"."""
    found = np.ones(len(version), np.bool_)
    for cut, value in wanted.items():
        part = parts(ledger, cut, version=version, stage=stage)
        if value == "":
            found &= part.code == UNKNOWN
        elif cut is Cut.OWNER:
            # An address, which directories and people write with capitals or without.
            same = [i for i, name in enumerate(part.names) if name.lower() == value.lower()]
            found &= np.isin(part.code, same)
        elif value in part.names:
            found &= part.code == part.names.index(value)
        else:
            found[:] = False
    return found
