"""What an operator sets for the notifier; a field's name in upper case is its variable."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from services.notifier.domain.access import Role, SignIn
from services.notifier.domain.attempts import WEBHOOK_SCHEDULE, OnAmbiguous, Patience
from services.notifier.domain.decisions import Timing
from services.notifier.domain.holdout import LARGEST_SHARE
from services.notifier.domain.identity import Registration, roles_of
from services.notifier.domain.people import is_mail_address
from services.notifier.domain.policy import Storm
from shared.hosts import is_loopback
from shared.settings import Settings

_PRINTABLE = re.compile(r"[!-~]+")


class NotifierSettings(Settings):
    """The notifier, its channels and its console."""

    perennial_host: str = Field(default="127.0.0.1", description="address the console listens on")
    notifier_port: int = Field(default=8082, ge=0, le=65535, description="port of the console")
    scoring_port: int = Field(default=8081, ge=0, le=65535)

    slack_bot_token: SecretStr | None = Field(
        default=None,
        description="xoxb-..., of a Slack app that may chat:write; with SLACK_SIGNING_SECRET:"
        " buttons, threads, messages kept current; absent: the webhook, or nothing",
    )
    slack_signing_secret: SecretStr | None = Field(
        default=None, min_length=16, description="of the same Slack app: it signs the clicks"
    )
    slack_webhook_url: SecretStr | None = Field(
        default=None,
        description="Slack incoming webhook: messages alone; not used beside SLACK_BOT_TOKEN",
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        description="smtp://user:pass@host:port, smtps://..., ?starttls=required|never; TLS is"
        " required by default unless the host is loopback; absent: no e-mail",
    )
    perennial_webhook_secrets: SecretStr | None = Field(
        default=None,
        description='{"name": "whsec_..."} or {"name": ["new", "old"]}: signs what the team'
        " file's webhooks get; absent: no webhooks",
    )
    perennial_webhook_allow: str = Field(
        default="",
        description="networks of yours that webhooks may lead to, over http and other ports too,"
        " such as 10.20.0.0/16; empty: public addresses over https on port 443 only",
    )
    perennial_apprise_urls: SecretStr | None = Field(
        default=None,
        description='{"name": "msteams://..."}; needs the extra `apprise`, which connects'
        " unguarded; absent: none",
    )
    perennial_mail_from: str = Field(
        default="perennial@localhost", description="sender of e-mails, an address"
    )
    perennial_fallback_owner: str = Field(
        default="customer-success@localhost",
        description="e-mail of who acts where an account has no owner, or theirs is refused",
    )
    perennial_team_file: Path | None = Field(
        default=None,
        description="people, teams, whose the accounts are, resellers (YAML); absent: all is the"
        " fallback owner's; read again when it changes",
    )
    perennial_playbooks: Path | None = Field(
        default=None,
        description="folder of playbooks (*.yaml) in place of ours; read again when it changes",
    )
    perennial_console_url: str | None = Field(
        default=None, description="the console as people reach it; links in messages begin so"
    )
    perennial_console_sign_in: SignIn = Field(
        default=SignIn.AUTO,
        description="open: nobody signs in, on loopback only; local: by passwords of ours; oidc: by"
        " the identity provider; auto: open on loopback until there is a user, else local",
    )
    perennial_oidc_issuer: str | None = Field(
        default=None, description="the provider's address, as its own metadata says it"
    )
    perennial_oidc_client_id: str | None = Field(default=None, min_length=1)
    perennial_oidc_client_secret: SecretStr | None = Field(
        default=None, min_length=1, description="of that client; absent: a public one"
    )
    perennial_oidc_scope: str = Field(
        default="openid email profile", description="some providers need one more for groups"
    )
    perennial_oidc_role_claim: str | None = Field(
        default=None,
        description="claim whose values PERENNIAL_OIDC_ROLES maps, such as groups, or"
        " realm_access.roles for one within another",
    )
    perennial_oidc_roles: str = Field(
        default="",
        description='{"cs-leads": "manager", ...}: the highest role that matches holds, at each'
        " sign-in anew",
    )
    perennial_oidc_default_role: Role | None = Field(
        default=None, description="of whom the mapping does not name; absent: they are refused"
    )
    perennial_oidc_unverified_email: bool = Field(
        default=False,
        description="take addresses that the provider has not verified: only where nobody can"
        " choose their own there",
    )
    perennial_scoring_url: str | None = Field(
        default=None, description="scoring's read API; default: this machine, SCORING_PORT"
    )

    perennial_delivery_senders: int = Field(
        default=8, ge=1, le=32, description="messages under way at once, one to a destination"
    )
    perennial_delivery_lease_seconds: float = Field(default=60, gt=0, le=3_600)
    perennial_delivery_timeout_seconds: float = Field(default=15, gt=0, le=300)
    perennial_delivery_retry_first_seconds: float = Field(default=5, gt=0)
    perennial_delivery_retry_last_seconds: float = Field(default=900, gt=0)
    perennial_delivery_dead_after_seconds: float = Field(
        default=4 * 3_600, gt=0, description="then somebody else is told instead"
    )
    perennial_delivery_dead_after_urgent_seconds: float = Field(default=1_800, gt=0)
    perennial_delivery_dead_after_last_seconds: float = Field(
        default=72 * 3_600, gt=0, description="where nobody else can be told"
    )
    perennial_delivery_hold_ambiguous: bool = Field(
        default=False,
        description="a message whose answer was lost waits for `perennial notify again` instead of"
        " being sent again: none comes twice, but some not at all",
    )
    perennial_slack_api_url: str = Field(
        default="https://slack.com/api", description="another one only for tests"
    )
    perennial_slack_pace_seconds: float = Field(
        default=1, ge=0, description="between two messages; Slack allows one a second"
    )

    perennial_group_wait_seconds: float = Field(
        default=30,
        ge=0,
        le=3_600,
        description="before something is told: what is over by then is not, what comes joins",
    )
    perennial_group_interval_seconds: float = Field(
        default=300, ge=0, le=86_400, description="between two messages about one account"
    )
    perennial_update_debounce_seconds: float = Field(
        default=45, ge=0, le=3_600, description="before a message that is there is changed"
    )
    perennial_storm_interventions: int = Field(
        default=20,
        ge=1,
        description="more new ones for one person in PERENNIAL_STORM_MINUTES are one message",
    )
    perennial_storm_minutes: float = Field(default=15, gt=0, le=1_440)
    perennial_urgent_value: Decimal = Field(
        default=Decimal(25_000),
        ge=0,
        description="at risk, from which on it is told again, and what is critical and has less"
        " than 30 days to the notice deadline may break into quiet hours",
    )

    perennial_history_retention_days: int = Field(
        default=1_098,
        ge=400,
        description="days for which ended work, messages, the audit log and, in scoring, outcomes"
        " and flags are kept: three years",
    )
    perennial_hold_out_share: float = Field(
        default=0,
        ge=0,
        le=LARGEST_SHARE,
        description="of accounts whose interventions nobody is told of, drawn anew each quarter, to"
        " measure what telling is good for; critical ones are told all the same",
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
        if value is not None:
            _check_secure(value.get_secret_value())
        return value

    @field_validator("perennial_slack_api_url")
    @classmethod
    def _is_secure(cls, value: str) -> str:
        _check_secure(value)
        return value.rstrip("/")

    @field_validator("slack_bot_token", "slack_signing_secret")
    @classmethod
    def _is_printable(cls, value: SecretStr | None) -> SecretStr | None:
        # It goes into a header, where anything else would fail at the first message.
        if value is not None and not _PRINTABLE.fullmatch(value.get_secret_value()):
            raise ValueError("must be letters, digits and signs without spaces")
        return value

    @field_validator("perennial_oidc_issuer")
    @classmethod
    def _is_issuer(cls, value: str | None) -> str | None:
        if value is not None:
            _check_secure(value)
        return value

    @field_validator("perennial_oidc_roles")
    @classmethod
    def _is_mapping(cls, value: str) -> str:
        try:
            roles_of(value)
        except ValueError:
            raise ValueError(
                'must be {"value of the claim": "viewer, csm, manager or admin", ...}'
            ) from None
        return value

    @model_validator(mode="after")
    def _has_all_of_roles(self) -> Self:
        if (self.perennial_oidc_role_claim is None) != (not self.perennial_oidc_roles):
            raise ValueError(
                "PERENNIAL_OIDC_ROLE_CLAIM and PERENNIAL_OIDC_ROLES belong together: set both, or"
                " none"
            )
        return self

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
    def _has_both_of_slack(self) -> Self:
        if (self.slack_bot_token is None) != (self.slack_signing_secret is None):
            raise ValueError(
                "SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET belong together: set both, or none"
            )
        return self

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
    def is_private(self) -> bool:
        """Whether only this machine reaches the console, by all that is set."""
        name = urlsplit(self.console_url).hostname or ""
        return is_loopback(self.perennial_host) and is_loopback(name)

    @property
    def oidc(self) -> Registration | None:
        issuer, client_id = self.perennial_oidc_issuer, self.perennial_oidc_client_id
        if issuer is None or client_id is None:
            return None
        return Registration(
            issuer=issuer,
            client_id=client_id,
            scope=self.perennial_oidc_scope,
            role_claim=self.perennial_oidc_role_claim,
            roles=roles_of(self.perennial_oidc_roles),
            default_role=self.perennial_oidc_default_role,
            takes_unverified=self.perennial_oidc_unverified_email,
        )

    @property
    def scoring_url(self) -> str:
        return self.perennial_scoring_url or f"http://127.0.0.1:{self.scoring_port}"

    @property
    def patience(self) -> Mapping[str, Patience]:
        """Of each channel."""
        usual = Patience(
            retry_first=timedelta(seconds=self.perennial_delivery_retry_first_seconds),
            retry_last=timedelta(seconds=self.perennial_delivery_retry_last_seconds),
            dead_after=timedelta(seconds=self.perennial_delivery_dead_after_seconds),
            dead_after_urgent=timedelta(seconds=self.perennial_delivery_dead_after_urgent_seconds),
            dead_after_last=timedelta(seconds=self.perennial_delivery_dead_after_last_seconds),
            on_ambiguous=(
                OnAmbiguous.HOLD if self.perennial_delivery_hold_ambiguous else OnAmbiguous.RETRY
            ),
        )
        return {
            "slack": usual,
            "email": usual,
            "webhook": replace(usual, schedule=WEBHOOK_SCHEDULE, one_service=False),
            "apprise": replace(usual, one_service=False),
        }

    @property
    def timing(self) -> Timing:
        return Timing(
            wait=timedelta(seconds=self.perennial_group_wait_seconds),
            interval=timedelta(seconds=self.perennial_group_interval_seconds),
            debounce=timedelta(seconds=self.perennial_update_debounce_seconds),
        )

    @property
    def storm(self) -> Storm:
        return Storm(
            limit=self.perennial_storm_interventions,
            within=timedelta(minutes=self.perennial_storm_minutes),
        )

    @property
    def history(self) -> timedelta:
        return timedelta(days=self.perennial_history_retention_days)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.perennial_delivery_lease_seconds)

    @property
    def longest_send(self) -> timedelta:
        """Of one message, from its claim until it is recorded or another sender takes it."""
        return self.lease + timedelta(seconds=self.perennial_delivery_timeout_seconds)


def _check_secure(url: str) -> None:
    if not is_secure(url):
        raise ValueError("must be an https:// address (http:// only on loopback)")


def is_secure(url: str) -> bool:
    """Whether nobody on the way can read what is said to that address."""
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    return bool(parts.hostname) and (parts.scheme == "https" or is_local)


def is_wildcard(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened on
