"""The pages beside the account's: work, deliveries, silences, feedback, people, playbooks."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from services.notifier import queue
from services.notifier.composing import DeliveryKind, Planned
from services.notifier.console import words
from services.notifier.domain.playbooks import DEFAULT, Match, Playbook, Playbooks, TaskRule
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.tables import (
    accounts,
    agenda,
    channels,
    deliveries,
    destinations,
    draws,
    preferences,
    silences,
)
from shared.messages import Band, FlagReason, OutcomeKind, Stage
from tests.integration.notifier.console_rig import FakeScoring, console_app
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, boss, flag

HOSTILE = '<!channel> & "x"\r\n<script>alert(1)</script>'
ORIGIN = {"Origin": "http://localhost"}
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


async def text_of(console: httpx.AsyncClient, path: str) -> str:
    answer = await console.get(path)
    assert answer.status_code == 200, path
    return unescape(answer.text)


async def submit(console: httpx.AsyncClient, path: str, form: Mapping[str, Any]) -> tuple[int, str]:
    answer = await console.post(path, data=form, headers=ORIGIN)
    return answer.status_code, unescape(answer.text)


async def test_every_suppression_and_every_kind_is_in_words(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    async with rig.engine.begin() as connection:
        for number, against in enumerate(SuppressReason):
            kind = list(DeliveryKind)[number % len(DeliveryKind)]
            planned = Planned(
                kind=kind,
                dedupe_key=f"k{number}",
                group_key=f"g{number}",
                channel="email",
                destination=f"email:{OWNER}",
                recipient=OWNER,
                reason=NotifyReason.FIRST,
                due_at=NOW,
                account_id="acme" if kind is DeliveryKind.NOTICE else None,
            )
            assert await queue.suppress(connection, planned, against)
    page = await text_of(console, "/deliveries?show=suppressed")
    for against in SuppressReason:
        assert words.SUPPRESSED[against] in page, against
    for kind in DeliveryKind:
        assert f'data-label="Kind">{words.KINDS[kind]}</td>' in page, kind
    async with rig.engine.connect() as connection:
        first = await connection.scalar(select(deliveries.c.number).order_by(deliveries.c.number))
    assert first is not None
    rest = await text_of(console, f"/deliveries?before={first + 2}")
    assert len(re.findall(r"<tr>\n<th", rest)) == 2
    assert (await console.get(f"/deliveries?before={'9' * 30}")).status_code == 200


async def test_what_is_held_dead_broken_or_paused_is_shown_since_when(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(account())
    await rig.take(flag())
    shown = {"held": "Held", "dead": "Given up"}
    for state, said in shown.items():
        async with rig.engine.begin() as connection:
            failed = {"last_class": "ambiguous", "last_detail": "connection reset"}
            await connection.execute(update(deliveries).values(state=state, **failed))
        page = await text_of(console, f"/deliveries?show={state}")
        assert f">{said}</span>" in page
        assert "answer lost: connection reset" in page
    async with rig.engine.begin() as connection:
        since = {"broken_since": NOW, "failures": 3}
        await connection.execute(
            destinations.insert().values(
                destination=f"email:{OWNER}", channel="email", last_failure="550 gone", **since
            )
        )
        await connection.execute(
            channels.insert().values(
                channel="slack",
                paused_until=NOW + 3_650 * DAY,
                last_failure="invalid_auth",
                **since,
            )
        )
    page = await text_of(console, "/deliveries")
    assert f"email:{OWNER}</strong>\nrefuses messages since 1 Jun 2026, 12:00 UTC" in page
    assert f"perennial notify test email:{OWNER}" in page
    assert "<strong>Slack</strong>\nrefuses us since 1 Jun 2026, 12:00 UTC" in page
    front = await text_of(console, "/")
    assert "1 destination does not take messages at the moment. 1 whole channel is paused" in front


async def test_a_silence_is_added_listed_and_ended(rig: Rig, console: httpx.AsyncClient) -> None:
    await rig.take(account())
    await rig.take(flag())
    form = {"account": " acme ", "reason": "churn_risk", "comment": HOSTILE, "owner": ""}
    status, _ = await submit(console, "/silences", form | {"ends": "2026-06-08T12:00"})
    assert status == 303
    later = {"segment": "smb", "starts": "2026-06-02T00:00", "ends": "2026-06-03T00:00"}
    assert (await submit(console, "/silences", later | {"comment": "A move"}))[0] == 303
    raw = (await console.get("/silences")).text
    assert "<script>" not in raw
    active, coming = raw.index('<h2 id="active">'), raw.index('<h2 id="pending">')
    assert active < raw.index("Churn risk</th>") < coming < raw.index("A move")
    assert "8 Jun 2026, 12:00 UTC" in raw

    (first,) = re.findall(r'action="(/silences/[^"]+/expire)"', raw[active:coming])
    async with rig.engine.begin() as connection:
        await connection.execute(update(agenda).values(look_at=None))
    rig.hands.now += HOUR
    assert (await submit(console, first, {}))[0] == 303
    assert '<h2 id="active">' not in await text_of(console, "/silences")
    assert "Over already" in (await submit(console, first, {}))[1]
    async with rig.engine.connect() as connection:
        ended = await connection.scalar(
            select(silences.c.ends_at).where(silences.c.comment != "A move")
        )
        looked = await connection.scalar(select(agenda.c.look_at))
    assert (ended, looked) == (NOW + HOUR, NOW + HOUR)


UNSILENCED: dict[str, tuple[dict[str, str], str]] = {
    "everything": ({"reason": ""}, "That would silence everything"),
    "without a word": ({"comment": " "}, "A comment is needed"),
    "without an end": ({"ends": ""}, "until when?"),
    "until no time": ({"ends": "soon"}, "until when?"),
    "from no time": ({"starts": "soon"}, "until when?"),
    "what is past": (
        {"starts": "2026-05-01T00:00", "ends": "2026-05-02T00:00"}, "still to come"
    ),
    "backwards": ({"starts": "2026-06-20T00:00"}, "ends before it begins"),
    "for years": ({"ends": "2028-06-10T00:00"}, "within 180 days"),
    "no reason of ours": ({"reason": "weather"}, "No such type or reason"),
    "no type of ours": ({"type": "weather"}, "No such type or reason"),
}  # fmt: skip


async def test_a_silence_that_cannot_be_taken_is_explained(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    usual = {"reason": "seats_idle", "ends": "2026-06-10T00:00", "comment": "x"}
    for name, (form, said) in UNSILENCED.items():
        status, text = await submit(console, "/silences", usual | form)
        assert (status, said in text) == (422, True), name
    async with rig.engine.connect() as connection:
        assert (await connection.execute(select(silences.c.id))).all() == []


async def test_feedback_says_which_reasons_are_worth_having(
    rig: Rig, console: httpx.AsyncClient, api: httpx.AsyncClient
) -> None:
    outcomes = [OutcomeKind.SAVED, *[OutcomeKind.FALSE_ALARM] * 3]
    for number in range(len(outcomes)):
        one = flag(
            account=f"a{number}",
            flag_id=f"a{number}",
            reason=FlagReason.SEATS_IDLE,
            stage=Stage.ADOPT,
        )
        await rig.take(one)
    rig.hands.now += HOUR
    for row, outcome in zip(await rig.interventions(), outcomes, strict=True):
        await rig.steps.close(row.id, version=None, outcome=outcome, note="x", by=boss("anna"))
    await rig.take(flag(account="gone", flag_id="gone"))
    cleared = flag(account="gone", flag_id="gone", change="cleared", as_of=NOW + HOUR)
    await rig.take(cleared)
    rig.hands.now += HOUR

    found = (await api.get("/api/v1/feedback")).json()
    assert (found["days"], found["total"]["endings"], found["total"]["by_system"]) == (90, 4, 1)
    # 1 saved of 1 + 3 false alarms; all of one person's, in 90 / 7 weeks.
    idle = found["reasons"]["seats_idle"]
    assert idle["precision"] == {"part": 1, "of": 4, "value": 0.25}
    assert idle["save_rate"] == {"part": 1, "of": 1, "value": 1.0}
    assert idle["first_action_seconds"] == 3_600
    assert idle["false_alarms_per_person_week"] == pytest.approx(3 / (90 / 7))
    assert found["reasons"]["churn_risk"]["precision"]["value"] is None
    assert list(found["playbooks"]) == ["default"]
    assert found["hold_out"]["uplift"] is None

    raw = (await console.get("/feedback")).text
    assert "1 of 4" in raw
    assert "Not measured" in raw
    (link,) = re.findall(r'href="(/silences\?[^"]+)"', raw)
    form = await text_of(console, unescape(link))
    assert '<option value="seats_idle" selected>' in form
    assert "3 of 4 were false alarms" in form
    rig.hands.now += 8 * DAY
    assert (await api.get("/api/v1/feedback?days=7")).json()["total"]["endings"] == 0
    assert "Nothing was closed" in await text_of(console, "/feedback?days=-5")
    assert (await api.get("/api/v1/feedback?days=731")).status_code == 422


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        (29, "Hidden: it needs 30 accounts in each arm"),
        # Lost: 10 of 30 held out, 10 of 60 told.
        (30, "+16.7 points"),
    ],
    ids=["too few to say", "as drawn"],
)
async def test_the_hold_out_is_shown_with_its_interval_or_why_not(
    rig: Rig, console: httpx.AsyncClient, held_out: int, said: str
) -> None:
    drawn = date(2025, 5, 1)
    rows = [(f"h{number}", True, number < 10) for number in range(held_out)]
    rows += [(f"t{number}", False, number < 10) for number in range(60)]
    async with rig.engine.begin() as connection:
        await connection.execute(
            accounts.insert(),
            [
                {
                    "account_id": name,
                    "status": "churned" if lost else "active",
                    "fields": {"churned_at": "2025-07-01"} if lost else {},
                    "updated_at": NOW,
                }
                for name, _, lost in rows
            ],
        )
        await connection.execute(
            draws.insert(),
            [
                {"account_id": name, "quarter": "2025Q2", "held_out": held, "drawn_on": drawn}
                for name, held, _ in rows
            ],
        )
    page = await text_of(console, "/feedback")
    assert said in page
    assert ("95 % interval" in page) is (held_out == 30)


async def test_a_person_chooses_how_they_are_told(rig: Rig, console: httpx.AsyncClient) -> None:
    page = await text_of(console, "/people")
    assert OWNER in page
    assert "Europe/Paris" in page
    assert FALLBACK in page  # Named by the team file, though it says nothing of them.
    form = {
        "mode": "daily",
        "email": "weekly",
        "channels": ["email", "slack"],
        "zone": "Asia/Tokyo",
        "opens": "08:00",
        "closes": "16:30",
        "digest_at": "07:45",
    }
    assert (await submit(console, f"/people/{OWNER.upper()}", form))[0] == 303
    page = await text_of(console, "/people")
    for said in ("Own choice", "Daily digest", "by e-mail: Weekly digest", "Slack, E-mail"):
        assert said in page
    assert '08:00 to 16:30</span><span class="because">Asia/Tokyo' in page
    mine = await text_of(console, f"/people/{OWNER}")
    assert 'value="16:30"' in mine
    assert 'value="slack" checked' in mine
    assert "Europe/Paris" in mine  # What holds where they choose nothing.

    assert (await submit(console, f"/people/{OWNER}", {}))[0] == 303
    async with rig.engine.connect() as connection:
        ((address, wanted),) = await connection.execute(
            select(preferences.c.address, preferences.c.wanted)
        )
    assert (address, wanted) == (OWNER, {})


UNWANTED: dict[str, tuple[dict[str, Any], str]] = {
    "no mode of ours": ({"mode": "hourly"}, "from the list"),
    "no channel of ours": ({"channels": ["pigeon"]}, "from the list"),
    "no zone": ({"zone": "Mars/Phobos"}, "must be one of IANA"),
    "no time": ({"digest_at": "25:00"}, "Times look like"),
    "half a day": ({"opens": "09:00"}, "Give both"),
    "backwards": ({"opens": "18:00", "closes": "09:00"}, "begin before they end"),
    "no time at all": ({"opens": "09:00", "closes": "09:00"}, "begin before they end"),
}


async def test_a_preference_that_cannot_be_kept_is_explained(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    for name, (form, said) in UNWANTED.items():
        status, text = await submit(console, f"/people/{OWNER}", form)
        assert (status, said in text) == (422, True), name
    for address in ("nobody", "a b@x.example", "%3Cscript%3E@x.example"):
        assert (await console.get(f"/people/{address}")).status_code == 404
        assert (await submit(console, f"/people/{address}", {}))[0] == 404
    async with rig.engine.connect() as connection:
        assert (await connection.execute(select(preferences.c.address))).all() == []


async def test_playbooks_are_shown_and_why_their_files_are_refused(
    rig: Rig, scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    assert "Look into it" in await text_of(console, "/playbooks")
    one = Playbook(
        name="adoption",
        version=3,
        title=f"Adoption {HOSTILE}",
        match=Match(
            reasons=("seats_idle",), severity=(Band.CRITICAL,), sold="reseller", value=9_000
        ),
        tasks=(TaskRule(title="Call <b>them</b>", due=2),),
        escalation=DEFAULT.escalation,
    )
    stepping = rig.steps.stepping
    staff = replace(stepping.staff, playbooks=lambda: Playbooks((one,)))
    other = replace(rig, steps=type(rig.steps)(replace(stepping, staff=staff)))
    problem = "adoption.yaml:3: due: must be a number\nadoption.yaml:9: <script>"
    async with httpx.AsyncClient() as client:
        app = console_app(other, scoring, client, lambda: {"playbooks": problem, "team": "team:1"})
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
            page = (await opened.get("/playbooks")).text
            people = (await opened.get("/people")).text
    assert "<script>" not in page
    assert "<b>" not in page
    shown = unescape(page)
    for said in (
        "version 3",
        "For Seats idle; critical; sold by a reseller; at least 9,000 at risk",
        "owner, +2 working days",
        "+1 owner, +2 owner's manager, +3 lead of the fallback queue",
        "The playbooks on disk are refused.",
        "adoption.yaml:3: due: must be a number",
    ):
        assert said in shown
    assert "The team file on disk is refused." in people
