"""What is believed of a provider's own description; the rest is in the contract tests."""

from datetime import UTC, datetime

import httpx
import pytest

from services.notifier.domain.identity import NotIdentified, Registration
from services.notifier.oidc import Provider

ISSUER = "https://id.vendor.example"
NAMED = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")


@pytest.mark.parametrize("plain", NAMED)
async def test_no_address_of_the_provider_may_be_read_on_the_way(plain: str) -> None:
    said = {"issuer": ISSUER} | {name: f"{ISSUER}/{name}" for name in NAMED}
    said[plain] = said[plain].replace("https:", "http:")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=said))
    registration = Registration(
        issuer=ISSUER,
        client_id="perennial",
        scope="openid",
        role_claim=None,
        roles={},
        default_role=None,
        takes_unverified=False,
    )
    async with httpx.AsyncClient(transport=transport) as client:
        provider = Provider(
            registration=registration,
            secret=None,
            client=client,
            clock=lambda: datetime(2026, 6, 1, tzinfo=UTC),
        )
        with pytest.raises(NotIdentified, match="not https"):
            await provider.address(provider.setting_out(), back_to=f"{ISSUER}/return")
