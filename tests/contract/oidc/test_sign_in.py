"""Sign-in by a real OpenID provider, as a browser goes through it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.notifier import audit, users
from services.notifier.domain.access import Role
from services.notifier.domain.identity import NotIdentified
from tests.contract.oidc.conftest import Entry, open_entry
from tests.contract.oidc.provider import NodeProvider, go_through
from tests.integration.notifier.rig import Rig, boss

LEAD, CSM = "lead@vendor.example", "carla@vendor.example"


async def test_a_person_comes_in_in_their_role_where_they_wanted_to_go(entry: Entry) -> None:
    asked = await entry.browser.get(f"{entry.url}/deliveries?show=dead")
    assert (asked.status_code, asked.headers["location"]) == (
        303,
        "/sign-in?next=%2Fdeliveries%3Fshow%3Ddead",
    )
    page = await entry.browser.get(f"{entry.url}{asked.headers['location']}")
    assert "/sign-in/oidc?next=%2Fdeliveries%3Fshow%3Ddead" in page.text
    back = await entry.come_in(LEAD, to="/deliveries?show=dead")
    assert (back.status_code, back.headers["location"]) == (303, "/deliveries?show=dead")
    async with entry.rig.engine.connect() as connection:
        user = await users.read(connection, LEAD)
        [first, *_] = await audit.read(connection)
    assert user is not None
    # Of "csm" for everybody and "manager" for leads the higher one.
    assert (user.role, user.password) == (Role.MANAGER, None)
    assert (first.actor, first.role, first.way, first.action) == (
        LEAD,
        "manager",
        "oidc",
        "sign_in",
    )
    assert "lead" in (await entry.browser.get(f"{entry.url}/deliveries")).text


async def test_signing_out_is_of_this_console(entry: Entry) -> None:
    await entry.come_in(CSM)
    out = await entry.browser.post(f"{entry.url}/sign-out", headers={"Origin": entry.url})
    assert out.status_code == 303
    assert (await entry.browser.get(f"{entry.url}/")).status_code == 303
    assert "not of your provider" in (await entry.browser.get(f"{entry.url}/sign-in?out=1")).text


@pytest.mark.parametrize(
    ("person", "said"),
    [
        ("unverified@vendor.example", "has not verified"),
        ("nameless@vendor.example", "did not say your e-mail"),
    ],
)
async def test_an_address_must_be_there_and_verified(entry: Entry, person: str, said: str) -> None:
    answer = await entry.come_in(person)
    assert (answer.status_code, said in answer.text) == (403, True)
    assert (await entry.browser.get(f"{entry.url}/")).status_code == 303
    async with entry.rig.engine.connect() as connection:
        assert await users.read_all(connection) == []
        assert [one.action for one in await audit.read(connection)] == ["sign_in.refused"]


async def test_who_has_no_role_is_refused_unless_there_is_one_for_all(
    rig: Rig, node: NodeProvider, console_port: int
) -> None:
    roles: dict[str, Any] = {"perennial_oidc_roles": '{"cs-leads": "manager"}'}
    async with open_entry(rig, node, console_port, **roles) as entry:
        answer = await entry.come_in(CSM)
        assert (answer.status_code, "no role" in answer.text) == (403, True)
    async with open_entry(
        rig, node, console_port, perennial_oidc_default_role=Role.VIEWER, **roles
    ) as entry:
        assert (await entry.come_in(CSM)).status_code == 303
    async with rig.engine.connect() as connection:
        user = await users.read(connection, CSM)
    assert user is not None
    assert user.role is Role.VIEWER


async def test_who_was_disabled_here_stays_out(entry: Entry) -> None:
    await entry.come_in(CSM)
    async with entry.rig.engine.begin() as connection:
        await users.disable(connection, CSM, by=boss("ada"), now=entry.rig.hands.now)
    assert (await entry.browser.get(f"{entry.url}/")).status_code == 303
    answer = await entry.come_in(CSM)
    assert (answer.status_code, "ended by an admin" in answer.text) == (403, True)


async def test_a_role_that_the_provider_takes_away_is_gone_at_the_next_sign_in(
    entry: Entry,
) -> None:
    await entry.come_in(CSM)
    async with entry.rig.engine.begin() as connection:
        by, now = boss("ada"), entry.rig.hands.now
        await users.set_role(connection, CSM, Role.ADMIN, by=by, now=now)
    assert (await entry.browser.get(f"{entry.url}/users")).status_code == 200
    await entry.come_in(CSM)
    assert (await entry.browser.get(f"{entry.url}/users")).status_code == 403


async def test_another_browser_cannot_use_the_answer_and_nobody_can_twice(entry: Entry) -> None:
    start = f"{entry.url}/sign-in/oidc"
    back = await go_through(entry.browser, start, CSM, until=entry.back_to)
    async with httpx.AsyncClient() as other:
        assert (await other.get(back)).status_code == 403
        # An answer to somebody else's question, such as an attacker's link.
        await other.get(start)
        assert (await other.get(back)).status_code == 403
        assert not any(one.name == "perennial" for one in other.cookies.jar)
    kept = entry.browser.cookies.get("perennial-going") or ""
    assert (await entry.browser.get(back)).status_code == 303
    async with httpx.AsyncClient(cookies={"perennial-going": kept}) as again:
        answer = await again.get(back)
    assert (answer.status_code, "could not be taken" in answer.text) == (403, True)


async def test_the_code_is_bound_to_the_verifier_and_the_token_to_the_nonce(entry: Entry) -> None:
    async def code_for(going: Any) -> str:
        address = await entry.provider.address(going, back_to=entry.back_to)
        back = await go_through(entry.browser, address, CSM, until=entry.back_to)
        return str(httpx.URL(back).params["code"])

    going = entry.provider.setting_out()
    known: dict[str, Any] = {"issuer": entry.node.issuer, "back_to": entry.back_to}
    claims = await entry.provider.claims(going, code=await code_for(going), **known)
    assert claims["email"] == CSM
    stolen = replace(going, verifier="v" * 64)
    with pytest.raises(NotIdentified, match="refuses the code: invalid_grant"):
        await entry.provider.claims(stolen, code=await code_for(going), **known)
    replayed = replace(going, nonce="another")
    with pytest.raises(NotIdentified, match="ID token"):
        await entry.provider.claims(replayed, code=await code_for(going), **known)
    for issuer in ("https://evil.example", None):
        with pytest.raises(NotIdentified, match="another provider"):
            await entry.provider.claims(
                going, code=await code_for(going), issuer=issuer, back_to=entry.back_to
            )


@pytest.mark.parametrize(
    ("off", "status"),
    [
        pytest.param(timedelta(seconds=-30), 303, id="ours is slow"),
        pytest.param(timedelta(seconds=30), 303, id="ours is fast"),
        pytest.param(timedelta(minutes=-5), 403, id="from the future"),
        pytest.param(timedelta(minutes=15), 403, id="long over"),
    ],
)
async def test_clocks_may_differ_by_a_minute(entry: Entry, off: timedelta, status: int) -> None:
    start = f"{entry.url}/sign-in/oidc"
    entry.rig.hands.now = datetime.now(UTC) + off
    back = await go_through(entry.browser, start, CSM, until=entry.back_to)
    assert (await entry.browser.get(back)).status_code == status


async def test_while_the_provider_is_away_who_is_in_stays_and_others_are_told(
    entry: Entry,
) -> None:
    await entry.come_in(CSM)
    entry.node.stop()
    assert (await entry.browser.get(f"{entry.url}/deliveries")).status_code == 200
    async with httpx.AsyncClient() as other:
        # What it said of itself is kept for an hour.
        entry.rig.hands.now += timedelta(minutes=61)
        assert (await other.get(f"{entry.url}/sign-in")).status_code == 200
        entry.provider._metadata = None
        assert "does not answer" in (await other.get(f"{entry.url}/sign-in")).text
        answer = await other.get(f"{entry.url}/sign-in/oidc")
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)
    assert (await entry.browser.get(f"{entry.url}/deliveries")).status_code == 200


async def test_new_keys_of_the_provider_are_fetched(entry: Entry) -> None:
    await entry.come_in(CSM)
    entry.node.stop()
    await entry.node.start()
    entry.rig.hands.now = datetime.now(UTC) + timedelta(seconds=10)
    refused = await entry.come_in(CSM)
    assert refused.status_code == 403  # Within a minute nobody makes us ask again.
    entry.provider._keys_at = entry.rig.hands.now - timedelta(seconds=61)
    assert (await entry.come_in(CSM)).status_code == 303


async def test_a_public_client_has_no_secret(
    rig: Rig, node: NodeProvider, console_port: int
) -> None:
    known: dict[str, Any] = {"perennial_oidc_client_id": "perennial-public", "secret": None}
    async with open_entry(rig, node, console_port, **known) as entry:
        assert (await entry.come_in(CSM)).status_code == 303


async def test_a_wrong_secret_lets_nobody_in(
    rig: Rig, node: NodeProvider, console_port: int
) -> None:
    async with open_entry(rig, node, console_port, secret="wrong") as entry:
        answer = await entry.come_in(CSM)
    assert (answer.status_code, "could not be taken" in answer.text) == (403, True)
