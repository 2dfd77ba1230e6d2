"""What people do in the console: each form takes its step once, or says why it was not taken."""

import asyncio
import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from sqlalchemy import func, select, update

from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import interventions, sentiments, tasks, timeline
from shared.messages import AccountFields, AccountRecord, FlagReason
from tests.integration.notifier.console_rig import FakeScoring
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, flag

HOSTILE = '<!channel> & "x"\r\n<script>alert(1)</script>'
ORIGIN = {"Origin": "http://localhost"}
DAY = timedelta(days=1)


async def open_one(rig: Rig) -> str:
    await rig.take(account())
    await rig.take(flag())
    return str((await only(rig)).id)


async def only(rig: Rig) -> AnyRow:
    (row,) = await rig.interventions()
    return row


async def post(console: httpx.AsyncClient, one: str, step: str, **form: str) -> tuple[int, str]:
    answer = await console.post(f"/interventions/{one}/{step}", data=form, headers=ORIGIN)
    return answer.status_code, unescape(answer.text)


async def kinds(rig: Rig) -> list[str]:
    """The timeline, without who was told."""
    async with rig.engine.connect() as connection:
        found = await connection.scalars(select(timeline.c.kind).order_by(timeline.c.id))
    return [kind for kind in found if kind not in ("notified", "suppressed")]


async def page_of(console: httpx.AsyncClient, account_id: str = "acme") -> str:
    return unescape((await console.get(f"/accounts/{quote(account_id, safe='')}")).text)


async def test_an_intervention_is_snoozed_woken_handed_over_closed_and_corrected(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    one = await open_one(rig)

    # Monday 1 June, noon UTC: in three days is Thursday, when Anna's day in Paris begins.
    step = {"version": "1", "put": "3d", "reason": "On holiday"}
    assert (await post(console, one, "snooze", **step))[0] == 303
    page = await page_of(console)
    assert "Snoozed until <strong>Thu 4 Jun, 09:00</strong> by console: On holiday" in page
    assert "Snoozed until 4 Jun 2026, 07:00 UTC: On holiday" in page

    assert (await post(console, one, "wake", version="2"))[0] == 303
    step = {"version": "3", "put": "1d", "day": "2026-06-10", "reason": "Longer"}
    assert (await post(console, one, "snooze", **step))[0] == 303
    assert (await only(rig)).snoozed_until.isoformat() == "2026-06-10T07:00:00+00:00"

    assert (await post(console, one, "reassign", version="4", owner=FALLBACK.upper()))[0] == 303
    assert f"Owner changed from {OWNER} to {FALLBACK}" in await page_of(console)

    step = {"version": "5", "outcome": "saved", "note": ""}
    assert (await post(console, one, "close", **step))[0] == 303
    page = await page_of(console)
    assert "No open interventions for this account" in page
    step = {"version": "6", "outcome": "churned", "note": "They left <b>after all</b>"}
    assert (await post(console, one, "correct", **step))[0] == 303
    assert "Outcome corrected: churned" in await page_of(console)
    assert "<b>" not in (await console.get("/accounts/acme")).text
    row = await only(rig)
    assert (row.outcome, row.revision, row.version) == ("churned", 2, 7)
    done = ["snoozed", "woken", "snoozed", "owner_changed", "closed", "corrected"]
    assert await kinds(rig) == ["opened", *done]


REFUSED: dict[str, tuple[str, dict[str, str], int, str]] = {
    "snooze without a reason": ("snooze", {"put": "1d"}, 422, "A reason is needed"),
    "snooze without a time": ("snooze", {"reason": "x"}, 422, "Until when?"),
    "snooze until no time of ours": ("snooze", {"put": "1y", "reason": "x"}, 422, "Until when?"),
    "snooze until no day": ("snooze", {"day": "soon", "reason": "x"}, 422, "Until when?"),
    "snooze until the year 9999": (
        "snooze", {"day": "9999-12-31", "reason": "x"}, 422, "Until when?"
    ),
    "snooze until yesterday": (
        "snooze", {"day": "2026-05-31", "reason": "x"}, 422, "That is past"
    ),
    "snooze for too long": (
        "snooze", {"day": "2026-08-30", "reason": "x"}, 422, "A snooze ends within 60 days"
    ),
    "snooze until before an unknown notice": (
        "snooze", {"put": "notice", "reason": "x"}, 422, "the last day for notice"
    ),
    "snooze of an old page": (
        "snooze", {"version": "7", "put": "1d", "reason": "x"}, 409, "Somebody was faster"
    ),
    "wake what is awake": ("wake", {}, 409, "Not snoozed"),
    "give it to nobody": ("reassign", {"owner": " "}, 422, "An owner is needed"),
    "give it to a stranger": (
        "reassign", {"owner": "eve@evil.example"}, 422, "Nobody by that address"
    ),
    "give it to whoever has it": ("reassign", {"owner": OWNER}, 409, "So already"),
    "correct what is open": ("correct", {"outcome": "saved"}, 409, "Open again"),
    "correct to no outcome": ("correct", {"outcome": "won"}, 422, "An outcome is needed"),
    "a task that is not there": ("tasks/99", {"done": "true"}, 404, "Not there any more"),
    "a task that is not done": ("tasks/1", {"done": "false"}, 409, "So already"),
    "a task neither done nor not": ("tasks/1", {}, 422, "not complete"),
    "a task that is no number": ("tasks/one", {"done": "true"}, 422, "not complete"),
}  # fmt: skip


async def test_what_cannot_be_done_is_explained_and_changes_nothing(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    one = await open_one(rig)
    before = await only(rig)
    for name, (step, form, status, said) in REFUSED.items():
        answer = await post(console, one, step, **{"version": "1", **form})
        assert answer[0] == status, name
        assert said in answer[1], name
    assert await only(rig) == before


async def test_a_snooze_over_the_last_day_for_notice_is_refused(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(account(contract_end="2026-07-10", notice_days=30))  # By 10 June.
    await rig.take(flag())
    one = str((await only(rig)).id)
    step = {"version": "1", "day": "2026-06-10", "reason": "x"}
    status, text = await post(console, one, "snooze", **step)
    assert (status, "Too late to act then" in text) == (422, True)
    # Seven days before: Wednesday 3 June.
    assert "Until 7 days before renewal notice (Wed 3 Jun, 09:00)" in await page_of(console)
    assert (await post(console, one, "snooze", version="1", put="notice", reason="x"))[0] == 303


async def test_tasks_are_ticked_and_unticked(rig: Rig, console: httpx.AsyncClient) -> None:
    one = await open_one(rig)
    async with rig.engine.connect() as connection:
        rows = (await connection.execute(select(tasks).order_by(tasks.c.number))).all()
    page = await page_of(console)
    for row in rows:
        assert f'aria-label="Done: {row.title}"' in page
    assert f"0 of {len(rows)} done" in page

    assert (await post(console, one, "tasks/1", done="true"))[0] == 303
    page = await page_of(console)
    assert f"1 of {len(rows)} done" in page
    assert f'aria-label="Not done after all: {rows[0].title}"' in page
    assert "acknowledged by console" in page  # Whoever does a task has taken it on.
    assert (await post(console, one, "tasks/1", done="false"))[0] == 303
    assert await kinds(rig) == ["opened", "acknowledged", "task_done", "task_undone"]


async def test_a_form_that_is_sent_twice_is_one_step(rig: Rig, console: httpx.AsyncClient) -> None:
    one = await open_one(rig)
    page = (await console.get("/accounts/acme")).text
    (key,) = set(
        re.findall(r'/acknowledge"><input[^>]+><input type="hidden" name="key" value="(.+?)"', page)
    )
    form = {"version": "1", "key": key}
    answers = await asyncio.gather(*(post(console, one, "acknowledge", **form) for _ in range(3)))
    assert [status for status, _ in answers] == [303, 303, 303]
    assert await kinds(rig) == ["opened", "acknowledged"]
    # The same form with something else in it is another step, of a page that is old by now.
    assert (await post(console, one, "acknowledge", **form, note="x"))[0] == 409
    assert (await post(console, one, "wake", **form))[0] == 409
    assert (await post(console, one, "acknowledge", version="1", key="no uuid"))[0] == 409


async def test_a_sentiment_stands_beside_the_risk(rig: Rig, console: httpx.AsyncClient) -> None:
    ids = ["acme", "a/b", "..", "a\nb"]
    for account_id in ids:
        fields = AccountFields(name=f"Name of {account_id!r}")
        await rig.take(AccountRecord(account=account_id, updated_at=NOW, fields=fields))
        url = f"/accounts/?id={quote(account_id, safe='')}"
        page = (await console.get(url)).text
        (target,) = re.findall(r'action="(/sentiments[^"]*)"', page)
        form = {"mood": "bad", "note": "New CTO", "until": "2026-06-30"}
        answer = await console.post(unescape(target), data=form, headers=ORIGIN)
        assert answer.status_code == 303, account_id
        assert "until 1 Jul 2026, console" in (await console.get(url)).text
    async with rig.engine.connect() as connection:
        said = list(await connection.scalars(select(sentiments.c.account_id)))
    assert sorted(said) == sorted(ids)
    page = await page_of(console)
    assert "42 %" in page  # The risk stays what it is.
    assert "Bad sentiment" in page  # And it is work.


UNSAID: dict[str, tuple[str, dict[str, str], int, str]] = {
    "bad without a note": ("acme", {"mood": "bad"}, 422, "A note is needed"),
    "no mood": ("acme", {}, 422, "How is it"),
    "none of ours": ("acme", {"mood": "furious"}, 422, "How is it"),
    "no end": ("acme", {"mood": "good", "until": ""}, 422, "How is it"),
    "an end that is past": ("acme", {"mood": "good", "until": "2026-05-30"}, 422, "That is past"),
    "for years": ("acme", {"mood": "good", "until": "2028-01-01"}, 422, "within a year"),
    "an account that is not known": ("nobody", {"mood": "good"}, 404, "Not there any more"),
    "a name with a zero byte": ("a\0b", {"mood": "good"}, 404, "Not there any more"),
}


async def test_a_sentiment_that_cannot_be_taken_is_explained(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(account())
    for name, (account_id, form, status, said) in UNSAID.items():
        answer = await console.post(
            "/sentiments",
            params={"account": account_id},
            data={"until": "2026-06-30", **form},
            headers=ORIGIN,
        )
        assert (answer.status_code, said in unescape(answer.text)) == (status, True), name
    async with rig.engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(sentiments)) == 0


async def test_reading_changes_nothing(rig: Rig, console: httpx.AsyncClient) -> None:
    one = await open_one(rig)
    before = await only(rig)
    steps = ("acknowledge", "close", "correct", "snooze", "wake", "reassign", "tasks/1")
    paths = [f"/interventions/{one}/{step}" for step in steps]
    form = {"version": "1", "outcome": "saved", "put": "1d", "reason": "x", "done": "true"}
    for path in (*paths, "/sentiments", f"/silences/{uuid4()}/expire"):
        answer = await console.get(path, params={**form, "account": "acme"})
        assert answer.status_code == 405, path
    for path in ("/", "/accounts/acme", "/silences", "/feedback", "/people", "/playbooks"):
        await console.get(path, params=form)
    assert await only(rig) == before
    assert await kinds(rig) == ["opened"]


async def test_another_site_takes_no_step(rig: Rig, console: httpx.AsyncClient) -> None:
    one = await open_one(rig)
    evil = {"Origin": "http://evil.example"}
    forms: dict[str, dict[str, Any]] = {
        f"/interventions/{one}/snooze": {"version": "1", "put": "1d", "reason": "x"},
        "/sentiments?account=acme": {"mood": "good", "until": "2026-06-30"},
        "/silences": {"reason": "seats_idle", "ends": "2026-06-30T00:00", "comment": "x"},
        f"/people/{OWNER}": {"mode": "never"},
    }
    for path, form in forms.items():
        assert (await console.post(path, data=form, headers=evil)).status_code == 403, path


async def test_what_is_recovered_proposes_how_it_ended(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    one = await open_one(rig)
    await post(console, one, "acknowledge", version="1")
    await rig.take(flag(change="cleared", as_of=NOW + timedelta(hours=1)))
    page = await page_of(console)
    assert "Proposed: close it as saved" in page
    assert '<option value="saved" selected>Saved</option>' in page
    # 1.5 (at risk) x 12,340.5 x (1 + 2 x (1 - 92 / 180)) = 36,610.15
    assert "Priority 36,610 = 1.5 (severity) × 12,340 EUR × 1.98 (92 days left)" in page


async def test_what_people_write_is_inert(
    rig: Rig, scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    one = await open_one(rig)
    scoring.mood = "unknown"
    await post(console, one, "snooze", version="1", put="1d", reason=HOSTILE)
    form = {"mood": "bad", "note": HOSTILE, "until": "2026-06-30"}
    await console.post("/sentiments?account=acme", data=form, headers=ORIGIN)
    async with rig.engine.begin() as connection:
        await connection.execute(update(tasks).values(title=HOSTILE, done_by=HOSTILE))
        await connection.execute(update(interventions).values(acknowledged_by=HOSTILE))
    page = (await console.get("/accounts/acme")).text
    assert "<script>" not in page
    assert "<!channel" not in page
    # Of each task its title and its label, of the snooze, of the sentiment.
    assert page.count("&lt;script&gt;") >= 6


async def test_what_is_held_out_is_said_on_its_own_page(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(flag(reason=FlagReason.SEATS_IDLE))
    async with rig.engine.begin() as connection:
        await connection.execute(update(interventions).values(held_out=True))
    assert "Held out" in await page_of(console)
    front = (await console.get("/")).text
    assert "1 more is held out" in front
    assert 'href="/accounts/acme"' not in front
