"""The list of accounts, its views and its file; the parts of an account's page; notes."""

import csv
import io
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import select

from services.notifier.domain.access import Role
from services.notifier.tables import account_notes, audit, saved_views
from tests.integration.notifier.console_rig import FakeScoring
from tests.integration.notifier.rig import OWNER, Rig, account, flag
from tests.integration.notifier.test_console_work import BEN, ORIGIN, console_of, page_of
from tests.integration.notifier.test_erasure import erase


def scored(account_id: str, **changes: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "account_id": account_id,
        "name": f"{account_id.title()} Ltd",
        "owner": OWNER,
        "segment": "mid-market",
        "plan": "team",
        "region": "FR",
        "reseller": None,
        "stage": "adopt",
        "mrr": "480.00",
        "currency": "EUR",
        "contract_end": "2026-09-01",
        "renewal_date": "2026-09-01",
        "state": "scored",
        "short_history": False,
        "risk": 0.3125,
        "band": "at_risk",
        "value_at_risk": {"amount": "1350.00", "currency": "EUR", "basis": "margin"},
        "flags": ["churn_risk"],
        "reasons": [],
        "as_of": "2026-06-01T11:00:00Z",
    }
    return usual | changes


def asked(scoring: FakeScoring, path: str) -> dict[str, list[str]]:
    """What scoring was asked for last at that path."""
    last = [one for one in scoring.asked if urlsplit(one).path == path][-1]
    return parse_qs(urlsplit(last).query, keep_blank_values=True)


async def test_the_list_asks_scoring_for_what_is_wanted_and_no_more(
    rig: Rig, scoring: FakeScoring
) -> None:
    scoring.listed = [scored("acme"), scored("b", mrr=None, band=None, risk=None, stage=None)]
    await rig.take(account())
    await rig.take(flag())
    wanted = {
        "q": "me\0", "band": "at_risk", "owner": "~", "stage": "adopt", "sales": "direct",
        "renews_within": "90", "sort": "mrr", "order": "asc",
        "segment": "", "region": "weather", "colour": "blue",
    }  # fmt: skip
    async with console_of(rig, scoring, Role.VIEWER) as console:
        page = await page_of(console, "/accounts", **wanted)
        assert asked(scoring, "/v1/accounts") == {
            "q": ["me"], "band": ["at_risk"], "owner": [""], "stage": ["adopt"],
            "sales": ["direct"], "renews_within": ["90"], "region": ["weather"],
            "sort": ["mrr"], "order": ["asc"], "limit": ["50"],
        }  # fmt: skip
        # What could be chosen is counted within the cut; words and bands are none.
        assert asked(scoring, "/v1/facets") == {
            "owner": [""], "stage": ["adopt"], "sales": ["direct"], "region": ["weather"]
        }  # fmt: skip
        nonsense = {"band": "weather", "stage": "LOST", "renews_within": "7", "sort": "x"}
        await page_of(console, "/accounts", **nonsense)
        usual = {"sort": ["risk"], "order": ["desc"], "limit": ["50"]}
        assert asked(scoring, "/v1/accounts") == usual
    for said in ("Acme Ltd", "1 open", "31 %", "EUR 1,350", "EUR 480", "1 Sep 2026", "not scored"):
        assert said in page
    assert "anna (7)" in page
    assert "Not known (2)" in page
    assert re.search(r'aria-sort="ascending"><a class="sorts" href="[^"]*sort=mrr"', page)
    assert "Save view" not in page


async def test_pages_of_the_list_follow_the_cursor(rig: Rig, scoring: FakeScoring) -> None:
    scoring.listed = [scored(f"a{number:03}") for number in range(120)]
    found: list[str] = []
    path = "/accounts?band=at_risk"
    async with console_of(rig, scoring, Role.CSM) as console:
        for _ in range(3):
            page = await page_of(console, path)
            found += re.findall(r'<th scope="row"><a href="/accounts/(\w+)"', page)
            assert "120 accounts" in page
            path = "".join(re.findall(r'<a href="([^"]+)">Next</a>', page))
        assert path == ""
        scoring.mood = "broken"
        broken = await page_of(console, "/accounts")
    assert found == [f"a{number:03}" for number in range(120)]
    assert "The list cannot be shown. Scoring answers, but not as expected" in re.sub(
        "<[^>]+>", "", broken
    )


async def test_the_file_has_every_account_and_no_formula(rig: Rig, scoring: FakeScoring) -> None:
    names = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", 'say "hi", "ho"', "Zoë\nLtd", "1-2"]
    scoring.listed = [scored(f"a{number:04}") for number in range(1_190)]
    scoring.listed += [scored(f"n{number}", name=name) for number, name in enumerate(names)]
    async with console_of(rig, scoring, Role.VIEWER) as console:
        answer = await console.get("/accounts.csv?owner=~&sort=name")
        assert asked(scoring, "/v1/accounts") == {
            "owner": [""], "sort": ["name"], "order": ["asc"], "cursor": ["1000"], "limit": ["500"]
        }  # fmt: skip
        scoring.mood = "breaks"
        cut = (await console.get("/accounts.csv")).text
        scoring.mood = "broken"
        refused = await console.get("/accounts.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="accounts-2026-06-01.csv"' in answer.headers["content-disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbfaccount_id,name,")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert len(rows) == 1_200
    assert [row["name"] for row in rows[-10:]] == [
        "'=1+1", "'+1", "'-1", "'@x", "'\t=1", "'\r=1", "' =1", 'say "hi", "ho"', "Zoë\nLtd", "1-2"
    ]  # fmt: skip
    first = rows[0]
    assert (first["risk"], first["mrr"], first["renewal"]) == ("0.3125", "480.00", "2026-09-01")
    assert cut.endswith('after 500 accounts"\r\n')
    assert "INCOMPLETE: " in cut
    assert refused.status_code == 503


async def test_a_view_is_kept_shared_replaced_and_removed(rig: Rig, scoring: FakeScoring) -> None:
    async def save(console: httpx.AsyncClient, **form: Any) -> int:
        answer = await console.post("/views", data=form, headers=ORIGIN)
        return answer.status_code

    async with console_of(rig, scoring, Role.CSM) as anna:
        assert await save(anna, name="Mine", query="band=critical&evil=1&sort=mrr") == 303
        assert await save(anna, name="Mine", query="band=watch") == 303
        assert await save(anna, name="Ours", query="q=%26+x", shared="true") == 303
        assert await save(anna, name=" \n", query="") == 422
        shown = await page_of(anna, "/accounts", band="watch")
        assert re.search(r'<a href="/accounts\?band=watch" aria-current="page"[^>]*>Mine<', shown)
        assert "Remove the view Mine" in shown
    async with rig.engine.connect() as connection:
        rows = (await connection.execute(select(saved_views).order_by(saved_views.c.name))).all()
        told = list(await connection.scalars(select(audit.c.action).order_by(audit.c.id)))
    # What the list does not know is not kept.
    assert [(row.name, row.query) for row in rows] == [("Mine", "band=watch"), ("Ours", "q=%26+x")]
    mine, ours = (row.id for row in rows)
    async with console_of(rig, scoring, Role.CSM, BEN) as ben:
        shown = await page_of(ben, "/accounts")
        assert ">Ours <" in shown
        assert ">Mine<" not in shown.partition("Renewing in 90 days")[2]
        for one in (mine, ours):
            answer = await ben.post(f"/views/{one}/remove", headers=ORIGIN)
            assert answer.status_code == 404
    async with console_of(rig, scoring, Role.VIEWER, BEN) as viewer:
        assert await save(viewer, name="x", query="") == 403
    async with console_of(rig, scoring, Role.MANAGER, BEN) as manager:
        assert (await manager.post(f"/views/{mine}/remove", headers=ORIGIN)).status_code == 404
        assert (await manager.post(f"/views/{ours}/remove", headers=ORIGIN)).status_code == 303
    assert told == ["view.saved"] * 3


async def test_the_account_page_shows_its_past_its_users_its_way_and_its_goals(
    rig: Rig, scoring: FakeScoring
) -> None:
    await rig.take(account(contract_start="2025-10-28", contract_end="2026-08-28", notice_days=60))
    await rig.take(flag())
    async with console_of(rig, scoring, Role.CSM) as console:
        page = await page_of(console, "/accounts/acme")
    # 2 March and 4 May were logged; 1 June is now. The newest first.
    rows = re.findall(
        r'<tr><th scope="row">(\d+ \w+) 2026, [\d:]+ UTC</th><td class="num">(\d+ %)', page
    )
    assert rows == [("1 Jun", "42 %"), ("4 May", "31 %"), ("2 Mar", "12 %")]
    assert page.count('<polyline class="line"') == 2
    for band in ("watch", "at_risk"):
        assert page.count(f'<rect class="zone {band}"') == 2
    assert "<code>00d1b2c6</code>" in page
    assert "The last 1 of 4" in page
    assert "28 Oct 2025 to 4 Jan 2026, 68 d" in page
    assert "Time to invoice" in page
    assert "11.7 % of 15.0 % better" in page


async def test_each_part_that_is_missing_says_so_and_takes_no_other_along(
    rig: Rig, scoring: FakeScoring
) -> None:
    await rig.take(account())
    await rig.take(flag())
    parts = {
        "history": "The history of the risk cannot be shown",
        "daily": "Usage cannot be shown",
        "people": "Who uses it cannot be shown",
        "journey": "Scoring answers, but not as expected (HTTP 500).",
        "goals": "Scoring answers, but not as expected (HTTP 500).",
    }
    async with console_of(rig, scoring, Role.CSM) as console:
        for part, said in parts.items():
            scoring.absent = {part}
            page = re.sub("<[^>]+>", "", await page_of(console, "/accounts/acme"))
            assert said in page, part
            assert "not up to date" not in page
            for other in ("00d1b2c6", "Time to invoice", "68 d"):
                own = {"people": "00d1b2c6", "goals": "Time to invoice", "journey": "68 d"}
                assert (other in page) == (own.get(part) != other), (part, other)


async def test_notes_are_kept_by_whom_may_and_forgotten_with_the_account(
    rig: Rig, scoring: FakeScoring
) -> None:
    await rig.take(account())
    form = {"text": "They move to <b>Lyon</b>\nin July"}
    async with console_of(rig, scoring, Role.VIEWER) as viewer:
        assert "Add note" not in await page_of(viewer, "/accounts/acme")
        refused = await viewer.post("/notes?account=acme", data=form, headers=ORIGIN)
        assert refused.status_code == 403
    async with console_of(rig, scoring, Role.CSM) as console:
        answers = [
            (await console.post(f"/notes?account={name}", data=text, headers=ORIGIN)).status_code
            for name, text in (("acme", form), ("acme", {"text": " \n"}), ("nobody", form))
        ]
        assert answers == [303, 422, 404]
        raw = (await console.get("/accounts/acme")).text
    assert "They move to &lt;b&gt;Lyon&lt;/b&gt;\nin July" in raw
    assert OWNER in unescape(raw).partition("in July")[2][:200]
    async with rig.engine.connect() as connection:
        said = (await connection.execute(select(audit.c.action, audit.c.detail))).all()
    # That there is a note is in the audit log, not what it says.
    assert [tuple(one) for one in said] == [("note.added", {})]
    await erase(rig)
    async with rig.engine.connect() as connection:
        assert (await connection.execute(select(account_notes))).all() == []
