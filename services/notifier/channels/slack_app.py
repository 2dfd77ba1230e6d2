"""Slack by bot token: one parent message that is kept current, what follows in its thread.

Raw httpx, not slack_sdk: why stands in `slack_http.py`. `chat.postMessage` takes a user's id for a
direct message and says in which conversation (`D...`) it stands; `chat.update` takes only that.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec
from pydantic import SecretStr

from services.notifier.channels import DeliveryError, Message, Receipt, Thread, wording
from services.notifier.channels.answers import retry_after
from services.notifier.channels.slack_blocks import Payload, render
from services.notifier.channels.slack_http import Answer, failed, failure_of, post
from services.notifier.domain.attempts import Class, Failure
from shared.hosts import is_loopback

_ERRORS: Final[Mapping[Class, frozenset[str]]] = {
    Class.PAUSE: frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"}),
    Class.TRANSIENT: frozenset(
        {
            "internal_error", "fatal_error", "service_unavailable", "request_timeout",
            "team_added_to_org", "accesslimited",
        }
    ),
    Class.BAD_MESSAGE: frozenset(
        {
            "invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long",
            "no_text", "block_mismatch", "invalid_arguments", "invalid_arg_name",
            "invalid_array_arg", "invalid_charset", "invalid_form_data", "invalid_json",
            "json_not_object",
        }
    ),
    Class.INTEGRATION_BROKEN: frozenset(
        {
            "invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive",
            "missing_scope", "not_allowed_token_type", "no_permission", "access_denied",
            "org_login_required", "enterprise_is_restricted", "ekm_access_denied",
            "two_factor_setup_required",
        }
    ),
    Class.THREAD_LOST: frozenset(
        {
            "message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found",
            "cannot_reply_to_message", "restricted_action_thread_locked",
        }
    ),
}  # fmt: skip
_CLASSES = {error: kind for kind, errors in _ERRORS.items() for error in errors}
# An edit would else make names and addresses of what a customer called itself.
_AS_IT_IS = {"parse": "none", "link_names": False}
_NO_ACCESS = frozenset({401, 403})


class _Said(msgspec.Struct, frozen=True):
    """What of Slack's answers is read."""

    ok: bool
    error: str = ""
    channel: str | None = None
    ts: str | None = None
    team: str = ""
    user: str = ""


_decoder = msgspec.json.Decoder(_Said)


class SlackApp:
    """The bot of a Slack app; open it with `open_slack_app`."""

    name = "slack"
    edits = True

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        token: SecretStr,
        *,
        pace: timedelta,
        limit: timedelta,
    ) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._token = token
        self._limit = limit
        self.pace = pace

    async def send(self, message: Message) -> Receipt:
        payload, thread = render(message, buttons=True) | _AS_IT_IS, message.thread
        if message.edit:
            if thread is None:
                raise failed(Class.THREAD_LOST, "there is no message to edit")
            said = await self._call(
                "chat.update", payload | {"channel": thread.channel, "ts": thread.ts}
            )
            return Receipt(provider_id=said.ts, thread=thread)
        if thread is not None:
            where = {"channel": thread.channel, "thread_ts": thread.ts}
            said = await self._call("chat.postMessage", payload | where)
            return Receipt(provider_id=said.ts, thread=thread)
        said = await self._call("chat.postMessage", payload | {"channel": message.to})
        if said.channel is None or said.ts is None:
            return Receipt(provider_id=said.ts)
        return Receipt(provider_id=said.ts, thread=Thread(channel=said.channel, ts=said.ts))

    async def whisper(
        self, *, channel: str, user: str, thread_ts: str | None, payload: Payload
    ) -> None:
        """Say it to one person alone, where they clicked; raises DeliveryError."""
        where = {"channel": channel, "user": user}
        if thread_ts is not None:
            where["thread_ts"] = thread_ts
        await self._call("chat.postEphemeral", payload | _AS_IT_IS | where)

    async def open_view(self, *, trigger_id: str, view: Payload) -> None:
        """Open a modal for who clicked at most 3 s ago; raises DeliveryError."""
        await self._call("views.open", {"trigger_id": trigger_id, "view": view})

    async def identity(self) -> str:
        """Whose token it is, as Slack knows it; raises DeliveryError where it is worth nothing."""
        said = await self._call("auth.test", {})
        return f"{wording.clean(said.user)} in {wording.clean(said.team)}"

    async def _call(self, method: str, payload: Mapping[str, object]) -> _Said:
        answer = await post(
            self._client,
            f"{self._url}/{method}",
            payload,
            headers={"Authorization": f"Bearer {self._token.get_secret_value()}"},
            limit=self._limit,
        )
        read = classify(answer, now=datetime.now(UTC))
        if isinstance(read, Failure):
            raise DeliveryError(read)
        return read


@asynccontextmanager
async def open_slack_app(
    token: SecretStr, *, url: str, pace: timedelta, limit: timedelta
) -> AsyncIterator[SlackApp]:
    """`url`: of the Web API, up to the methods' names."""
    # A proxy of the company's leads to Slack, never to this machine.
    trusted = not is_loopback(urlsplit(url).hostname or "")
    async with httpx.AsyncClient(
        timeout=limit.total_seconds(), follow_redirects=False, trust_env=trusted
    ) as client:
        yield SlackApp(client, url, token, pace=pace, limit=limit)


def classify(answer: Answer, *, now: datetime) -> _Said | Failure:
    """What an answer means: taken only where Slack says `"ok": true` itself."""
    failure = failure_of(answer, now=now)
    if failure is not None:
        return failure
    try:
        said = _decoder.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Failure(kind=_without_words(answer.status), detail=answer.detail)
    if said.ok:
        return said
    # What is not known refuses this one destination: its fallback is told at once.
    kind = _CLASSES.get(said.error, Class.DESTINATION_BROKEN)
    pause = retry_after(answer.headers.get("retry-after"), now=now)
    return Failure(
        kind=kind,
        detail=wording.clean(said.error)[:80] or answer.detail,
        retry_after=pause if kind is Class.PAUSE else None,
    )


def _without_words(status: int) -> Class:
    """The class of an answer that Slack's API does not give: somebody between us answered."""
    if 200 <= status < 300:
        # Whether Slack saw the message is not known.
        return Class.AMBIGUOUS
    if status in _NO_ACCESS:
        return Class.INTEGRATION_BROKEN
    return Class.BAD_MESSAGE if status == 413 else Class.DESTINATION_BROKEN
