"""Members of the same account and code, found by one sort: what distinct counts are made of."""

from dataclasses import dataclass

import numpy as np

from services.scoring.domain.usage import Integers

# 2**64 / golden ratio, odd: multiplying by it is one-to-one and spreads the codes, however small
# or alike they are, over the upper bits.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Entries by owner and code, each pair once.

    `order` `(entries,)` puts the entries of a group beside each other, in no order among
    themselves; `starts`, `owner` and `code` `(groups,)`, with owners ascending. Reduce a column
    with `ufunc.reduceat(column[order], starts)`.
    """

    order: Integers
    starts: Integers
    owner: Integers
    code: Integers

    def __len__(self) -> int:
        return len(self.starts)

    def sizes(self) -> Integers:
        return np.diff(self.starts, append=len(self.order))


def group(owner: Integers, code: Integers) -> Groups:
    """The entries grouped by owner and code; both `(entries,)`, in any order."""
    if not owner.size:
        return Groups(order=owner, starts=owner, owner=owner, code=code)
    # One 64-bit key sorts several times faster than two: the owner, and as much of the code as
    # there is room for.
    room = 63 - int(owner.max()).bit_length()
    spread = code.view(np.uint64) * _SPREAD
    spread >>= np.uint64(64 - room)
    key = spread.view(np.int64)
    key |= owner << room
    order = np.argsort(key)
    key = key[order]
    in_order = code[order]
    first = np.ones(len(order), np.bool_)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    if (in_order[1:] != in_order[:-1])[~first[1:]].any():
        # Two codes of one account alike in all those bits: rare, but counts must be exact.
        order = np.lexsort((code, owner))
        in_order, owners = code[order], owner[order]
        first[1:] = (owners[1:] != owners[:-1]) | (in_order[1:] != in_order[:-1])
    starts = np.flatnonzero(first)
    leaders = order[starts]
    return Groups(order=order, starts=starts, owner=owner[leaders], code=code[leaders])
