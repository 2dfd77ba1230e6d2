"""Today and the board: what of the work is for now, whose it is, and handing it over."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from uuid import UUID

import httpx
from sqlalchemy import select, update

from services.notifier.domain.access import Role, Viewer
from services.notifier.tables import audit, interventions
from shared.messages import Band, ValueAtRisk
from tests.integration.notifier.console_rig import FakeScoring, signed_in
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, boss, flag

ORIGIN = {"Origin": "http://localhost"}
DAY = timedelta(days=1)
PILES = ("overdue", "due", "waking", "recovered", "new", "next")
BEN = "ben@vendor.example"


@asynccontextmanager
async def console_of(
    rig: Rig, scoring: FakeScoring, role: Role, address: str = OWNER
) -> AsyncIterator[httpx.AsyncClient]:
    viewer = Viewer(address=address, role=role, way="local")
    async with httpx.AsyncClient(timeout=1) as client:
        transport = httpx.ASGITransport(signed_in(rig, scoring, client, viewer))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
            yield opened


async def page_of(console: httpx.AsyncClient, path: str, **wanted: str) -> str:
    answer = await console.get(path, params=wanted or None)
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


def listed(page: str, section: str = "") -> list[str]:
    """The accounts of a list, or of the section with that heading."""
    if section:
        parts = re.findall(rf'<h2 id="{section}".*?</section>', page, re.DOTALL)
        page = parts[0] if parts else ""
    return re.findall(r'<th scope="row"><a href="/accounts/(\w+)#', page)


async def change(rig: Rig, account_id: str, **values: object) -> None:
    async with rig.engine.begin() as connection:
        statement = update(interventions).where(interventions.c.account_id == account_id)
        await connection.execute(statement.values(values))


async def six_accounts(rig: Rig) -> None:
    """One of each pile; NOW is 12:00 UTC, 14:00 in Paris, where Anna works."""
    for name in ("late", "due", "asleep", "well", "fresh", "old"):
        await rig.take(account(account_id=name))
        await rig.take(flag(account=name, flag_id=name))
    ids = {row.account_id: row.id for row in await rig.interventions()}
    long_ago = NOW - 10 * DAY
    await change(rig, "late", due_at=NOW - DAY, opened_at=long_ago)
    # 21:59 UTC is 23:59 in Paris: still today. 22:00 UTC is tomorrow there.
    await change(rig, "due", due_at=datetime(2026, 6, 1, 21, 59, tzinfo=UTC), opened_at=long_ago)
    await change(rig, "old", due_at=datetime(2026, 6, 1, 22, tzinfo=UTC), opened_at=long_ago)
    # Yesterday began on 30 May, 22:00 UTC.
    await change(rig, "fresh", opened_at=datetime(2026, 5, 30, 22, tzinfo=UTC))
    await change(rig, "well", recovered_at=NOW - DAY, opened_at=long_ago)
    until = NOW + timedelta(hours=2)
    await rig.steps.snooze(ids["asleep"], version=None, until=until, reason="x", by=boss("anna"))


async def test_today_sorts_work_into_what_it_asks_for(rig: Rig, scoring: FakeScoring) -> None:
    await six_accounts(rig)
    async with console_of(rig, scoring, Role.CSM) as console:
        page = await page_of(console, "/")
        assert {name: listed(page, name) for name in PILES} == {
            "overdue": ["late"], "due": ["due"], "waking": ["asleep"],
            "recovered": ["well"], "new": ["fresh"], "next": ["old"],
        }  # fmt: skip
        for name, accounts in (("due", ["due"]), ("waking", ["asleep"]), ("new", ["fresh"])):
            assert listed(await page_of(console, "/board", show=name)) == accounts
    assert re.search(r'<dt>Overdue</dt><dd><a href="#overdue">1</a></dd>', page)


async def test_who_acts_begins_with_their_own_work_and_who_leads_with_everybodys(
    rig: Rig, scoring: FakeScoring
) -> None:
    for name, owner in (("annas", OWNER), ("bens", BEN)):
        await rig.take(account(account_id=name, owner=owner))
        await rig.take(flag(account=name, flag_id=name))
    async with console_of(rig, scoring, Role.CSM) as console:
        assert listed(await page_of(console, "/")) == ["annas"]
        assert listed(await page_of(console, "/", owner=BEN)) == ["bens"]
        everybody = await page_of(console, "/", owner="everybody")
        assert set(listed(everybody)) == {"annas", "bens"}
        assert "Who has what" in everybody
    for role in (Role.MANAGER, Role.VIEWER):
        async with console_of(rig, scoring, role) as console:
            assert set(listed(await page_of(console, "/"))) == {"annas", "bens"}


async def test_tasks_that_are_due_are_named(rig: Rig, scoring: FakeScoring) -> None:
    await rig.take(account())
    await rig.take(flag())
    rig.hands.now = NOW + 30 * DAY
    async with console_of(rig, scoring, Role.CSM) as console:
        page = await page_of(console, "/")
        (row,) = await rig.interventions()
        title = row.playbook["tasks"][0]["title"]
        assert title in page.partition("Tasks due")[2]
        path = f"/interventions/{row.id}/tasks/1"
        answer = await console.post(path, data={"done": "true"}, headers=ORIGIN)
        assert answer.status_code == 303
        assert title not in (await page_of(console, "/")).partition("Tasks due")[2]


async def test_the_board_has_each_intervention_in_one_column(
    rig: Rig, scoring: FakeScoring
) -> None:
    for name in ("taken", "asleep", "late", "fresh", "nobodys"):
        await rig.take(account(account_id=name, owner=None if name == "nobodys" else OWNER))
        await rig.take(flag(account=name, flag_id=name))
    ids = {row.account_id: row.id for row in await rig.interventions()}
    await rig.steps.acknowledge(ids["taken"], version=None, by=boss("anna"))
    until = NOW + 3 * DAY
    await rig.steps.snooze(ids["asleep"], version=None, until=until, reason="x", by=boss("anna"))
    await change(rig, "late", due_at=NOW - DAY)
    # Overdue and asleep: it rests.
    await change(rig, "asleep", due_at=NOW - DAY)
    async with console_of(rig, scoring, Role.MANAGER) as console:
        page = await page_of(console, "/board")
        where = {
            name: re.findall(r'href="/accounts/(\w+)#', column)
            for name, column in re.findall(r'<h2 id="c-(\w+)"(.*?)</section>', page, re.DOTALL)
        }
        assert where == {
            "unassigned": ["nobodys"], "overdue": ["late"], "open": ["fresh"],
            "acknowledged": ["taken"], "snoozed": ["asleep"],
        }  # fmt: skip
        for name, accounts in where.items():
            assert listed(await page_of(console, "/board", show=name)) == accounts
        assert len(listed(await page_of(console, "/board", show="all"))) == 5
        rig.hands.now = until
        assert listed(await page_of(console, "/board", show="snoozed")) == []
        assert "None of these" not in await page_of(console, "/board", show="none of ours")


FILTERED: tuple[tuple[dict[str, str], set[str]], ...] = (
    ({"owner": FALLBACK}, {"b"}),
    ({"severity": "critical"}, {"b"}),
    ({"severity": "watch"}, set()),
    ({"reason": "churn_risk"}, {"a", "b"}),
    ({"reason": "seats_idle"}, set()),
    ({"type": "renew"}, {"a", "b"}),
    ({"type": "land"}, set()),
    ({"type": "weather", "severity": "weather"}, {"a", "b"}),
    ({"owner": "everybody"}, {"a", "b"}),
    ({"owner": OWNER, "severity": "critical"}, set()),
)


async def test_the_board_is_filtered(rig: Rig, scoring: FakeScoring) -> None:
    await rig.take(account(account_id="a"))
    await rig.take(flag(account="a", flag_id="a"), flag(account="b", band=Band.CRITICAL))
    async with console_of(rig, scoring, Role.CSM) as console:
        for wanted, found in FILTERED:
            page = await page_of(console, "/board", show="all", **wanted)
            assert set(listed(page)) == found, wanted


async def test_a_page_begins_after_the_last_line_of_the_one_before(
    rig: Rig, scoring: FakeScoring
) -> None:
    for number in range(6):
        value = ValueAtRisk(amount=Decimal(number // 2), currency="EUR", basis="mrr")
        await rig.take(flag(account=f"a{number}", flag_id=f"a{number}", value_at_risk=value))
    rows = {row.account_id: row for row in await rig.interventions()}
    async with console_of(rig, scoring, Role.CSM) as console:
        everything = listed(await page_of(console, "/board", show="all"))
        assert len(everything) == 6
        for number, name in enumerate(everything):
            place = {"priority": repr(rows[name].priority), "after": str(rows[name].id)}
            rest = await page_of(console, "/board", show="all", **place)
            assert listed(rest) == everything[number + 1 :]
        last = str(UUID(int=2**128 - 1))
        assert "No more" in await page_of(console, "/board", show="all", priority="0", after=last)
        assert (await console.get("/board?after=x")).status_code == 422


async def test_a_manager_hands_several_over_and_hears_which_were_not(
    rig: Rig, scoring: FakeScoring
) -> None:
    await rig.take(account(account_id="a"), account(account_id="b"), account(account_id="c"))
    for name in "abc":
        await rig.take(flag(account=name, flag_id=name))
    rows = {row.account_id: row for row in await rig.interventions()}
    items = [f"{row.id}:{row.version}" for row in rows.values()]
    await rig.steps.acknowledge(rows["b"].id, version=None, by=boss("anna"))
    form = {"owner": FALLBACK, "item": items}
    async with console_of(rig, scoring, Role.CSM) as console:
        refused = await console.post("/board/reassign", data=form, headers=ORIGIN)
        assert refused.status_code == 403
    async with console_of(rig, scoring, Role.MANAGER, "mia@vendor.example") as console:
        assert 'name="item"' in await page_of(console, "/board", show="all")
        answer = await console.post("/board/reassign", data=form, headers=ORIGIN)
        nothing = await console.post("/board/reassign", data={"owner": FALLBACK}, headers=ORIGIN)
    assert f"2 handed over to {FALLBACK}" in answer.text
    # Somebody acknowledged b after the page was made: its version has moved on.
    assert "1 was not" in answer.text
    assert nothing.status_code == 422
    owners = {row.account_id: row.owner for row in await rig.interventions()}
    assert owners == {"a": FALLBACK, "b": OWNER, "c": FALLBACK}
    async with rig.engine.connect() as connection:
        told = await connection.execute(
            select(audit.c.account_id, audit.c.role).where(audit.c.actor == "mia@vendor.example")
        )
        assert {tuple(one) for one in told} == {("a", "manager"), ("c", "manager")}


async def test_what_is_held_out_is_in_no_list(rig: Rig, scoring: FakeScoring) -> None:
    await rig.take(account())
    await rig.take(flag())
    await change(rig, "acme", held_out=True)
    async with console_of(rig, scoring, Role.MANAGER) as console:
        front = await page_of(console, "/")
        assert listed(front) == []
        assert "1 more is held out" in front
        assert "No open interventions" in await page_of(console, "/board")


async def test_an_owner_is_the_same_however_the_directory_writes_them(
    rig: Rig, scoring: FakeScoring
) -> None:
    for name, owner in (("one", "Cleo.Bell@Vendor.example"), ("two", "cleo.bell@vendor.example")):
        await rig.take(account(account_id=name, owner=owner))
        await rig.take(flag(account=name, flag_id=name))
    rig.hands.now = NOW + 30 * DAY
    # Users are kept in lower case.
    cleo = "cleo.bell@vendor.example"
    async with console_of(rig, scoring, Role.CSM, cleo) as console:
        today = await page_of(console, "/")
        assert set(listed(today)) == {"one", "two"}
        tasks = today.partition("Tasks due")[2]
        assert "/accounts/one#" in tasks
        assert "/accounts/two#" in tasks
        assert set(listed(await page_of(console, "/board", show="all", owner=cleo))) == {
            "one",
            "two",
        }
        (row, _) = await rig.interventions()
        path = f"/interventions/{row.id}/acknowledge"
        answer = await console.post(path, data={"version": "1"}, headers=ORIGIN)
        assert answer.status_code == 303
