"""The pages of users and of what people have changed; and that an erased account leaves it."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from services.notifier import audit, silences, users
from services.notifier.domain.access import Role
from services.notifier.domain.silences import Matchers, Silence
from services.notifier.steps import Wall
from shared.messages import OutcomeKind
from tests.integration.notifier.console_rig import Markup
from tests.integration.notifier.rig import NOW, OWNER, Rig, account, boss, flag
from tests.integration.notifier.sign_in_rig import (
    PASSWORD,
    add_user,
    browser,
    open_console,
    sign_in,
)
from tests.integration.notifier.test_erasure import erase

ADA, BEN = "ada@vendor.example", "ben@vendor.example"


@pytest.fixture
async def admin(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    await add_user(rig, ADA, Role.ADMIN)
    async with open_console(rig) as site, browser(site) as client:
        await sign_in(client, ADA)
        yield client


async def state_of(rig: Rig, address: str) -> tuple[str, Role]:
    async with rig.engine.connect() as connection:
        user = await users.read(connection, address)
    assert user is not None
    return user.state, user.role


async def test_an_admin_adds_changes_and_shuts_out(rig: Rig, admin: httpx.AsyncClient) -> None:
    added = await admin.post("/users", data={"address": "Ben@Vendor.example", "role": "csm"})
    [link] = re.findall(r"/welcome/[\w-]{43}", added.text)
    assert link not in (await admin.get("/users")).text
    assert await state_of(rig, BEN) == ("invited", Role.CSM)
    again = await admin.post("/users", data={"address": BEN, "role": "admin"})
    assert again.status_code == 409
    await admin.post("/users/role", data={"address": BEN, "role": "manager"})
    assert await state_of(rig, BEN) == ("invited", Role.MANAGER)
    renewed = await admin.post("/users/reset", data={"address": BEN})
    assert (await admin.get(link)).status_code == 404
    [link] = re.findall(r"/welcome/[\w-]{43}", renewed.text)
    await admin.post("/users/disable", data={"address": BEN})
    assert await state_of(rig, BEN) == ("disabled", Role.MANAGER)
    assert (await admin.get(link)).status_code == 404
    await admin.post("/users/enable", data={"address": BEN})
    async with rig.engine.connect() as connection:
        told = [(one.actor, one.action) for one in await audit.read(connection, limit=5)]
    assert told == [
        (ADA, f"user.{done}") for done in ("enabled", "disabled", "reset", "role", "added")
    ]


async def test_nobody_takes_their_own_access_away(rig: Rig, admin: httpx.AsyncClient) -> None:
    for path, more in (("disable", {}), ("reset", {}), ("role", {"role": "viewer"})):
        answer = await admin.post(f"/users/{path}", data={"address": ADA.upper(), **more})
        assert answer.status_code == 409, path
    assert await state_of(rig, ADA) == ("active", Role.ADMIN)


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("", {"address": "no address", "role": "csm"}, 422),
        ("", {"address": BEN, "role": "boss"}, 422),
        ("", {}, 422),
        ("/role", {"address": BEN, "role": "boss"}, 422),
        ("/role", {"address": BEN, "role": "csm"}, 404),
        ("/disable", {"address": BEN}, 404),
        ("/reset", {"address": "\0"}, 404),
    ],
)
async def test_what_cannot_be_is_said(
    admin: httpx.AsyncClient, path: str, sent: dict[str, str], status: int
) -> None:
    assert (await admin.post(f"/users{path}", data=sent)).status_code == status


async def test_the_pages_need_no_script_and_name_their_fields(
    rig: Rig, admin: httpx.AsyncClient
) -> None:
    async with rig.engine.begin() as connection:
        by, now = boss(ADA), rig.hands.now
        token = await users.add(connection, BEN, Role.CSM, by=by, now=now)
    for path in ("/users", "/audit", f"/welcome/{token}"):
        answer = await admin.get(path)
        markup = Markup()
        markup.feed(answer.text)
        markup.close()
        assert answer.status_code == 200
        assert (markup.inline, markup.foreign, markup.unnamed) == ([], [], []), path
        assert markup.tags.count("h1") == 1, path


async def test_the_audit_is_leafed_through_and_narrowed(rig: Rig, admin: httpx.AsyncClient) -> None:
    async with rig.engine.begin() as connection:
        for number in range(120):
            by = boss(f"u{number % 2}@vendor.example")
            await audit.write(
                connection, by, "note.added", f"n-{number}", at=NOW, account_id="acme"
            )
    first = (await admin.get("/audit")).text
    assert "n-119" in first
    assert "n-19<" not in first
    [following] = re.findall(r'href="(/audit[^"]+before=\d+)"', first)
    last = (await admin.get(following.replace("&amp;", "&"))).text
    assert "n-19<" in last
    assert "n-20<" not in last
    mine = (await admin.get("/audit", params={"actor": "U1@vendor.example"})).text
    assert ("n-119" in mine, "n-118" in mine) == (True, False)
    async with rig.engine.begin() as connection:
        # Keys have capitals in their names.
        key = replace(boss("key:crm/AbC"), way="key")
        await audit.write(connection, key, "view.saved", "v-1", at=NOW)
    assert "v-1" in (await admin.get("/audit", params={"actor": "key:crm/AbC"})).text
    assert "Nothing is known" in (await admin.get("/audit?account=globex")).text
    for odd in ("before=-1", "before=99999999999999999999", "account=%00", "actor=%00"):
        assert (await admin.get(f"/audit?{odd}")).status_code == 200, odd


async def test_a_step_is_audited_with_it_or_not_at_all(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    ada = boss(ADA)
    until = Wall(day=NOW.date() + timedelta(days=2))
    await rig.steps.snooze(row.id, version=1, until=until, reason="Their wedding", by=ada)
    await rig.steps.close(row.id, version=1, outcome=OutcomeKind.SAVED, note="x", by=ada)  # stale
    await rig.steps.close(
        row.id, version=None, outcome=OutcomeKind.SAVED, note="Their wedding", by=ada
    )
    async with rig.engine.connect() as connection:
        found = await audit.read(connection, account="acme")
    assert [one.action for one in found] == ["intervention.closed", "intervention.snoozed"]
    assert found[0].detail == {"outcome": "saved"}
    assert found[1].detail.keys() == {"until"}


async def test_an_erased_account_leaves_who_did_what_and_takes_to_what(rig: Rig) -> None:
    await rig.take(account(), account(account_id="globex"))
    await rig.take(flag(), flag(account="globex", flag_id="globex/1"))
    async with rig.engine.begin() as connection:
        quiet = Silence(
            id=(await rig.interventions())[0].id,
            matchers=Matchers(account="acme"),
            starts_at=NOW,
            ends_at=NOW + timedelta(days=1),
            author=ADA,
            comment="x",
            created_at=NOW,
        )
        assert await silences.add(connection, quiet, by=boss(ADA), now=NOW) is None
    for row in await rig.interventions():
        await rig.steps.reassign(row.id, version=None, owner=OWNER, by=boss(ADA))
        await rig.steps.acknowledge(row.id, version=None, by=boss(ADA))
    await erase(rig)
    async with rig.engine.connect() as connection:
        of_acme = await audit.read(connection, account="acme")
        gone = [one for one in await audit.read(connection) if not one.account_id]
        kept = await audit.read(connection, account="globex")
    assert of_acme == []
    assert {(one.actor, one.subject, str(one.detail)) for one in gone} == {(ADA, "", "{}")}
    assert "silence.created" in {one.action for one in gone}
    assert all(one.subject for one in kept)


async def test_a_link_and_a_password_stand_nowhere(rig: Rig, admin: httpx.AsyncClient) -> None:
    added = await admin.post("/users", data={"address": BEN, "role": "csm"})
    [token] = re.findall(r"/welcome/([\w-]{43})", added.text)
    async with rig.engine.connect() as connection:
        told = str(await audit.read(connection))
        stored = str(await users.read_all(connection))
    assert token not in told + stored
    assert PASSWORD not in told + stored
