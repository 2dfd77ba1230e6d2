"""What holds of every directory, however late, often and contradictorily it was told."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.domain.books import Books
from services.scoring.domain.cuts import Cut
from services.scoring.domain.economics import Figures, Money
from services.scoring.domain.ledger import Ledger, LifeStage
from services.scoring.domain.periods import books_close
from services.scoring.domain.terms import Outcome, terms_of
from tests.unit.scoring.domain.plain_books import DAY, PlainAccount, opening_of
from tests.unit.scoring.ledgers import LedgerAccount, account, ledger_of, micros
from tests.unit.scoring.portfolios import FIRST_CHANGE, LONG_AGO, portfolio_of, whole_of

BEGIN = date(2024, 1, 1)  # Late February of a leap year is within.
LAST = 120
AS_OF = datetime(2025, 1, 1, 12, tzinfo=UTC)

days = st.integers(0, LAST)
dates = st.integers(-20, LAST + 20).map(lambda day: str(BEGIN + day * DAY))
some = st.none() | dates
cents = st.none() | st.integers(0, 10**9).map(lambda amount: f"{amount / 100:.2f}")
moments = st.integers(0, LAST * 24).map(
    lambda hour: (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour)).isoformat()
)
records = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["trial", "active", "active", "active", "churned", None]),
        "contract_start": some,
        "contract_end": some,
        "churned_at": st.none() | st.none() | dates,
        "billing_period": st.sampled_from(["month", "year", None]),
        "mrr": cents,
        "margin_per_month": cents,
        "currency": st.sampled_from(["EUR", "EUR", "USD", None]),
        "owner": st.sampled_from(["ada", "bob", None]),
        "segment": st.sampled_from(["small", "large", None]),
        "plan": st.sampled_from(["free", None]),
        "region": st.sampled_from(["eu", "us", None]),
        "reseller": st.sampled_from(["Initech", None]),
    }
)
histories = st.dictionaries(moments, records, min_size=1, max_size=5)
stages = st.dictionaries(moments, st.sampled_from(list(LifeStage)), max_size=3)


@st.composite
def vendors(draw: st.DrawFn, most: int = 6) -> list[LedgerAccount]:
    return [
        account(
            f"account-{number}",
            draw(histories),
            stages=draw(stages),
            risk=draw(st.none() | st.floats(0, 1)),
            value_at_risk=draw(st.none() | st.floats(0, 10**6)),
        )
        for number in range(draw(st.integers(0, most)))
    ]


def ledger(accounts: Sequence[LedgerAccount], *, is_old: bool = True) -> Ledger:
    return ledger_of(*accounts, *([FIRST_CHANGE] if is_old else []), as_of=AS_OF)


def sums_of(money: Sequence[Money]) -> dict[str | None, list[int]]:
    return {
        one.currency: [
            one.mrr_start,
            one.new,
            one.expansion,
            one.contraction,
            one.lost,
            one.mrr_end,
            one.n,
            one.renewals.due,
            one.renewals.renewed,
            one.renewals.lost,
            one.renewals.pending,
            one.lifetime.n,
            one.value_at_risk or 0,
            one.lifetime_at_risk or 0,
            one.by_margin,
            one.by_mrr,
        ]
        for one in money
    }


def counts_of(figures: Figures) -> list[int]:
    accounts, renewals = figures.accounts, figures.renewals
    return [
        accounts.start,
        accounts.new,
        accounts.lost,
        accounts.end,
        accounts.trials,
        renewals.due,
        renewals.renewed,
        renewals.lost,
        renewals.pending,
    ]


def added(rows: Sequence[Sequence[int]], width: int) -> list[int]:
    return [sum(row[column] for row in rows) for column in range(width)]


@settings(max_examples=50)
@given(vendors(), st.booleans())
def test_the_books_agree_with_the_plainest_words(
    accounts: list[LedgerAccount],
    is_old: bool,  # noqa: FBT001 (drawn)
) -> None:
    found = ledger(accounts, is_old=is_old)
    books = Books(found.versions, len(found.accounts))
    span = [BEGIN + day * DAY for day in range(-30, LAST + 30)]
    everybody = [*accounts, FIRST_CHANGE] if is_old else accounts
    opening = opening_of(everybody)
    plain = [PlainAccount(one, opening).customer_on(span) for one in accounts]
    for index, day in enumerate(span):
        expected = [each[index] for each in plain]
        at = books.customers_at(day.toordinal()).tolist()[: len(accounts)]
        assert at == expected, day


@settings(max_examples=50)
@given(vendors(), days, days, st.sampled_from(Cut), st.booleans())
def test_parts_sum_to_the_whole_in_every_cut(
    accounts: list[LedgerAccount],
    one: int,
    other: int,
    cut: Cut,
    is_now: bool,  # noqa: FBT001
) -> None:
    first = str(BEGIN + min(one, other) * DAY)
    end = "2025-01-02" if is_now else str(BEGIN + (max(one, other) + 1) * DAY)
    found = portfolio_of(ledger(accounts), first, end, cut=cut)
    assert added([counts_of(part.figures) for part in found.parts], 9) == counts_of(found.whole)
    parts = [sums_of(part.figures.money) for part in found.parts]
    for currency, whole in sums_of(found.whole.money).items():
        assert added([part[currency] for part in parts if currency in part], 16) == whole
    assert {currency for part in parts for currency in part} == set(sums_of(found.whole.money))


@settings(max_examples=50)
@given(vendors(), days, days, st.sampled_from([Cut.OWNER, Cut.SALES, Cut.STAGE, Cut.RESELLER]))
def test_a_filter_shows_what_the_part_shows(
    accounts: list[LedgerAccount], one: int, other: int, cut: Cut
) -> None:
    first, end = str(BEGIN + min(one, other) * DAY), str(BEGIN + (max(one, other) + 1) * DAY)
    asked = ledger(accounts)
    for part in portfolio_of(asked, first, end, cut=cut).parts:
        alone = portfolio_of(asked, first, end, filters={cut: part.key or ""}).whole
        assert counts_of(alone) == counts_of(part.figures)
        assert sums_of(alone.money) == sums_of(part.figures.money)


@settings(max_examples=50)
@given(vendors(), st.sets(days, min_size=2, max_size=6))
def test_periods_lead_from_one_to_the_next(accounts: list[LedgerAccount], cuts: set[int]) -> None:
    bounds = [str(BEGIN + day * DAY) for day in sorted(cuts)]
    asked = ledger(accounts)
    shown = [whole_of(asked, first, end) for first, end in pairwise(bounds)]
    for one in shown:
        assert one.accounts.start + one.accounts.new - one.accounts.lost == one.accounts.end
        assert one.renewals.due == one.renewals.renewed + one.renewals.lost + one.renewals.pending
        for money in one.money:
            came = money.mrr_start + money.new + money.expansion
            assert came - money.contraction - money.lost == money.mrr_end
    for one, following in pairwise(shown):
        assert one.accounts.end == following.accounts.start
        before = {money.currency: money.mrr_end for money in one.money if money.mrr_end}
        after = {money.currency: money.mrr_start for money in following.money if money.mrr_start}
        assert before == after


@settings(max_examples=50)
@given(vendors(), st.sets(days, min_size=2, max_size=6))
def test_each_term_is_decided_in_one_period_at_most(
    accounts: list[LedgerAccount], cuts: set[int]
) -> None:
    asked = ledger(accounts)
    terms = terms_of(Books(asked.versions, len(asked.accounts)))
    bounds = [BEGIN + day * DAY for day in sorted(cuts)]
    shown = [whole_of(asked, str(a), str(b)).renewals for a, b in pairwise(bounds)]
    decided = terms.decided_in(
        bounds[0].toordinal(), bounds[-1].toordinal(), Outcome.RENEWED
    ) | terms.decided_in(bounds[0].toordinal(), bounds[-1].toordinal(), Outcome.LOST)
    assert sum(one.renewed + one.lost for one in shown) == decided.sum()
    assert (
        terms.decided[terms.outcome != Outcome.CORRECTED]
        >= terms.due[terms.outcome != Outcome.CORRECTED]
    ).all()


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.tuples(days, st.none() | dates), min_size=1, max_size=5), max_size=8),
    st.sets(days, max_size=5),
)
def test_each_loss_counts_once_however_late_and_often_it_is_told(
    losses: list[list[tuple[int, str | None]]], cuts: set[int]
) -> None:
    """All are customers before the first bound; news come in any order, dates move about."""
    always: dict[str, str | None] = {"status": "active", "contract_start": "2020-02-01"}
    accounts = [
        account(
            f"account-{number}",
            {LONG_AGO: always}
            | {
                f"{BEGIN + told * DAY}T12:00": always | {"status": "churned", "churned_at": left}
                for told, left in news
            },
        )
        for number, news in enumerate(losses)
    ]
    bounds = [BEGIN - 40 * DAY, *(BEGIN + day * DAY for day in sorted(cuts)), BEGIN + 400 * DAY]
    asked = ledger_of(*accounts, FIRST_CHANGE, as_of="2026-01-01")
    shown = [whole_of(asked, str(first), str(end)).accounts for first, end in pairwise(bounds)]
    assert shown[0].start == len(losses)
    assert sum(one.lost for one in shown) == len(losses)
    assert sum(one.new for one in shown) == 0


@settings(max_examples=50)
@given(
    vendors(),
    days,
    days,
    st.lists(histories, max_size=8),
    st.sampled_from([Cut.WHOLE, Cut.OWNER, Cut.SEGMENT, Cut.STAGE]),
)
def test_closed_books_stay_as_they_are(
    accounts: list[LedgerAccount],
    one: int,
    other: int,
    news: list[Mapping[str, Mapping[str, Any]]],
    cut: Cut,
) -> None:
    """Whatever is told after they closed: of accounts that were known then, and of new ones."""
    first, end = BEGIN + min(one, other) * DAY, BEGIN + (max(one, other) + 1) * DAY
    closed = books_close(end)
    known = [_until(each, closed) for each in accounts if each.versions[0][0] < closed]
    before = portfolio_of(ledger(known), str(first), str(end), cut=cut)
    after = portfolio_of(ledger(_with(known, news, closed)), str(first), str(end), cut=cut)
    assert after == before


@settings(max_examples=50)
@given(vendors(most=12), days, days)
def test_retained_revenue_is_a_share_and_grows_only_by_expansion(
    accounts: list[LedgerAccount], one: int, other: int
) -> None:
    first, end = str(BEGIN + min(one, other) * DAY), str(BEGIN + (max(one, other) + 1) * DAY)
    found = whole_of(ledger(accounts), first, end)
    assert (found.churn.rate is None) == (found.accounts.start < 10)
    for money in found.money:
        if money.grr is not None and money.nrr is not None:
            assert 0 <= money.grr <= 1
            assert money.nrr >= money.grr
        if money.n < 10:
            assert (money.grr, money.nrr) == (None, None)


def _until(one: LedgerAccount, closed: int) -> LedgerAccount:
    """The account as it was known when the books closed."""
    return replace(
        one,
        versions=[version for version in one.versions if version[0] < closed],
        stages=[stage for stage in one.stages if stage[0] < closed],
    )


def _with(
    accounts: Sequence[LedgerAccount],
    news: Sequence[Mapping[str, Mapping[str, Any]]],
    closed: int,
) -> list[LedgerAccount]:
    """The accounts, each with news of its own; the news that are left are of new accounts."""
    strangers = [account(f"late-{number}") for number in range(len(news) - len(accounts))]
    everybody = [*accounts, *strangers]
    shift = closed - micros(str(BEGIN))
    return [
        replace(
            one,
            versions=[
                *one.versions,
                *((since + shift, fields) for since, fields in account(one.name, told).versions),
            ],
        )
        for one, told in zip(everybody, [*news, *({} for _ in everybody)], strict=False)
    ]
