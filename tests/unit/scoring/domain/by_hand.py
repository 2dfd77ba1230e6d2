"""Every indicator of one account from its definition, with sets and loops: slow and plain.

Nothing here shares code with `services.scoring.domain`, but for the values that go in
and the codes of names (of two main sources the lower code counts).
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import floor, inf, isnan, nan, sqrt

from services.scoring.domain.usage import History, Signal, SignalKind, code_of
from shared.messages import AccountFields

DAY = timedelta(days=1)
WINDOWS = (7, 28, 90, 180, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageDays:
    """Days (ordinals) per source, and those of all sources."""

    by_source: Mapping[str, Collection[int]]
    everywhere: Collection[int]


NONE = OutageDays(by_source={}, everywhere=())


def indicators_by_hand(
    history: History,
    fields: AccountFields,
    now: datetime,
    *,
    cohort_ratio: float = 1.0,
    outages: OutageDays = NONE,
) -> dict[str, float]:
    """The account's row by column; NaN is "not known"."""
    a = now.astimezone(UTC).toordinal() - 1
    known = {day: index for index, day in enumerate(history.days)}
    window = {
        w: [index for day, index in known.items() if a - w < day <= a] for w in (*WINDOWS, 400)
    }
    came = [day for day in known if day <= a + 1]
    firsts = [day for day in (history.first_deleted, min(came, default=None)) if day is not None]
    lasts = [day for day in (history.last_deleted, max(came, default=None)) if day is not None]
    first, last = min(firsts, default=None), max(lasts, default=None)
    signed = fields.contract_start.toordinal() if fields.contract_start else None
    begin = min((day for day in (first, signed) if day is not None), default=None)
    tenure = nan if begin is None else max(a - begin, 0)
    row: dict[str, float] = {
        "tenure_days": tenure,
        "recency_days": nan if last is None else recency(history, last, a, outages),
        "active_days_ever": sum(day <= a for day in known) + history.deleted_days,
    }
    for w in WINDOWS:
        row[f"events_{w}"] = sum(history.events[index] for index in window[w])
        row[f"active_days_{w}"] = len(window[w])
        spent = sum(history.milliseconds[index] for index in window[w]) / 1000
        timed = any(history.milliseconds[index] for index in window[90])
        row[f"seconds_{w}"] = spent if timed else nan
        features = {name for index in window[w] for name in history.features[index]}
        ever = any(history.features[index] for index in window[400])
        row[f"breadth_{w}"] = len(features) if ever else nan
    row |= users(history, window, a)
    visits = sum(len(history.users[index]) for index in window[28])
    row["seconds_per_user_day"] = row["seconds_28"] / visits if visits else nan
    row |= share(row, fields.seats)
    row |= rhythm(sorted(history.days[index] for index in window[400]), tenure)
    row |= trend(history, known, a, first, cohort_ratio)
    row["active_days_first_14"] = nan
    if begin is not None and begin > a - 400:
        row["active_days_first_14"] = sum(begin <= day < begin + 14 and day <= a for day in known)
    row["active_days_14"] = sum(a - 14 < day <= a for day in known)
    row["short_history"] = not tenure >= 180
    row["state"] = state(row)
    end, start = fields.contract_end, fields.contract_start
    row["contract_days"] = (end - start).days if end and start else nan
    row["days_to_renewal"] = renewal(fields, date.fromordinal(a))
    counted = [one for one in history.signals if one.at <= now and now - one.at < 400 * DAY]
    row |= cancellation(counted, now, a) | payments(counted, now)
    row |= tickets(counted, now, row["active_users_28"]) | feedback(counted, now)
    row["milestones"] = len({s.subject for s in counted if s.kind == SignalKind.MILESTONE})
    return row


def recency(history: History, last: int, a: int, outages: OutageDays) -> int:
    days: Counter[str] = Counter()
    for day, sources in zip(history.days, history.sources, strict=False):
        if last - 28 < day <= last and day > a - 400:
            days.update(sources)
    unheard = set(outages.everywhere)
    if days:
        most = max(days.values())
        main = min((name for name in days if days[name] == most), key=code_of)
        unheard |= set(outages.by_source.get(main, ()))
    return sum(day not in unheard for day in range(last + 1, a + 1))


def users(history: History, window: dict[int, list[int]], a: int) -> dict[str, float]:
    named = any(history.users[index] for index in window[400])
    row: dict[str, float] = {}
    for w in WINDOWS:
        distinct = {user for index in window[w] for user in history.users[index]}
        row[f"active_users_{w}"] = len(distinct) if named else nan
    days_28 = Counter(user for index in window[28] for user in history.users[index])
    days_90 = Counter(user for index in window[90] for user in history.users[index])
    active = row["active_users_28"]
    row["stickiness"] = nan
    if named:
        row["stickiness"] = sum(days_28.values()) / (28 * active) if active else 0
    row["champion_share"] = nan
    if days_90:
        row["champion_share"] = max(days_90.values()) / sum(days_90.values())
    row["most_user_days_28"] = max(days_28.values(), default=0) if named else nan
    before: Counter[int] = Counter()
    for day, those in zip(history.days, history.users, strict=True):
        # A is the first day before midnight: days 29-118.
        if 29 <= a - day + 1 <= 118:
            before.update(those)
    total = sum(before.values())
    main = {user for user, count in before.items() if count >= total / 2 and count >= 10}
    is_team = main and row["active_users_365"] >= 3
    row["champion_gone"] = any(user not in days_28 for user in main) if is_team else nan
    return row


def share(row: dict[str, float], seats: int | None) -> dict[str, float]:
    active, year = row["active_users_28"], row["active_users_365"]
    of_known = active / year if year > 0 else nan
    if seats and not isnan(active):
        found, basis = min(active / seats, 1.5), 0.0
    else:
        found, basis = of_known, nan if isnan(of_known) else 1.0
    return {
        "share_of_known_users": of_known,
        "share_of_active_users": found,
        "share_basis": basis,
    }


def rhythm(days: list[int], tenure: float) -> dict[str, float]:
    days = days[-60:]
    gaps = sorted(later - day for day, later in pairwise(days))
    if not gaps:
        return {"mean_gap_days": tenure, "p95_gap_days": tenure}
    rank = 0.95 * (len(gaps) - 1)
    low, high = gaps[floor(rank)], gaps[min(floor(rank) + 1, len(gaps) - 1)]
    return {
        "mean_gap_days": sum(gaps) / len(gaps),
        "p95_gap_days": low + (rank - floor(rank)) * (high - low),
    }


def trend(
    history: History, known: dict[int, int], a: int, first: int | None, cohort_ratio: float
) -> dict[str, float]:
    missing = {"trend": nan, "trend_z": nan, "base_events_per_week": nan}
    if first is None:
        return missing
    weeks = [
        sum(
            history.events[known[day]]
            for day in range(a - 7 * w + 1, a - 7 * w + 8)
            if day in known
        )
        for w in range(1, 31)
        if first <= a - 7 * w + 1  # Whole weeks that the account has lived.
    ]
    base = weeks[4:]
    if len(base) < 12 or sum(base) / len(base) < 5:
        return missing
    now, usual = sum(weeks[:4]) / 4, sum(base) / len(base)
    expected = usual * cohort_ratio
    return {
        "trend": now / expected,
        "trend_z": (sqrt(now) - sqrt(expected)) / 0.5,
        "base_events_per_week": usual,
    }


def state(row: dict[str, float]) -> float:
    if isnan(row["recency_days"]) or row["tenure_days"] < 28 or row["active_days_ever"] < 3:
        return 0
    return 2 if row["recency_days"] >= 90 else 1


def renewal(fields: AccountFields, a: date) -> float:
    end, start = fields.contract_end, fields.contract_start
    if fields.billing_period != "month":
        return (end - a).days if end else nan
    if end and end >= a:
        return (end - a).days
    anchor = end or start
    if anchor is None or anchor > a:
        return nan
    # Day by day: the next one that is the anchor's day of the month, or the last of a short month.
    day = a
    while True:
        ends_month = (day + DAY).month != day.month
        if day.day == anchor.day or (ends_month and day.day < anchor.day):
            return (day - a).days
        day += DAY


def age(at: datetime, now: datetime) -> int:
    return (now - at) // DAY


def of(signals: list[Signal], *kinds: SignalKind) -> list[Signal]:
    """In order of time; of equal moments in the order of `kinds`: what ends a thing comes last."""
    return sorted(
        (s for s in signals if s.kind in kinds), key=lambda s: (s.at, kinds.index(s.kind))
    )


def cancellation(signals: list[Signal], now: datetime, a: int) -> dict[str, float]:
    requested: list[Signal] = []
    for one in of(signals, SignalKind.CANCELLATION_REQUESTED, SignalKind.CANCELLATION_WITHDRAWN):
        if one.kind == SignalKind.CANCELLATION_WITHDRAWN:
            requested = []
        elif requested and requested[-1].at == one.at:
            requested.append(one)
        else:
            requested = [one]
    if not requested:
        return {"cancellation_age_days": nan, "cancellation_effective_days": nan}
    stated = [one.value for one in requested if not isnan(one.value)]
    return {
        "cancellation_age_days": age(requested[0].at, now),
        "cancellation_effective_days": max(stated) - a if stated else nan,
    }


def payments(signals: list[Signal], now: datetime) -> dict[str, float]:
    failed: Signal | None = None
    paid_since, recent = False, 0
    both = of(signals, SignalKind.PAYMENT_FAILED, SignalKind.PAYMENT_SUCCEEDED)
    for one in both:
        if one.kind == SignalKind.PAYMENT_FAILED:
            failed, paid_since = one, False
            recent += now - one.at < 14 * DAY
        else:
            paid_since = True
    return {
        "payments_failed_14": recent if both else nan,
        "payment_failed_age_days": age(failed.at, now) if failed else nan,
        "payment_succeeded_since": paid_since if failed else nan,
    }


def tickets(signals: list[Signal], now: datetime, active_users: float) -> dict[str, float]:
    both = of(signals, SignalKind.TICKET_OPENED, SignalKind.TICKET_CLOSED)
    if not both:
        names = ("28", "180", "open", "28_per_10_users")
        missing = {f"tickets_{name}": nan for name in names}
        return missing | {"ticket_severe_age_days": nan}
    opened: list[datetime] = []
    open_since: dict[int, datetime] = {}
    seen: set[int] = set()
    severity: dict[int, tuple[datetime, float]] = {}
    for one in both:
        if one.kind == SignalKind.TICKET_CLOSED:
            open_since.pop(one.subject, None)
            continue
        if one.subject == 0 or one.subject not in seen:
            opened.append(one.at)
        if one.subject == 0:  # Nothing names it, so nothing can close it: never told as open.
            continue
        seen.add(one.subject)
        open_since.setdefault(one.subject, one.at)
        if not isnan(one.value):
            severity[one.subject] = max(
                severity.get(one.subject, (one.at, -inf)), (one.at, one.value)
            )
    severe = [age(at, now) for t, at in open_since.items() if severity.get(t, (at, 0))[1] >= 3]
    month = sum(now - at < 28 * DAY for at in opened)
    return {
        "tickets_28": month,
        "tickets_180": sum(now - at < 180 * DAY for at in opened),
        "tickets_open": len(open_since),
        "ticket_severe_age_days": max(severe, default=nan),
        "tickets_28_per_10_users": 10 * month / active_users if active_users > 0 else nan,
    }


def feedback(signals: list[Signal], now: datetime) -> dict[str, float]:
    row: dict[str, float] = {}
    unhappy: set[int] = set()
    answered = False
    for name, kind, low in (
        ("nps", SignalKind.FEEDBACK_NPS, 6),
        ("csat", SignalKind.FEEDBACK_CSAT, 2),
        ("ces", SignalKind.FEEDBACK_CES, 3),
    ):
        newest: dict[int, Signal] = {}
        for one in of(signals, kind):
            if isnan(one.value):
                continue
            answered = True
            before = newest.get(one.user)
            if before is None or before.at < one.at or one.value < before.value:
                newest[one.user] = one
        scores = [one.value for one in newest.values() if now - one.at < 180 * DAY]
        row[f"{name}_mean"] = sum(scores) / len(scores) if scores else nan
        row[f"{name}_answers"] = len(scores) if scores else nan
        unhappy |= {
            user for user, one in newest.items() if one.value <= low and now - one.at < 90 * DAY
        }
    row["unhappy_users"] = len(unhappy) if answered else nan
    return row
