"""The ways out to people: whether they are set, whether they take us, what was given up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.doctor.findings import Area, Finding, failed, ok, warning
from services.notifier import reloading, restored, templates
from services.notifier.channels import DeliveryError, named
from services.notifier.channels.addresses import Refused, judge, networks_of, resolve, where
from services.notifier.channels.email import Email, server_of
from services.notifier.channels.slack_app import open_slack_app
from services.notifier.settings import NotifierSettings
from services.notifier.tables import channels, deliveries, destinations
from shared.clock import Clock
from shared.errors import Misconfigured

_LIMIT: Final = timedelta(seconds=10)
_LATE: Final = timedelta(minutes=5)
_DAY: Final = timedelta(days=1)


async def look(settings: NotifierSettings) -> list[Finding]:
    """Sign in where one can without telling anybody anything."""
    if not any(_ways(settings).values()):
        return [
            warning(
                Area.MESSAGES,
                "no way out is set: interventions are in the console only",
                "set SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET, SMTP_URL, or"
                " PERENNIAL_WEBHOOK_SECRETS",
            )
        ]
    findings = []
    asks: tuple[tuple[SecretStr | None, Callable[[], Awaitable[Finding | list[Finding]]]], ...] = (
        (settings.slack_bot_token, lambda: _slack(settings)),
        (settings.smtp_url, lambda: _mail(settings)),
        (settings.perennial_webhook_secrets, lambda: _webhooks(settings)),
    )
    for setting, ask in asks:
        if setting is None:
            continue
        found = await ask()
        findings += found if isinstance(found, list) else [found]
    return findings


def _ways(settings: NotifierSettings) -> Mapping[str, bool]:
    return {
        "slack": bool(settings.slack_bot_token or settings.slack_webhook_url),
        "email": settings.smtp_url is not None,
        "webhook": settings.perennial_webhook_secrets is not None,
        "apprise": settings.perennial_apprise_urls is not None,
    }


async def _slack(settings: NotifierSettings) -> Finding:
    token, url = settings.slack_bot_token, settings.perennial_slack_api_url
    assert token is not None  # noqa: S101 - `look` asks only then
    async with open_slack_app(token, url=url, pace=timedelta(0), limit=_LIMIT) as slack:
        try:
            return ok(Area.MESSAGES, f"Slack knows the bot token as {await slack.identity()}")
        except DeliveryError as error:
            return failed(
                Area.MESSAGES,
                f"Slack does not take the bot token: {error.failure.detail}",
                "renew SLACK_BOT_TOKEN; then perennial notify test slack:CHANNEL mends the channel",
            )


async def _mail(settings: NotifierSettings) -> Finding:
    assert settings.smtp_url is not None  # noqa: S101
    server = server_of(settings.smtp_url)
    forms = await asyncio.to_thread(templates.load, "services.notifier.channels")
    mail = Email(
        server,
        sender=settings.perennial_mail_from,
        templates=forms,
        limit=_LIMIT,
    )
    try:
        await mail.greet()
    except DeliveryError as error:
        return failed(
            Area.MESSAGES,
            f"the mail server {server.host}:{server.port} does not take us: {error.failure.detail}",
            "correct SMTP_URL; then perennial notify test email:ADDRESS mends the channel",
        )
    return ok(Area.MESSAGES, f"the mail server {server.host}:{server.port} takes us")


async def _webhooks(settings: NotifierSettings) -> list[Finding]:
    """Names are resolved and judged as at each attempt; nothing is sent."""
    secrets = settings.perennial_webhook_secrets
    try:
        signed = named.read("PERENNIAL_WEBHOOK_SECRETS", secrets)
        team = await asyncio.to_thread(
            reloading.open_team,
            settings.perennial_team_file,
            fallback_owner=settings.perennial_fallback_owner,
        )
        allowed = networks_of(settings.perennial_webhook_allow)
    except Misconfigured:
        return []  # said among the settings
    findings = []
    for receiver in team.get().webhooks:
        if receiver.name not in signed:
            findings.append(
                failed(
                    Area.MESSAGES,
                    f"webhook {receiver.name} has no secret",
                    "add it to PERENNIAL_WEBHOOK_SECRETS",
                )
            )
            continue
        url = httpx.URL(receiver.url)
        try:
            asked = where(url)
            judge(url, await resolve(asked.host, asked.port), allowed=allowed)
        except (Refused, OSError, UnicodeError) as error:
            findings.append(
                failed(
                    Area.MESSAGES,
                    f"webhook {receiver.name} cannot be reached: {str(error) or 'no such name'}",
                    "correct its url in the team file, or PERENNIAL_WEBHOOK_ALLOW",
                )
            )
    return findings or [ok(Area.MESSAGES, f"{len(team.get().webhooks)} webhooks may be reached")]


async def look_at_queue(connection: AsyncConnection, clock: Clock) -> list[Finding]:
    now = clock()
    findings = [
        *await _of_restore(connection),
        *await _of_channels(connection),
        *await _of_destinations(connection),
    ]
    dead = await connection.scalar(
        select(func.count())
        .select_from(deliveries)
        .where(deliveries.c.state == "dead", deliveries.c.ended_at > now - _DAY)
    )
    if dead:
        findings.append(
            failed(
                Area.MESSAGES,
                f"{dead:,} messages were given up in the last 24 h",
                "perennial notify list --state dead; perennial notify again ID",
            )
        )
    oldest = await connection.scalar(
        select(func.min(deliveries.c.due_at)).where(
            deliveries.c.state.in_(("pending", "sending")), deliveries.c.due_at <= now
        )
    )
    if oldest is not None and now - oldest > _LATE:
        minutes = (now - oldest).total_seconds() / 60
        findings.append(
            failed(
                Area.MESSAGES,
                f"a message is due since {minutes:,.0f} min and has not left",
                "is the notifier running, and its channel set?"
                " deploy/runbooks/DeliveryOldestDue.md",
            )
        )
    return findings or [ok(Area.MESSAGES, "no message is late or was given up")]


async def _of_restore(connection: AsyncConnection) -> list[Finding]:
    found = await restored.waiting(connection)
    if found is None:
        return []
    return [
        failed(
            Area.MESSAGES,
            f"nothing is sent since the database was restored ({_day(found.since)});"
            f" {found.restored + found.decided:,} messages wait",
            "perennial notify release-restored, with --as-told where people have got them already",
        )
    ]


async def _of_channels(connection: AsyncConnection) -> list[Finding]:
    rows = await connection.execute(
        select(channels.c.channel, channels.c.broken_since, channels.c.last_failure).where(
            channels.c.broken_since.is_not(None)
        )
    )
    return [
        failed(
            Area.MESSAGES,
            f"{row.channel} refuses all of us since {_day(row.broken_since)}: {row.last_failure}",
            f"mend its token, password or certificate; perennial notify test {row.channel}:ADDRESS",
        )
        for row in rows
    ]


async def _of_destinations(connection: AsyncConnection) -> list[Finding]:
    """Addresses are people's: how many, and where to see them."""
    rows = await connection.execute(
        select(destinations.c.channel, func.count(), func.min(destinations.c.broken_since))
        .where(destinations.c.broken_since.is_not(None))
        .group_by(destinations.c.channel)
    )
    return [
        failed(
            Area.MESSAGES,
            f"{count:,} destinations of {channel} refuse us, the first since {_day(since)}",
            "the console's page Deliveries names them; perennial notify test mends one",
        )
        for channel, count, since in rows
    ]


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
