"""What an operator may set; each wrong value is named at start."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.notifier.app import check
from services.notifier.domain.access import SignIn
from services.notifier.domain.people import is_mail_address
from services.notifier.settings import NotifierSettings
from shared.errors import Misconfigured
from shared.settings import read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLACK_WEBHOOK_URL", "http://hooks.slack.com/services/T/B/secret"),
        ("SLACK_WEBHOOK_URL", "secret"),
        ("SLACK_BOT_TOKEN", "xoxb-1 2"),
        ("SLACK_SIGNING_SECRET", "tooshort"),
        ("PERENNIAL_SLACK_API_URL", "http://slack.example/api"),
        ("PERENNIAL_SLACK_API_URL", "slack.example"),
        ("PERENNIAL_MAIL_FROM", "not an address"),
        ("PERENNIAL_FALLBACK_OWNER", "lead@x\r\nBcc: y@z"),
        ("PERENNIAL_CONSOLE_URL", "javascript:alert(1)"),
        ("PERENNIAL_CONSOLE_SIGN_IN", "shut"),
        ("PERENNIAL_DELIVERY_LEASE_SECONDS", "20"),
    ],
)
def test_a_wrong_value_is_named_but_never_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=name) as caught:
        read(NotifierSettings)
    assert value not in str(caught.value)


@pytest.mark.parametrize("name", ["SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET"])
def test_a_slack_app_has_both_of_its_secrets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8f742231b10e8888abcd99")
    with pytest.raises(Misconfigured, match="belong together"):
        read(NotifierSettings)


@pytest.mark.parametrize("url", ["https://slack.example/api/", "http://127.0.0.1:1/api"])
def test_slacks_api_may_be_elsewhere_for_tests(url: str) -> None:
    assert NotifierSettings(perennial_slack_api_url=url).perennial_slack_api_url in (url, url[:-1])


@pytest.mark.parametrize(
    "reach",
    [
        {"perennial_host": "0.0.0.0"},
        {"perennial_host": "192.168.1.5", "perennial_console_url": "https://c.example"},
        pytest.param({"perennial_console_url": "https://c.example"}, id="a proxy before loopback"),
    ],
)
def test_the_console_is_never_open_to_others(reach: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="PERENNIAL_CONSOLE_SIGN_IN is open"):
        check(NotifierSettings(perennial_console_sign_in="open", **reach))
    settings = NotifierSettings(**reach)
    check(settings)
    assert not settings.is_private


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("mode", list(SignIn)[:3])
def test_this_machine_may_be_open(host: str, mode: SignIn) -> None:
    settings = NotifierSettings(perennial_host=host, perennial_console_sign_in=mode)
    check(settings)
    assert settings.is_private


@pytest.mark.parametrize("mode", ["auto", "local"])
def test_passwords_are_not_sent_in_plain_text(mode: Any) -> None:
    url: dict[str, Any] = {"perennial_console_url": "http://console.example"}
    with pytest.raises(Misconfigured, match="https://"):
        check(NotifierSettings(perennial_console_sign_in=mode, **url))


def test_a_provider_is_named_or_not_asked_for() -> None:
    known: dict[str, Any] = {"perennial_oidc_issuer": "https://id.example"}
    with pytest.raises(Misconfigured, match="PERENNIAL_OIDC_CLIENT_ID"):
        check(NotifierSettings(perennial_console_sign_in="oidc", **known))
    with pytest.raises(Misconfigured, match="PERENNIAL_CONSOLE_SIGN_IN"):
        check(NotifierSettings(**known))
    known["perennial_oidc_client_id"] = "perennial"
    check(NotifierSettings(perennial_console_sign_in="oidc", **known))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"perennial_oidc_issuer": "http://id.example"}, "https://"),
        ({"perennial_oidc_role_claim": "groups"}, "belong together"),
        ({"perennial_oidc_roles": '{"a": "admin"}'}, "belong together"),
        ({"perennial_oidc_role_claim": "g", "perennial_oidc_roles": '{"a": "boss"}'}, "must be"),
        ({"perennial_oidc_role_claim": "g", "perennial_oidc_roles": '["admin"]'}, "must be"),
    ],
)
def test_what_is_wrong_about_a_provider_ends_the_start(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NotifierSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "http://127.0.0.1:8082"),
        ({"perennial_host": "0.0.0.0"}, "http://localhost:8082"),
        ({"perennial_host": "::1", "notifier_port": 1}, "http://[::1]:1"),
        ({"perennial_console_url": "https://c.example/"}, "https://c.example"),
    ],
)
def test_links_lead_to_the_console(changes: dict[str, Any], url: str) -> None:
    assert NotifierSettings(**changes).console_url == url


def test_a_lease_must_outlast_a_send() -> None:
    with pytest.raises(ValidationError, match="second sender"):
        NotifierSettings(perennial_delivery_lease_seconds=30, perennial_delivery_timeout_seconds=15)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("anna@vendor.example", True),
        ("lead@localhost", True),
        ("Anna Keller", False),
        ("anna@x\nBcc: b@y", False),
        ("a@b, c@d", False),
        ("anna.keller@sales.vendor.example", True),
        ("a..b@vendor.example", False),
        (".anna@vendor.example", False),
        ("anna.@vendor.example", False),
        ("anna@vendor..example", False),
        ("anna@vendor.example.", False),
        ("anna@.example", False),
        ("<a@b>", False),
        ("é@x.example", False),
        ("", False),
    ],
)
def test_only_plain_addresses_are_mailed(text: str, *, is_one: bool) -> None:
    assert is_mail_address(text) is is_one
