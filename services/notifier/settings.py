"""What an operator sets for the notifier; a field's name in upper case is its variable."""

import ipaddress
import re
from datetime import timedelta
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.settings import Settings

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")


class NotifierSettings(Settings):
    """The notifier, its channels and its console."""

    perennial_host: str = Field(default="127.0.0.1", description="address the console listens on")
    notifier_port: int = Field(default=8082, ge=0, le=65535, description="port of the console")
    scoring_port: int = Field(default=8081, ge=0, le=65535)

    slack_webhook_url: SecretStr | None = Field(
        default=None, description="Slack incoming webhook; absent: nothing goes to Slack"
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        description="smtp://user:pass@host:port, smtps://..., ?starttls=required|never; TLS is"
        " required by default unless the host is loopback; absent: no e-mail",
    )
    perennial_mail_from: str = Field(
        default="perennial@localhost", description="sender of e-mails, an address"
    )
    perennial_fallback_owner: str = Field(
        default="customer-success@localhost",
        description="e-mail of who acts where an account has no owner, or theirs is refused",
    )
    perennial_console_url: str | None = Field(
        default=None, description="the console as people reach it; links in messages begin so"
    )
    perennial_console_password: SecretStr | None = Field(
        default=None,
        min_length=8,
        description="asks for HTTP Basic, any user name; required beyond loopback",
    )
    perennial_scoring_url: str | None = Field(
        default=None, description="scoring's read API; default: this machine, SCORING_PORT"
    )

    perennial_delivery_senders: int = Field(default=4, ge=1, le=32)
    perennial_delivery_lease_seconds: float = Field(default=60, gt=0, le=3_600)
    perennial_delivery_timeout_seconds: float = Field(default=15, gt=0, le=300)
    perennial_delivery_retry_first_seconds: float = Field(default=5, gt=0)
    perennial_delivery_retry_last_seconds: float = Field(default=900, gt=0)
    perennial_delivery_dead_after_seconds: float = Field(default=4 * 3_600, gt=0)
    perennial_slack_pace_seconds: float = Field(
        default=1, ge=0, description="between two messages; Slack allows one a second"
    )

    @field_validator("perennial_mail_from", "perennial_fallback_owner")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not is_mail_address(value):
            raise ValueError("must be an e-mail address, such as team@example.com")
        return value

    @field_validator("slack_webhook_url")
    @classmethod
    def _is_webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        parts = urlsplit(value.get_secret_value())
        if parts.hostname is None or (
            parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname))
        ):
            raise ValueError("must be an https:// address (http:// only on loopback)")
        return value

    @field_validator("perennial_console_url", "perennial_scoring_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or parts.hostname is None or "|" in value:
            raise ValueError("must be an http:// or https:// address")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _sends_end_before_leases(self) -> Self:
        # E-mail may use its time twice: before the message, and for it.
        if 2 * self.perennial_delivery_timeout_seconds >= self.perennial_delivery_lease_seconds:
            raise ValueError(
                "PERENNIAL_DELIVERY_TIMEOUT_SECONDS must be less than half of"
                " PERENNIAL_DELIVERY_LEASE_SECONDS, else a second sender takes over mid-send"
            )
        return self

    @property
    def console_url(self) -> str:
        host = "localhost" if is_wildcard(self.perennial_host) else self.perennial_host
        host = f"[{host}]" if ":" in host else host
        return self.perennial_console_url or f"http://{host}:{self.notifier_port}"

    @property
    def scoring_url(self) -> str:
        return self.perennial_scoring_url or f"http://127.0.0.1:{self.scoring_port}"

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.perennial_delivery_lease_seconds)


def is_mail_address(text: str) -> bool:
    """Whether it is a plain ASCII address: what is odd goes to the fallback owner instead."""
    return _ADDRESS.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened on
