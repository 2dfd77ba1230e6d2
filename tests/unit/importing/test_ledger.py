from hypothesis import given
from hypothesis import strategies as st

from services.importing.ledger import Ledger, Verdict
from services.importing.rows import RowError


def verdict(number: int) -> Verdict:
    if number % 3 == 0:
        return RowError(number, number + 1, "", "invalid_time", "", [])
    return ("clock_ahead",) if number % 5 == 0 else ()


@given(st.permutations(range(1, 31)), st.integers(1, 7))
def test_counts_follow_the_prefix_in_whatever_order_answers_come(
    order: list[int], batch: int
) -> None:
    rejected: list[int] = []
    ledger = Ledger(on_rejected=lambda error: rejected.append(error.number))
    seen: set[int] = set()
    for start in range(0, 30, batch):
        part = order[start : start + batch]
        seen.update(part)
        ledger.settle((number, verdict(number)) for number in part)
        prefix = next(number for number in range(31) if number + 1 not in seen)
        assert ledger.done == prefix
        assert ledger.accepted + ledger.rejected == prefix
        assert rejected == list(range(3, prefix + 1, 3))
    # Of 1..30: 10 multiples of 3 are rejected; 5, 10, 20, 25 warn.
    assert (ledger.accepted, ledger.rejected, ledger.warnings.total()) == (20, 10, 4)
