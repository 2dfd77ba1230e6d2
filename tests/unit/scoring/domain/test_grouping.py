"""Grouping is exact, whatever the codes are."""

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.grouping import group

# Codes whose products with the spreading constant differ in the lowest bits alone: all that is
# left of them beside an owner is equal.
ALIKE = [
    int(np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64) * low % (1 << 64)).view(np.int64))
    for low in range(4)
]
CODES = st.sampled_from(ALIKE) | st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)


@given(st.lists(st.tuples(st.integers(0, 3) | st.integers(0, 2**20), CODES)))
def test_each_pair_is_one_group_of_all_its_entries(pairs: list[tuple[int, int]]) -> None:
    wanted = defaultdict(set)
    for index, pair in enumerate(pairs):
        wanted[pair].add(index)
    owner = np.array([owner for owner, _ in pairs], np.int64)
    code = np.array([code for _, code in pairs], np.int64)
    groups = group(owner, code)
    entries = np.split(groups.order, groups.starts[1:]) if pairs else []
    keys = zip(groups.owner.tolist(), groups.code.tolist(), strict=True)
    assert {key: set(own.tolist()) for key, own in zip(keys, entries, strict=True)} == wanted
    assert groups.sizes().tolist() == [len(own) for own in entries]
    assert groups.owner.tolist() == sorted(groups.owner.tolist())


def test_codes_that_are_alike_in_their_spread_bits_stay_apart() -> None:
    groups = group(np.array([5, 5, 5, 5]), np.array([ALIKE[1], ALIKE[2], ALIKE[1], ALIKE[3]]))
    assert sorted(groups.code.tolist()) == sorted(ALIKE[1:])
    assert sorted(groups.sizes().tolist()) == [1, 1, 2]
