"""The notifier in a storm: flapping flags, a Slack that limits, fails and hangs, greylisted mail,
two replicas, each killed with -9 again and again. Nobody is forgotten, hardly anybody told twice.

Where nothing fails the messages are exactly those of a plain model (`notifier_load`). In the storm
a message may come twice where its sender died, or lost the answer, between "accepted" and
"recorded": once for each such moment, and the queue has counted it as ambiguous.

How much: a test run takes 200 flags and 4 kills; `make faults` 1,000 flags and 10.
"""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import pytest

from tests.databases import DatabaseServer
from tests.faults.notifier_load import LEAD, Load, Plot, Story
from tests.faults.notifier_site import (
    LEASE_SECONDS,
    PACE_SECONDS,
    RANDOM,
    Delivery,
    Killer,
    Site,
    notifier_site,
    start_both,
    storm,
)
from tests.faults.notifier_weather import Arrived

_STORM = {
    "PERENNIAL_DELIVERY_TIMEOUT_SECONDS": "4",
    "PERENNIAL_DELIVERY_LEASE_SECONDS": str(LEASE_SECONDS),
    # So that flapping is told of, and not over before anybody hears of it.
    "PERENNIAL_GROUP_WAIT_SECONDS": "0.5",
    "PERENNIAL_GROUP_INTERVAL_SECONDS": "0.5",
    "PERENNIAL_UPDATE_DEBOUNCE_SECONDS": "0.2",
}
# What was claimed before the pause was recorded may still come.
_GRACE_SECONDS = 1.5
_BEGINNINGS = frozenset({"first", "new_reason", "severity_raised"})

Told: TypeAlias = dict[tuple[str, str], list[str]]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@pytest.mark.parametrize(
    "owners",
    [pytest.param(10, id="200 flags"), pytest.param(50, id="1000", marks=pytest.mark.long)],
)
async def test_without_faults_exactly_what_is_to_be_told_is_told(
    database_server: DatabaseServer, tmp_path: Path, owners: int
) -> None:
    async with notifier_site(database_server, tmp_path, owners=owners, seed=1) as site:
        await start_both(site)
        await site.announce_accounts()
        for act in range(3):
            await site.publish(site.load.act(act))
            await site.settled(seconds=240)
        rows, arrived = await site.deliveries(), site.arrived()
        assert not _differences(_told(arrived), _to_be_told(site.load))
        assert not _differences(_edited(site), _to_be_edited(site.load))
        _check_quiet_hours(site.load, rows, arrived)
        assert len({(one.destination, one.id) for one in arrived}) == len(arrived)
        assert not [one for one in rows if one.state in ("dead", "held") or one.ambiguous]
        _check_threads(site.slack.arrived)
        _check_pace(site.slack.arrived)
        assert not await site.miscounted()
    sys.stderr.write(f"\n{len(arrived)} messages, {len(site.slack.edits)} edits: as in the model\n")


@pytest.mark.parametrize(
    ("owners", "kills", "senders", "limits"),
    [
        pytest.param(10, 4, 4, [3.0], id="200 flags, 4 kills"),
        # One sender each: a kill catches one message at most.
        pytest.param(50, 10, 1, [6.0, 2.0, 3.0], id="1000, 10", marks=pytest.mark.long),
    ],
)
async def test_in_a_storm_all_is_told_in_order_and_hardly_anything_twice(
    database_server: DatabaseServer,
    tmp_path: Path,
    owners: int,
    kills: int,
    senders: int,
    limits: list[float],
) -> None:
    choose = random.Random(owners)
    environment = _STORM | {"PERENNIAL_DELIVERY_SENDERS": str(senders)}
    async with notifier_site(
        database_server, tmp_path, owners=owners, seed=2, **environment
    ) as site:
        site.slack.weather.limits = limits
        site.slack.weather.share = (0.05, 0.03, 0.01)
        site.slack.weather.hang_seconds = 5.0
        site.mail.greylists, site.mail.share_later, site.mail.share_cut = True, 0.03, 0.02
        killer = await storm(site, _ways(kills, choose), choose=choose)
        await site.settled(seconds=240)
        rows, arrived = await site.deliveries(), site.arrived()
        assert len(killer.kills) == kills
        extras = _extras(rows, arrived)
        _report(site, killer, rows, extras)
        _check_nobody_is_forgotten(site.load, arrived)
        _check_order(rows, arrived)
        _check_quiet_hours(site.load, rows, arrived)
        _check_extras(site, killer, rows, arrived, extras, senders=senders)
        _check_limits(site, killer)
        assert not [one for one in rows if one.state in ("dead", "held")]
        assert not await site.miscounted()


def _ways(kills: int, choose: random.Random) -> list[str]:
    """After each step of a send, after a lost lease, and at any moment: each in turn."""
    places = ("notifier.after_accept", "notifier.after_claim", "notifier.after_record")
    named = [f"{place}:kill9:nth={choose.randint(5, 25)}" for place in places]
    late = f"notifier.after_accept:freeze:nth={choose.randint(5, 15)}"
    return [(*named, late, RANDOM)[number % 5] for number in range(kills)]


def _to_be_told(load: Load) -> Told:
    """Of each destination and account the messages' reasons, in their order."""
    found: Told = {}
    for plot in load.plots:
        if plot.told:
            found |= {(place, plot.account): list(plot.told) for place in plot.owner.destinations}
        if plot.is_urgent:
            found[f"email:{LEAD}", plot.account] = ["escalated"]
    return found


def _told(arrived: Sequence[Arrived]) -> Told:
    found: Told = defaultdict(list)
    for one in arrived:
        found[one.destination, one.account].append(one.why)
    return dict(found)


def _differences(found: Mapping[K, V], wanted: Mapping[K, V]) -> list[tuple[K, V | None, V | None]]:
    """A few; pytest would compare all of it, for minutes."""
    wrong = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
    return [(key, found.get(key), wanted.get(key)) for key in wrong[:20]]


def _to_be_edited(load: Load) -> Counter[str]:
    return +Counter({plot.account: plot.edits for plot in load.plots})


def _edited(site: Site) -> Counter[str]:
    return Counter(one["text"].partition(":")[0] for one in site.slack.edits)


def _check_quiet_hours(load: Load, rows: Sequence[Delivery], arrived: Sequence[Arrived]) -> None:
    """What people away would have been told is stored with its reason, and waits for the bundle."""
    quiet = [plot for plot in load.plots if not plot.is_told]
    places = {place for plot in quiet for place in plot.owner.destinations}
    assert not {one.account for one in arrived} & {plot.account for plot in quiet}
    held = {(one.account, one.destination) for one in rows if one.suppressed == "quiet_hours"}
    wanted = {
        (plot.account, place)
        for plot in quiet
        for place in plot.owner.destinations
        if plot.is_raised_at_end
    }
    assert not sorted(wanted - held)[:20]
    allowed = {(plot.account, place) for plot in quiet for place in plot.owner.destinations}
    assert not sorted(held - allowed)[:20]
    bundles = [one for one in rows if one.state == "pending"]
    assert Counter(one.destination for one in bundles) == Counter(places)
    assert all(one.kind == "summary" and one.waits_seconds > 3_600 for one in bundles)


def _check_threads(arrived: Sequence[Arrived]) -> None:
    """Each answer stands below the message that its account's episode began with."""
    parents: dict[tuple[str, str], str] = {}
    for one in arrived:
        if one.why == "first":
            assert one.thread is None, one
            parents[one.destination, one.account] = one.id
        else:
            assert one.thread == parents[one.destination, one.account], one


def _check_pace(arrived: Sequence[Arrived]) -> None:
    last: dict[str, float] = {}
    for one in arrived:
        assert one.at - last.get(one.destination, -1.0) >= PACE_SECONDS, one
        last[one.destination] = one.at


def _recorded(rows: Sequence[Delivery], arrived: Sequence[Arrived]) -> list[Arrived]:
    """What the queue knows of: what came once more is left out."""
    known = {one.provider_id for one in rows if one.destination.startswith("slack:")}
    doubted = {(one.destination, one.account) for one in rows if _is_doubted_end(one)}
    # A beginning of which nobody knows whether it arrived, and which then was no longer wanted.
    withdrawn = {
        one.id
        for one in rows
        if one.reason != "recovered" and one.state == "cancelled" and one.ambiguous
    }
    letters: set[str] = set()
    found = []
    for one in arrived:
        key = (one.destination, one.account)
        if one.destination.startswith("email:"):
            is_known = one.id not in letters and _delivery_of(one) not in withdrawn
            letters.add(one.id)
        else:
            is_known = one.id in known or (one.why == "recovered" and key in doubted)
            doubted -= {key} if one.why == "recovered" and one.id not in known else set()
        if is_known:
            found.append(one)
    return found


def _is_doubted_end(row: Delivery) -> bool:
    """Nobody knows whether it was told; and then it was no end."""
    return row.reason == "recovered" and row.state == "cancelled" and row.ambiguous > 0


def _extras(rows: Sequence[Delivery], arrived: Sequence[Arrived]) -> list[Arrived]:
    kept = {(one.destination, one.id, one.at) for one in _recorded(rows, arrived)}
    return [one for one in arrived if (one.destination, one.id, one.at) not in kept]


def _check_nobody_is_forgotten(load: Load, arrived: Sequence[Arrived]) -> None:
    """Whoever has what is raised at the end has heard so last, and of all of it."""
    last, said = {}, defaultdict(list)
    for one in arrived:
        last[one.destination, one.account] = one
        said[one.destination, one.account].append(one.said)
    forgotten = []
    for plot in load.plots:
        if not plot.is_told or not plot.is_raised_at_end:
            continue
        forgotten += [
            (plot, key)
            for key in ((place, plot.account) for place in plot.owner.destinations)
            if key not in last or not _says_all(plot, last[key], said[key])
        ]
        if plot.is_urgent and (f"email:{LEAD}", plot.account) not in last:
            forgotten.append((plot, (LEAD, plot.account)))
    assert not forgotten[:5]


def _delivery_of(letter: Arrived) -> str:
    """Its Message-ID is made of it."""
    return letter.id.strip("<>").partition("@")[0]


def _says_all(plot: Plot, last: Arrived, said: Sequence[str]) -> bool:
    if last.why not in _BEGINNINGS:
        return False
    match plot.story:
        case Story.WORSE:
            return "Critical" in last.said
        case Story.ANOTHER:
            return any("drop" in one.lower() for one in said)
    return True


def _check_order(rows: Sequence[Delivery], arrived: Sequence[Arrived]) -> None:
    """First before what follows, an end only after a beginning, and each answer in its thread."""
    recorded = _recorded(rows, arrived)
    doubted = Counter((one.destination, one.account) for one in rows if _is_doubted_end(one))
    for key, whys in _told(recorded).items():
        is_told = False
        for why in whys:
            # Above: a second copy of the first may come after it; here each stands once.
            is_beginning = why in ("first", "escalated")
            if is_told and is_beginning and doubted[key]:
                # The end got lost instead of its answer: it is begun anew for whoever did hear it.
                doubted[key] -= 1
                continue
            assert is_told != is_beginning, _story(key, rows, arrived)
            is_told = why != "recovered"
    for key, whys in _told(arrived).items():
        assert whys[0] in ("first", "escalated"), (key, whys)
    _check_threads([one for one in recorded if one.destination.startswith("slack:")])


def _story(key: tuple[str, str], rows: Sequence[Delivery], arrived: Sequence[Arrived]) -> str:
    """What the queue and the stand-in know of one destination and account, a line each."""
    stored = [
        f"{one.reason} {one.state} {one.suppressed} ambiguous={one.ambiguous} {one.provider_id}"
        for one in rows
        if (one.destination, one.account) == key
    ]
    came = [f"{one.at:.1f} {one.why} {one.id}" for one in arrived if _key(one) == key]
    return "\n".join([str(key), *stored, *came])


def _key(one: Arrived) -> tuple[str, str]:
    return one.destination, one.account


def _check_extras(
    site: Site,
    killer: Killer,
    rows: Sequence[Delivery],
    arrived: Sequence[Arrived],
    extras: Sequence[Arrived],
    *,
    senders: int,
) -> None:
    """One more for each time that an answer, or its record, was lost: the queue has counted it."""
    doubtful: Counter[tuple[str, str]] = Counter()
    for row in rows:
        doubtful[row.destination, row.account] += row.ambiguous
    more = Counter((one.destination, one.account) for one in extras)
    assert more <= doubtful, more - doubtful
    # Where the conversation goes on is where whoever had it in hand last has begun it.
    known = {one.id for one in _recorded(rows, arrived)}
    last = {(one.destination, one.account): one for one in site.slack.arrived}
    raised = (one for one in last.values() if site.load.by_account[one.account].is_raised_at_end)
    # But for a request that was frozen on its way: it arrives when its lease is long over.
    late = [
        one
        for one in raised
        if one.id not in known
        and not any(0 <= one.at - at < _GRACE_SECONDS for at in killer.thawed)
    ]
    assert not late[:5]
    assert len(extras) <= site.answers_lost() + len(killer.kills) * senders


def _check_limits(site: Site, killer: Killer) -> None:
    """Nothing before its Retry-After, unless who was asked to wait died before it could say so."""
    early = []
    for limit in site.slack.limited:
        if any(0 <= at - limit.at < _GRACE_SECONDS for at, _ in killer.kills):
            continue
        early += [
            (limit, at)
            for at in site.slack.asked_at
            if limit.at + _GRACE_SECONDS < at < limit.until
        ]
    assert site.slack.limited
    assert not early[:5]


def _report(
    site: Site, killer: Killer, rows: Sequence[Delivery], extras: Sequence[Arrived]
) -> None:
    """For `make faults`: the figures."""
    slack, weather, mail = site.slack, site.slack.weather, site.mail
    ways = Counter(way.partition(":")[0] for _, way in killer.kills)
    sys.stderr.write(
        f"\n{site.published} flags; {dict(ways)};"
        f" Slack: {weather.asked} requests, {len(slack.limited)} times 429, {weather.failed}"
        f" failed, {weather.taken_unsaid} of them taken; {len(slack.arrived)} messages,"
        f" {len(slack.edits)} edits; mail: {len(mail.taken)}, {mail.cut} cut after it;"
        f" {sum(one.ambiguous for one in rows)} ambiguous, {site.answers_lost()} of them by a lost"
        f" answer; {len(extras)} came twice\n"
    )
