"""What is counted and summed of a period, in each part of a cut: the ground of all its figures.

Each account is counted in the part in which it was at the period's start, a newcomer in that of its
first day; what is at risk, in the part in which it is now. So parts sum to the whole.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from services.scoring.domain.books import Books, keyed
from services.scoring.domain.cells import COUNTED, SUMMED, Cells, Tally, cents_of, is_known, ranked
from services.scoring.domain.cuts import Cut, Truths, matching, parts
from services.scoring.domain.ledger import UNKNOWN, Dimension, Ledger
from services.scoring.domain.lifetimes import Lifetimes, lifetimes_at
from services.scoring.domain.periods import Period, day_of, first_days_after, midnight
from services.scoring.domain.terms import Outcome, Terms
from services.scoring.domain.usage import Integers


def tally(
    ledger: Ledger,
    books: Books,
    terms: Terms,
    period: Period,
    *,
    cut: Cut = Cut.WHOLE,
    filters: Mapping[Cut, str],
) -> Tally:
    """Of the accounts that the filters let through.

    A period that is not over yet ends with the running day: what is to come has not happened.
    """
    today = day_of(ledger.as_of)
    until = period.so_far(today).end
    span = _Span(ledger, books, period.first, until)
    is_now = period.end >= today
    has_stage = Cut.STAGE in {cut, *filters}
    keys, part = _parts(ledger, cut, filters, span.places(has_stage=has_stage))
    started = np.bincount(part[span.start | span.new], minlength=len(keys) + 1)[: len(keys)]
    keys, rest, place = ranked(keys, started)
    part = place[part]
    cells = Cells(parts=len(keys), currencies=len(ledger.names[Dimension.CURRENCY]) + 1)
    sums = _prices(cells, span, part)
    counts = {
        "start": cells.count(part[span.start]),
        "new": cells.count(part[span.new]),
        "lost": cells.count(part[span.lost]),
        "end": cells.count(part[span.end]),
        "trials": cells.count(part[books.trials_at(until.toordinal())]),
    }
    _add_terms(cells, counts, sums, terms, span, period, part)
    lifetimes = lifetimes_at(books, until)
    _add_lifetimes(cells, sums, span, lifetimes, part)
    if is_now:
        _, part_now = _parts(ledger, cut, filters, (ledger.newest_version(), ledger.today.stage))
        _add_at_risk(cells, sums, ledger, span, lifetimes, place[part_now])
    return Tally(
        keys=keys,
        rest=rest,
        currencies=(*ledger.names[Dimension.CURRENCY], None),
        counts=np.stack([counts[name] for name in COUNTED], axis=-1),
        sums=np.stack([sums.get(name, cells.nothing()) for name in SUMMED], axis=-1),
        is_now=is_now,
    )


class _Span:
    """The accounts at the start and at the end, `(accounts,)` each, with what was in force."""

    def __init__(self, ledger: Ledger, books: Books, first: date, until: date) -> None:
        self.ledger = ledger
        self.books = books
        self.first, self.until = first.toordinal(), until.toordinal()
        self.start, self.end = books.customers_at(self.first), books.customers_at(self.until)
        self.new, self.lost = self.end & ~self.start, self.start & ~self.end
        self.version, self.version_at_end = (
            books.version_at(self.first),
            books.version_at(self.until),
        )

    def places(self, *, has_stage: bool) -> tuple[Integers, Integers]:
        """Version and stage of each account where it is counted: at the start or its first day.

        The stage where it is asked for: it takes a while.
        """
        newcomers = np.flatnonzero(self.new)
        began = self.books.began_by(self.until)[newcomers]
        version = self.version.copy()
        version[newcomers] = self.books.versions_of(newcomers, began)
        if not has_stage:
            return version, np.zeros_like(version)
        stage = self.ledger.stage_at(midnight(date.fromordinal(self.first)))
        stage[newcomers] = _stages_of(self.ledger, newcomers, began)
        return version, stage


def _parts(
    ledger: Ledger, cut: Cut, filters: Mapping[Cut, str], places: tuple[Integers, Integers]
) -> tuple[Sequence[str | None], Integers]:
    """The keys, and each account's part where it stood; one more: it is left out."""
    version, stage = places
    told = parts(ledger, cut, version=version, stage=stage)
    names = () if cut is Cut.WHOLE else told.names
    code = np.where(told.code == UNKNOWN, len(names), told.code)
    wanted = matching(ledger, filters, version=version, stage=stage) & (version != UNKNOWN)
    return (*names, None), np.where(wanted, code, len(names) + 1)


def _prices(cells: Cells, span: _Span, part: Integers) -> dict[str, Integers]:
    """What customers paid at the start and at the end, and what lies between."""
    versions = span.books.versions
    # A filter leaves few: what is summed of them takes less than the masks.
    asked = np.flatnonzero((part < cells.parts) & (span.start | span.end))
    part, start, end = part[asked], span.start[asked], span.end[asked]
    version, version_at_end = span.version[asked], span.version_at_end[asked]
    before, after = cents_of(versions.mrr, version), cents_of(versions.mrr, version_at_end)
    currency = versions.currency[version]
    currency_after = versions.currency[version_at_end]
    cell, cell_after = cells.of(part, currency), cells.of(part, currency_after)
    paid = start & is_known(versions.mrr, version)
    pays = end & is_known(versions.mrr, version_at_end)
    still = paid & pays & (currency == currency_after)
    base = still | (paid & ~end)

    def sum_of(chosen: Truths, cents: Integers, where: Integers = cell) -> Integers:
        return cells.sum_in(where[chosen], cents[chosen])

    return {
        "start": sum_of(paid, before),
        "new": sum_of(pays & ~still, after, cell_after),
        "expansion": sum_of(still, np.maximum(after - before, 0)),
        "contraction": sum_of(still, np.maximum(before - after, 0)),
        "lost": sum_of(paid & ~still, before),
        "end": sum_of(pays, after, cell_after),
        "base": sum_of(base, before),
        "base_lost": sum_of(base & ~still, before),
        "base_accounts": cells.count_in(cell[base]),
    }


def _add_terms(
    cells: Cells,
    counts: dict[str, Integers],
    sums: dict[str, Integers],
    terms: Terms,
    span: _Span,
    period: Period,
    part: Integers,
) -> None:
    """Renewals by number, and by value: a year of the price that was up for it."""
    versions = span.books.versions
    first, end = period.first.toordinal(), period.end.toordinal()
    kinds = {
        "renewed": terms.decided_in(first, end, Outcome.RENEWED),
        "not_renewed": terms.decided_in(first, end, Outcome.LOST),
        "pending": terms.pending_in(first, end),
    }
    decided = cells.nothing()
    for name, chosen in kinds.items():
        its_part, version = part[terms.account[chosen]], terms.version[chosen]
        counts[name] = cells.count(its_part)
        priced = is_known(versions.mrr, version)
        cell = cells.of(its_part, versions.currency[version])[priced]
        sums[name] = cells.sum_in(cell, 12 * cents_of(versions.mrr, version)[priced])
        if name != "pending":
            decided += cells.count_in(cell)
    sums["decided"] = decided


def _add_lifetimes(
    cells: Cells, sums: dict[str, Integers], span: _Span, lifetimes: Lifetimes, part: Integers
) -> None:
    versions, version = span.books.versions, span.version_at_end
    told = np.flatnonzero(span.end & (part < cells.parts) & ~np.isnan(lifetimes.months))
    told = told[is_known(versions.margin, version[told])]
    cell = cells.of(part[told], versions.currency[version[told]])
    margin = cents_of(versions.margin, version[told])
    sums["lifetime"] = cells.sum_in(cell, np.rint(margin * lifetimes.months[told]))
    sums["lifetime_margin"] = cells.sum_in(cell, margin)
    sums["lifetime_accounts"] = cells.count_in(cell)
    sums["lifetime_own"] = cells.count_in(cell[lifetimes.is_own[told]])


def _add_at_risk(
    cells: Cells,
    sums: dict[str, Integers],
    ledger: Ledger,
    span: _Span,
    lifetimes: Lifetimes,
    part: Integers,
) -> None:
    """What stands to be lost of the customers of today, as the last look of the sweep saw them."""
    versions, today = span.books.versions, ledger.today
    asked = np.flatnonzero(span.end & (part < cells.parts))
    version, risk, months = (
        ledger.newest_version()[asked],
        today.risk[asked],
        lifetimes.months[asked],
    )
    value = today.value_at_risk[asked]
    cell = cells.of(part[asked], versions.currency[version])
    by_margin = is_known(versions.margin, version)
    valued = ~np.isnan(value)
    sums["value_at_risk"] = cells.sum_in(cell[valued], np.rint(value[valued] * 100))
    sums["by_margin"] = cells.count_in(cell[valued & by_margin])
    sums["by_mrr"] = cells.count_in(cell[valued & ~by_margin])
    told = by_margin & ~np.isnan(risk) & ~np.isnan(months)
    lost = risk[told] * cents_of(versions.margin, version[told]) * months[told]
    sums["lifetime_at_risk"] = cells.sum_in(cell[told], np.rint(lost))


def _stages_of(ledger: Ledger, account: Integers, day: Integers) -> Integers:
    """The stages of accounts, each at the beginning of a day of its own; 0 not known."""
    stages = ledger.stages
    keys = keyed(stages.account, first_days_after(stages.since))
    found = np.searchsorted(keys, keyed(account, day), "right") - 1
    if not len(keys):
        return np.zeros(len(account), np.int64)
    known = (found >= 0) & (stages.account[found] == account)
    stage: Integers = np.where(known, stages.stage[found], 0)
    return stage
