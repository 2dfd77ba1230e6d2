"""Signing in with a password: links, cookies, ends, waits."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import select, text

from services.notifier import audit, passwords, sign_ins, users
from services.notifier.domain.access import Role, SignIn
from services.notifier.tables import sign_in_attempts
from services.notifier.tables import sign_ins as rows
from tests.integration.notifier.rig import OWNER, Rig, boss, flag
from tests.integration.notifier.sign_in_rig import (
    PASSWORD,
    URL,
    add_user,
    browser,
    open_console,
    sign_in,
)

ADA = "ada@vendor.example"
HOUR = timedelta(hours=1)


@pytest.fixture
async def site(rig: Rig) -> AsyncIterator[httpx.ASGITransport]:
    async with open_console(rig) as opened:
        yield opened


async def is_in(client: httpx.AsyncClient) -> bool:
    return (await client.get("/")).status_code == 200


async def test_the_first_admin_comes_by_a_link_that_works_once(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    async with rig.engine.begin() as connection:
        token = await users.add(
            connection, "Ada@Vendor.example", Role.ADMIN, by=audit.COMMAND, now=rig.hands.now
        )
    link = f"/welcome/{token}"
    async with browser(site) as client, browser(site) as other:
        # A mail scanner follows it first.
        for _ in range(2):
            assert ADA in (await client.get(link)).text
        for password, again, said in (
            ("short", "short", "12 characters"),
            ("Password1234", "Password1234", "first that others"),
            (PASSWORD, f"{PASSWORD} ", "not the same"),
        ):
            refused = await client.post(link, data={"password": password, "again": again})
            assert (refused.status_code, said in refused.text) == (422, True)
        chosen = await client.post(link, data={"password": PASSWORD, "again": PASSWORD})
        assert (chosen.status_code, chosen.headers["location"]) == (303, "/")
        assert await is_in(client)
        for answer in (
            await other.get(link),
            await other.post(link, data={"password": PASSWORD, "again": PASSWORD}),
        ):
            assert (answer.status_code, "not valid any more" in answer.text) == (404, True)
        assert not await is_in(other)
        assert (await sign_in(other, ADA, to="/people")).headers["location"] == "/people"
        assert await is_in(other)
    async with rig.engine.connect() as connection:
        told = [(one.actor, one.action) for one in await audit.read(connection)]
        user = await users.read(connection, ADA)
    assert told == [
        (ADA, "sign_in"),
        (ADA, "sign_in"),
        (ADA, "user.password_chosen"),
        ("command line", "user.added"),
    ]
    assert user is not None
    assert (user.password or "").startswith("scrypt$15,8,3$")


async def test_a_link_is_over_after_a_day_and_when_there_is_a_newer_one(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    now = rig.hands.now
    async with rig.engine.begin() as connection:
        first = await users.add(connection, ADA, Role.ADMIN, by=boss("x"), now=now)
        second = await users.reset(connection, ADA, by=boss("x"), now=now)
    async with browser(site) as client:
        assert (await client.get(f"/welcome/{first}")).status_code == 404
        rig.hands.now += 24 * HOUR - timedelta(seconds=1)
        assert (await client.get(f"/welcome/{second}")).status_code == 200
        rig.hands.now += timedelta(seconds=1)
        assert (await client.get(f"/welcome/{second}")).status_code == 404


async def test_the_cookie_holds_a_token_that_the_database_does_not(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    async with browser(site) as client:
        await sign_in(client, ADA)
        first = client.cookies["perennial"]
        assert len(first) == 43  # 256 bits in base64
        await sign_in(client, ADA)
        second = client.cookies["perennial"]
    async with rig.engine.connect() as connection:
        stored = (await connection.execute(select(rows))).all()
        dump = str((await connection.execute(text("SELECT * FROM notifier.sign_ins"))).all())
    # The first ended as the second began: whoever had it has nothing.
    assert [one.token_sha256 for one in stored] == [users.digest(second)]
    assert first not in dump
    assert second not in dump


@pytest.mark.parametrize(
    ("steps", "still"),
    [
        pytest.param([timedelta(hours=1, minutes=59)], True, id="almost two hours idle"),
        pytest.param([2 * HOUR], False, id="two hours idle"),
        pytest.param([HOUR] * 11, True, id="eleven hours of work"),
        pytest.param([HOUR] * 12, False, id="twelve hours of work"),
    ],
)
async def test_a_sign_in_ends(
    rig: Rig, site: httpx.ASGITransport, steps: list[timedelta], *, still: bool
) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    async with browser(site) as client:
        await sign_in(client, ADA)
        for step in steps[:-1]:
            rig.hands.now += step
            assert await is_in(client)
        rig.hands.now += steps[-1]
        assert await is_in(client) is still


async def test_what_is_over_is_deleted_at_the_next_sign_in(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    async with browser(site) as client, browser(site) as other:
        await sign_in(client, "x@vendor.example")
        await sign_in(client, ADA)
        rig.hands.now += 25 * HOUR
        await sign_in(other, ADA)
    async with rig.engine.connect() as connection:
        assert len((await connection.execute(select(rows))).all()) == 1
        left = await connection.scalars(select(sign_in_attempts.c.key))
        assert left.all() == ["client:192.0.2.7"]  # It has just been counted.


async def test_who_is_disabled_or_has_another_role_is_so_at_once(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    now = rig.hands.now
    async with browser(site) as client:
        await sign_in(client, ADA)
        assert (await client.get("/users")).status_code == 200
        async with rig.engine.begin() as connection:
            await users.set_role(connection, ADA, Role.CSM, by=boss("x"), now=now)
        assert (await client.get("/users")).status_code == 403
        async with rig.engine.begin() as connection:
            await users.disable(connection, ADA, by=boss("x"), now=now)
        assert not await is_in(client)
        assert (await sign_in(client, ADA)).status_code == 403
        async with rig.engine.begin() as connection:
            await users.enable(connection, ADA, by=boss("x"), now=now)
        rig.hands.now += timedelta(minutes=1)
        assert not await is_in(client)
        await sign_in(client, ADA)
        assert await is_in(client)


async def test_signing_out_ends_it_here_and_now(rig: Rig, site: httpx.ASGITransport) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    async with browser(site) as client:
        await sign_in(client, ADA)
        kept = client.cookies["perennial"]
        assert (await client.get("/sign-out")).status_code == 405
        out = await client.post("/sign-out")
        assert (out.status_code, out.headers["location"]) == (303, "/sign-in?out=1")
        assert "perennial" not in client.cookies
        client.cookies.set("perennial", kept)
        assert not await is_in(client)


async def test_wrong_words_are_refused_alike_and_audited_without_what_was_typed(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    pages = []
    async with browser(site) as client:
        for address, password in (
            (ADA, "wrong"),
            ("bo@vendor.example", PASSWORD),
            (PASSWORD, "\0"),
        ):
            answer = await sign_in(client, address, password)
            assert answer.status_code == 403
            pages.append(re.sub(r'value="[^"]*"', "", answer.text))
        assert (await sign_in(client, "\0", "x" * 5_000)).status_code == 403
    assert len(set(pages)) == 1
    async with rig.engine.connect() as connection:
        refused = (await audit.read(connection, limit=4))[1:]
        attempts = str((await connection.execute(select(sign_in_attempts))).all())
    assert [one.action for one in refused] == ["sign_in.refused"] * 3
    # Who is no user may be anybody: one has typed the password as an address.
    assert [one.actor for one in refused] == ["", "", ADA]
    assert {one.detail["client"] for one in refused} == {"192.0.2.7"}
    assert PASSWORD not in attempts
    assert ADA not in attempts


async def test_guesses_wait_longer_and_longer_but_nobody_is_locked_out(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    async with browser(site) as home, browser(site) as attacker:
        await sign_in(home, ADA)
        waits = []
        for _ in range(12):
            answer = await sign_in(attacker, ADA, "a guess")
            while answer.status_code == 429:
                waits.append(int(answer.headers["retry-after"]))
                rig.hands.now += timedelta(seconds=waits[-1])
                answer = await sign_in(attacker, ADA, "a guess")
            assert answer.status_code == 403
        # Three are free, the fourth waits for a second, and so on, up to a minute; told with a
        # second more, as the browser's clock and ours are not in step.
        assert waits == [2, 3, 5, 9, 17, 33, 61, 61]
        waiting = await sign_in(attacker, ADA)
        assert (waiting.status_code, "seconds" in waiting.text) == (429, True)
        # Her own browser is known, and waits for nobody.
        await home.post("/sign-out")
        assert (await sign_in(home, ADA)).status_code == 303
        # Nor does a link wait; it takes away what others did to her address.
        async with rig.engine.begin() as connection:
            token = await users.reset(connection, ADA, by=boss("x"), now=rig.hands.now)
        fresh = {"password": f"{PASSWORD} again", "again": f"{PASSWORD} again"}
        async with browser(site) as elsewhere:
            assert (await elsewhere.post(f"/welcome/{token}", data=fresh)).status_code == 303
            await elsewhere.post("/sign-out")
            elsewhere.cookies.clear()
            answer = await sign_in(elsewhere, ADA, fresh["password"])
            assert answer.status_code == 303


async def test_guesses_at_once_count_one_by_one(rig: Rig, site: httpx.ASGITransport) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    async with browser(site) as attacker:
        answers = await asyncio.gather(*(sign_in(attacker, ADA, f"g{n}") for n in range(10)))
    # Three are free, and the fourth is compared too: it is the fifth that has to wait.
    found = sorted(answer.status_code for answer in answers)
    assert found == [403] * 4 + [429] * 6


async def test_one_client_cannot_try_all_addresses(site: httpx.ASGITransport) -> None:
    async with browser(site) as attacker:
        found = [
            (await sign_in(attacker, f"u{number}@vendor.example", "a guess")).status_code
            for number in range(25)
        ]
    assert found == [403] * 21 + [429] * 4


async def test_unknown_names_take_as_long(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int, int]] = []
    derive = passwords._Cost.derive

    def counted(cost: passwords._Cost, password: str, salt: bytes) -> bytes:
        compared.append((cost.log2_n, cost.r, cost.p))
        return derive(cost, password, salt)

    monkeypatch.setattr(passwords._Cost, "derive", counted)
    async with open_console(rig) as site, browser(site) as client:
        await sign_in(client, "nobody@vendor.example")
    assert compared == [(15, 8, 3)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_who_is_not_signed_in_sees_nothing(
    rig: Rig, site: httpx.ASGITransport, method: str
) -> None:
    await rig.take(flag())
    async with browser(site) as client:
        for path in ("/accounts/acme?x=1", "/", "/nowhere", "/users", "/audit"):
            answer = await client.request(method, path)
            assert answer.status_code == (401 if method == "POST" else 303), path
            assert "acme" not in answer.text
        assert (await client.get("/accounts/acme?x=1")).headers["location"] == (
            "/sign-in?next=%2Faccounts%2Facme%3Fx%3D1"
        )
        status = await client.get("/v1/status")
        assert (status.status_code, status.json()["code"]) == (401, "not_signed_in")
        for path in ("/sign-in", "/static/console.css"):
            assert (await client.get(path)).status_code == 200


async def test_a_forged_or_foreign_cookie_is_nobody(rig: Rig, site: httpx.ASGITransport) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    async with rig.engine.begin() as connection:
        by_provider = await sign_ins.begin(connection, ADA, way="oidc", now=rig.hands.now)
    for value in ("x", "", users.digest("x"), by_provider):
        async with browser(site, cookies=httpx.Cookies({"perennial": value})) as client:
            assert not await is_in(client)


async def test_another_site_signs_nobody_in_or_out(rig: Rig, site: httpx.ASGITransport) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    evil = {"Origin": "https://evil.example"}
    async with browser(site) as client:
        sent = {"address": ADA, "password": PASSWORD}
        assert (await client.post("/sign-in", data=sent, headers=evil)).status_code == 403
        assert not await is_in(client)
        await sign_in(client, ADA)
        assert (await client.post("/sign-out", headers=evil)).status_code == 403
        assert await is_in(client)


async def test_over_https_the_cookie_is_bound_to_the_host_and_browsers_keep_to_it(
    rig: Rig,
) -> None:
    await add_user(rig, ADA, Role.ADMIN)
    url = "https://console.vendor.example"
    async with open_console(rig, perennial_console_url=url) as site, browser(site, url) as client:
        answer = await sign_in(client, ADA)
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert "__Host-perennial" in client.cookies
        assert await is_in(client)
        # A page of a sibling host could set the plain name; it is not looked at.
        plain = httpx.Cookies({"perennial": client.cookies["__Host-perennial"]})
    async with (
        open_console(rig, perennial_console_url=url) as site,
        browser(site, url, plain) as other,
    ):
        assert not await is_in(other)
    async with open_console(rig) as site, browser(site) as client:
        assert "strict-transport-security" not in (await client.get("/sign-in")).headers


async def test_this_machine_is_open_until_there_is_a_user(rig: Rig) -> None:
    async with (
        open_console(rig, perennial_console_sign_in=SignIn.AUTO) as site,
        browser(site) as client,
    ):
        assert await is_in(client)
        assert "There are no users" in (await client.get("/users")).text
        assert (await client.get("/sign-in")).headers["location"] == "/"
        added = await client.post("/users", data={"address": ADA, "role": "admin"})
        [link] = re.findall(rf"{URL}:8082(/welcome/[\w-]+)|127\.0\.0\.1:8082(/welcome/[\w-]+)",
                            added.text)  # fmt: skip
        assert not await is_in(client)
        sent = {"password": PASSWORD, "again": PASSWORD}
        assert (await client.post("".join(link), data=sent)).status_code == 303
        assert await is_in(client)


async def test_published_it_is_never_open(rig: Rig) -> None:
    async with (
        open_console(
            rig,
            perennial_console_sign_in=SignIn.AUTO,
            perennial_console_url="https://console.vendor.example",
        ) as site,
        browser(site) as client,
    ):
        assert not await is_in(client)


async def test_who_acts_is_in_the_timeline_and_the_audit(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    await rig.take(flag())
    (row,) = await rig.interventions()
    await add_user(rig, OWNER, Role.MANAGER)
    async with browser(site) as client:
        await sign_in(client, OWNER)
        await client.post(f"/interventions/{row.id}/acknowledge", data={"version": "1"})
    (row,) = await rig.interventions()
    assert row.acknowledged_by == OWNER
    async with rig.engine.connect() as connection:
        [told] = await audit.read(connection, account="acme")
    assert (told.actor, told.role, told.way) == (OWNER, "manager", "local")
    assert (told.action, told.subject) == ("intervention.acknowledged", str(row.id))
