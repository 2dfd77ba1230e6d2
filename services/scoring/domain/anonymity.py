"""What may be told of groups of accounts, so that nobody can tell one account from it.

What is protected, and by what:

* *Small cells.* Every number rests on `K` accounts or more, and so does what is left when it is
  subtracted from the others (`release`): whoever adds and subtracts published counts, even if they
  were told exactly, gets cells of no account or of `K` and more, never of 1 to `K` - 1.
* *Large accounts.* A mean is told only if no account makes more than half of its sum, and nothing
  is the value of one account: a quantile is the mean of `K` neighbours (`middle`).
* *Two months.* Each document is made of its own random four in five accounts (`drawn`) with a key
  that is thrown away: who came between two months may be in neither, and what two counts differ by
  is mostly who was drawn. It is made once and never again: many draws of one month would average.
* *Knowledge of all the others.* Counts are rounded to `STEP`, shares to 0.05, values to a grid.

What it does not do: hide what holds for a whole group (a share near 1 of a segment says something
of each account in it; such shares are not told, but 0.85 is), or that counts which never change
can be averaged over many months. That is why months are made once, and years have twelve.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.usage import Floats, Integers

K: Final = 5
STEP: Final = 5
SHARE_STEP: Final = 0.05
DRAWN_SHARE: Final = 0.8
DOMINANT_SHARE: Final = 0.5

_BITS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What of a table may be told.

    A table counts accounts by group and level; a cut is a level up to which they are counted:
    `cuts` are those told of all groups together, ascending; the last level is the total.
    `first[group]` is the place in `cuts` from which on they are told of that group too;
    `len(cuts)`: nothing is.
    """

    cuts: tuple[int, ...]
    first: tuple[int, ...]

    def tells(self, group: int, cut: int) -> bool:
        """Whether the accounts of the group up to the cut are told."""
        return cut in self.cuts and self.cuts.index(cut) >= self.first[group]


def drawn(accounts: Iterable[str], key: bytes) -> NDArray[np.bool_]:
    """Which accounts a document is made of: of each by itself, whatever the others are."""
    bound = int(DRAWN_SHARE * 2**_BITS)
    digests = (
        hashlib.blake2b(name.encode(), key=key, digest_size=_BITS // 8).digest()
        for name in accounts
    )
    return np.array([int.from_bytes(one, "big") < bound for one in digests], np.bool_)


def release(counts: Integers) -> Release:
    """Which cells of a table are told: `counts` `(groups, levels)`, the last group never alone.

    The last group is whoever is in none of the others. Counts told are sums over levels 0..cut, of
    a group or of all. All that can be had from them by adding and subtracting is built of blocks:
    of a group what lies between two cuts told of it, and of all the groups of which a cut is not
    told together what lies below it, and between it and the next. Each block holds `K` accounts or
    none at all, and the groups without a cut are also without every earlier one: so each cell that
    can be had is a union of blocks, or contains one (tested by solving for all small cells).
    """
    upto = np.cumsum(counts, axis=1)
    cuts: list[int] = []
    last = counts.shape[1] - 1
    # The total, then what holds in the end and at once: it says more than what lies between.
    for cut in [last, last - 1, *range(last - 1)][: last + 1]:
        if _is_apart(upto.sum(axis=0), sorted([*cuts, cut])):
            cuts = sorted([*cuts, cut])
    first = [_first_told(row, cuts) for row in upto[:-1]]
    first.append(len(cuts))  # Whoever is in no group is never told of alone.
    for place in reversed(range(len(cuts))):
        _complete(upto, cuts, first, place)
    return Release(cuts=tuple(cuts), first=tuple(first))


def _is_apart(upto: Integers, cuts: list[int]) -> bool:
    """Whether there are `K` accounts below the first cut, and between each and the next."""
    return bool((np.diff(upto[cuts], prepend=0) >= K).all())


def _first_told(upto: Integers, cuts: list[int]) -> int:
    """From which of the cuts on all hold apart of a group."""
    first = len(cuts)
    while first and _is_apart(upto, cuts[first - 1 :]):
        first -= 1
    return first


def _complete(upto: Integers, cuts: list[int], first: list[int], place: int) -> None:
    """Leave the cut out of so many groups that those without it, together, are no small cell."""
    while True:
        without = [group for group, since in enumerate(first) if since > place]
        told = [group for group, since in enumerate(first) if since <= place]
        together = upto[without].sum(axis=0)
        if not told or not together[-1] or _holds(together, cuts, place):
            return
        smallest = min(told, key=lambda group: int(upto[group, -1]))
        first[smallest] = place + 1


def _holds(upto: Integers, cuts: list[int], place: int) -> bool:
    below = upto[cuts[place]]
    above = upto[cuts[place + 1]] - below if place + 1 < len(cuts) else K
    return bool(below >= K and above >= K)


def rounded(count: int) -> int:
    """How many accounts there are, as it is told of so many drawn ones."""
    return STEP * round(count / DRAWN_SHARE / STEP)


def share(part: int, whole: int) -> float:
    """A share as it is told; the caller has seen to it that both sides hold `K`."""
    # Neither "nobody" nor "everybody" is ever told.
    return share_on_grid(min(max(part / whole, SHARE_STEP), 1 - SHARE_STEP))


def share_on_grid(value: float) -> float:
    return round(SHARE_STEP * round(value / SHARE_STEP), 2)


def middle(values: Floats, quantile: float = 0.5) -> float | None:
    """A quantile as it is told: the mean of the `K` values around it, on a grid.

    None unless `K` accounts lie on either side of it (its own counted), and if one of the values
    makes more than half of their sum. NaN (not known) is left out, infinity (not yet) is above all.
    """
    ordered = np.sort(values[~np.isnan(values)])
    at = quantile * (len(ordered) - 1)
    if len(ordered) < 2 * K or int(at) + 1 < K or len(ordered) - int(np.ceil(at)) < K:
        return None
    first = min(max(round(at) - K // 2, 0), len(ordered) - K)
    near = ordered[first : first + K]
    total = float(near.sum())
    if not np.isfinite(total) or near.max() > DOMINANT_SHARE * total > 0:
        return None
    return on_grid(total / K)


def on_grid(value: float) -> float:
    """Steps of 0.5 below 10, 1 below 30, 5 below 100; two digits from there on."""
    size = abs(value)
    if size >= 100:
        return float(f"{value:.1e}")
    step = 0.5 if size < 10 else 1.0 if size < 30 else 5.0
    return step * round(value / step)
