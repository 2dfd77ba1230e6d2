"""The console through HTTP: what it shows, what it takes, what it refuses."""

import asyncio
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from html import unescape
from urllib.parse import quote

import httpx
from sqlalchemy import select

from services.notifier.tables import outbox, timeline
from shared.database import open_engine
from shared.messages import Band, FlagReason, OutcomeEvent, Stage, ValueAtRisk, decode
from tests.integration.notifier.console_rig import FakeScoring, Markup, console_app
from tests.integration.notifier.rig import NOW, OWNER, Rig, account, flag

HOSTILE = '<!channel> & "x"\r\n<script>alert(1)</script>'
ORIGIN = {"Origin": "http://localhost"}


async def only_id(rig: Rig) -> str:
    (row,) = await rig.interventions()
    return str(row.id)


async def test_pages_have_no_inline_script_or_style_and_need_nobody_else(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(account())
    await rig.take(flag(), flag(flag_id="b", account="b"))
    paths = (
        "/",
        "/accounts",
        "/accounts/acme",
        "/board",
        "/board?show=all",
        "/deliveries",
        "/silences",
        "/feedback",
        "/people",
    )
    for path in (*paths, f"/people/{OWNER}", "/playbooks", "/nowhere"):
        answer = await console.get(path)
        markup = Markup()
        markup.feed(answer.text)
        markup.close()
        assert (markup.inline, markup.foreign, markup.unnamed) == ([], [], []), path
        assert markup.tags.count("h1") == 1, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


async def test_the_list_is_sorted_by_priority(rig: Rig, console: httpx.AsyncClient) -> None:
    for name, amount in (("small", 10), ("large", 90_000), ("middle", 500)):
        value = ValueAtRisk(amount=Decimal(amount), currency="EUR", basis="mrr")
        await rig.take(flag(account=name, flag_id=name, value_at_risk=value))
    await rig.take(flag(account="unknown", flag_id="u", value_at_risk=None))
    page = (await console.get("/")).text
    found = re.findall(r'<th scope="row"><a href="/accounts/(\w+)#', page)
    assert found == ["large", "middle", "small", "unknown"]
    assert "90,510" in page  # 90,000 + 500 + 10, the head of the page


async def test_the_list_by_owner(rig: Rig, console: httpx.AsyncClient) -> None:
    await rig.take(account())
    await rig.take(flag(), flag(flag_id="b", account="b"))
    page = (await console.get("/", params={"owner": OWNER})).text
    assert 'href="/accounts/acme#' in page
    assert 'href="/accounts/b#' not in page
    assert "Nothing open for ben" in (await console.get("/", params={"owner": "ben"})).text


async def test_an_empty_console_says_what_to_do(console: httpx.AsyncClient) -> None:
    assert "No open interventions" in (await console.get("/")).text
    assert "SLACK_WEBHOOK_URL" in (await console.get("/deliveries")).text


async def test_the_account_page_has_reasons_numbers_plot_and_table(
    rig: Rig, scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    await rig.take(account())
    await rig.take(flag())
    page = (await console.get("/accounts/acme")).text
    for said in ("42 %", "Critical", "38 days", "-76 %", "90 days", "+0.80", "31 May 2026", "Team"):
        assert said in page
    assert re.search(r'data-label="Own before">38 days</td>', page)
    assert re.search(r'data-label="Others\' median">41 days <span[^>]*>mid-market</span>', page)
    usage = page.partition('<h2 id="usage">')[2].partition("</section>")[0]
    assert usage.count('<svg class="plot') == 2
    assert usage.count("<rect") == 4  # One day, two rows, wide and narrow.
    assert "18 May 2026" in page  # The week of that day, in the table.
    assert scoring.keys == {"Bearer prn_live_key"}


async def test_a_flag_is_shown_with_its_stage_and_what_it_rests_on(
    rig: Rig, scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    evidence = {"family": "support", "indicator": "tickets_28", "value": 7, "unit": "tickets"}
    evidence |= {"baseline": 2, "baseline_of": "own", "change": 2.5, "window_days": 28}
    evidence |= {"weight": 0, "as_of": "2026-05-31", "text": "7 tickets in 28 days; usual are 2."}
    shown = {"stage": "adopt", "episode": 1, "raised_at": NOW, "summary": "Support strain."}
    scoring.flags = [
        {**shown, "reason": "support_strain", "evidence": [evidence]},
        {**shown, "reason": "of_a_newer_version", "stage": "retire", "cleared_at": NOW},
    ]
    await rig.take(
        flag(reason=FlagReason.SUPPORT_STRAIN, stage=Stage.ADOPT, summary="", reasons=())
    )
    page = unescape((await console.get("/accounts/acme")).text)
    assert page.count("Support strain") >= 2
    assert '<span class="note">7 tickets in 28 days; usual are 2.</span>' in page
    assert "More tickets than this account usually has" in page
    assert "Adopt" in page
    assert "Of a newer version" in page
    assert "retire" in page


async def test_an_opportunity_is_not_at_risk(rig: Rig, console: httpx.AsyncClient) -> None:
    await rig.take(
        flag(reason=FlagReason.EXPANSION_READY, stage=Stage.EXPAND, summary="19 of 20 seats used.")
    )
    listed = (await console.get("/")).text
    assert "Opportunity" in listed
    assert "12,340" not in listed
    page = (await console.get("/accounts/acme")).text
    assert "Ready to expand" in page
    assert page.count("Opportunity") == 1


async def test_without_scoring_the_page_shows_what_is_known(
    rig: Rig, scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    await rig.take(account())
    await rig.take(flag())
    for mood in ("hang", "nonsense", "broken", "unknown"):
        scoring.mood = mood
        async with asyncio.timeout(3):
            answer = await console.get("/accounts/acme")
        assert answer.status_code == 200, mood
        assert "not up to date" in answer.text, mood
        assert "Active on 9 of 90 days" in answer.text, mood
        assert "Acknowledge" in answer.text, mood


async def test_scoring_gone_altogether(rig: Rig, scoring: FakeScoring) -> None:
    await rig.take(flag())
    scoring.url = "http://127.0.0.1:1"
    async with httpx.AsyncClient(timeout=1) as client:
        transport = httpx.ASGITransport(console_app(rig, scoring, client))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as other:
            answer = await other.get("/accounts/acme")
    assert "Scoring does not answer" in answer.text
    assert answer.status_code == 200


async def test_any_account_id_has_a_page_and_is_inert(
    rig: Rig, scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    ids = ["a/b", "a/../b", "..", ".", "a b?c#d%", "é神", HOSTILE, "a%2Fb", "//x", "a\\b"]
    for number, account_id in enumerate(ids):
        await rig.take(flag(account=account_id, flag_id=f"f{number}"))
    scoring.mood = "unknown"
    front = (await console.get("/board?show=all")).text
    links = re.findall(r'<th scope="row"><a href="([^"]+)"', front)
    assert len(set(links)) == len(ids)
    pages = [await console.get(unescape(link)) for link in links]
    assert [page.status_code for page in pages] == [200] * len(ids)
    assert all("Churn risk" in page.text for page in pages)
    for shown in (front, *(page.text for page in pages)):
        assert "<script>" not in shown
        assert "<!channel" not in shown


async def test_hostile_names_are_escaped_everywhere(
    rig: Rig, scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    scoring.mood = "unknown"
    await rig.take(account(name=HOSTILE, owner=HOSTILE, plan=HOSTILE))
    await rig.take(flag(summary=HOSTILE, reasons=()))
    await rig.send_all()
    lists = ("/", "/board", "/board?show=all", "/deliveries", f"/?owner={quote(HOSTILE)}")
    for path in (*lists, "/accounts/acme"):
        page = (await console.get(path)).text
        assert "<script>" not in page
        assert "&lt;script&gt;" in page


async def test_acknowledge_and_close_with_outcome(rig: Rig, console: httpx.AsyncClient) -> None:
    await rig.take(account())
    await rig.take(flag())
    one = await only_id(rig)
    answer = await console.post(
        f"/interventions/{one}/acknowledge", data={"version": "1"}, headers=ORIGIN
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"/accounts/acme#i-{one}")
    form = {"version": "2", "outcome": "saved", "note": "Trained\r\nthem\0"}
    answer = await console.post(f"/interventions/{one}/close", data=form, headers=ORIGIN)
    assert answer.status_code == 303
    (row,) = await rig.interventions()
    assert (row.status, row.outcome, row.note) == ("closed", "saved", "Trained\nthem")
    async with rig.engine.connect() as connection:
        (value,) = await connection.scalars(
            select(outbox.c.value).where(outbox.c.topic == "outcomes")
        )
        kinds = list(await connection.scalars(select(timeline.c.kind).order_by(timeline.c.id)))
    event = decode(OutcomeEvent, value)
    assert (event.data.outcome, event.data.by, event.data.risk_at_open) == ("saved", "person", 0.31)
    assert kinds == ["opened", "acknowledged", "closed"]
    page = (await console.get("/accounts/acme")).text
    assert "Closed: saved" in page
    assert rig.metrics.outcomes.labels("saved", "churn_risk")._value.get() == 1


async def test_a_stale_page_is_explained_and_changes_nothing(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(flag())
    await rig.take(flag(change="updated", band=Band.CRITICAL, as_of=NOW + timedelta(hours=1)))
    one = await only_id(rig)
    for path, form in (("acknowledge", {}), ("close", {"outcome": "saved"})):
        answer = await console.post(
            f"/interventions/{one}/{path}", data={"version": "1", **form}, headers=ORIGIN
        )
        assert answer.status_code == 409
        assert "Somebody was faster" in answer.text
    (row,) = await rig.interventions()
    assert (row.status, row.version) == ("open", 2)


async def test_two_people_closing_at_once_are_one_closing(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(flag())
    one = await only_id(rig)
    form = {"version": "1", "outcome": "saved"}
    answers = await asyncio.gather(
        *(console.post(f"/interventions/{one}/close", data=form, headers=ORIGIN) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [303, 409, 409, 409]
    async with rig.engine.connect() as connection:
        outgoing = (await connection.execute(select(outbox.c.id))).all()
    assert len(outgoing) == 1


INCOMPLETE: dict[str, tuple[dict[str, str], int]] = {
    "no note": ({"version": "1", "outcome": "churned"}, 422),
    "blank note": ({"version": "1", "outcome": "churned", "note": " \n"}, 422),
    "no such outcome": ({"version": "1", "outcome": "won"}, 422),
    "no outcome": ({"version": "1"}, 422),
    "no version": ({"outcome": "saved"}, 422),
    "version is no number": ({"version": "x", "outcome": "saved"}, 422),
    "version far too large": ({"version": "9" * 30, "outcome": "saved"}, 409),
}


async def test_an_incomplete_form_is_explained(rig: Rig, console: httpx.AsyncClient) -> None:
    await rig.take(flag())
    one = await only_id(rig)
    for name, (form, status) in INCOMPLETE.items():
        answer = await console.post(f"/interventions/{one}/close", data=form, headers=ORIGIN)
        assert answer.status_code == status, name
        assert answer.headers["content-type"].startswith("text/html"), name
    (row,) = await rig.interventions()
    assert row.status == "open"


async def test_another_site_changes_nothing(rig: Rig, console: httpx.AsyncClient) -> None:
    await rig.take(flag())
    one = await only_id(rig)
    foreign: list[dict[str, str]] = [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
    ]
    for headers in foreign:
        answer = await console.post(
            f"/interventions/{one}/acknowledge", data={"version": "1"}, headers=headers
        )
        assert answer.status_code == 403, headers
    (row,) = await rig.interventions()
    assert row.status == "open"


async def test_another_name_for_this_machine_is_refused(console: httpx.AsyncClient) -> None:
    assert (await console.get("/", headers={"Host": "evil.example"})).status_code == 400


async def test_what_does_not_exist_is_explained(
    scoring: FakeScoring, console: httpx.AsyncClient
) -> None:
    scoring.mood = "unknown"
    for path in (
        "/accounts/nobody",
        "/accounts/",
        "/accounts/%00",
        f"/accounts/{'x' * 600}",
        "/interventions/00000000-0000-4000-8000-000000000000",
        "/static/none.css",
        "/static/..%2fpages.py",
    ):
        answer = await console.get(path)
        assert answer.status_code == 404, path
        assert "<h1>" in answer.text, path


async def test_a_link_in_a_message_leads_to_the_intervention(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(flag(account="a/b"))
    one = await only_id(rig)
    answer = await console.get(f"/interventions/{one}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/accounts/a%2Fb#i-{one}")


async def test_deliveries_show_what_was_suppressed_and_why(
    rig: Rig, console: httpx.AsyncClient
) -> None:
    await rig.take(flag())
    await rig.take(flag(change="cleared", as_of=NOW + timedelta(hours=1)))
    await rig.send_all()
    page = (await console.get("/deliveries?show=suppressed")).text
    assert "The flag was cleared or the intervention closed before it was sent" in page
    assert "None of these" in (await console.get("/deliveries?show=dead")).text


async def test_our_own_files_are_kept_by_the_browser(console: httpx.AsyncClient) -> None:
    for name, kind in (("console.css", "text/css"), ("console.js", "text/javascript")):
        answer = await console.get(f"/static/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]


async def test_an_absent_database_is_a_page_that_says_so(rig: Rig, scoring: FakeScoring) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with open_engine(nowhere, application="test") as engine, httpx.AsyncClient() as client:
        transport = httpx.ASGITransport(console_app(replace(rig, engine=engine), scoring, client))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as console:
            answer = await console.get("/")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
