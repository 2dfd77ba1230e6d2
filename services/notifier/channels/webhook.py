"""Standard Webhooks: what a person would read, as JSON for a program, signed.

One POST per attempt. `webhook-id` is the delivery's, so a receiver knows a repetition by it; the
timestamp is the attempt's; during a rotation each of two secrets signs. `traceparent` (W3C Trace
Context) is that of the event behind it. The body is `Event`:

    {"type": "perennial.intervention.overdue", "timestamp": "2026-06-01T12:00:00Z", "data": {...}}

New fields may come; a receiver passes over those it does not know.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import httpx
import msgspec
from pydantic import SecretStr
from standardwebhooks import Webhook as Signer

from services.notifier.channels import DeliveryError, Item, Message, Receipt, wording
from services.notifier.channels.addresses import Guarded, Network, Refused, Resolve, resolve
from services.notifier.channels.answers import retry_after
from services.notifier.domain.attempts import Class, Failure
from shared.clock import Clock
from shared.errors import Misconfigured
from shared.messages import ValueAtRisk, encode

MOST_BYTES = 20_000
_NAME = 200
_LINE = 400
_WORD = 40
_REASONS = 4
_MOST_SECRETS = 2
_SECRET_BYTES = range(24, 65)
_PREFIX = "whsec_"
_PAUSING = frozenset({429, 502, 504})
_BUSY = 503
_GONE = 410


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One reason with the numbers behind its sentence; `weight` is what it adds to the logit."""

    text: str
    indicator: str
    value: float | None
    unit: str
    baseline: float | None
    change: float | None
    weight: float
    as_of: date


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One intervention as it is now."""

    id: str
    version: int
    account: str
    """The vendor's own id of it, unchanged: compare it, never show it unescaped."""
    account_name: str
    type: str
    """`land`, `adopt`, `expand`, `renew` or `win_back`."""
    reason: str
    severity: str
    """`watch`, `at_risk` or `critical`."""
    status: str
    """`open`, `acknowledged` or `closed`."""
    is_news: bool
    """What the message is about; others stand beside it."""
    summary: str
    owner: str
    due_at: datetime
    url: str
    risk: float | None
    value_at_risk: ValueAtRisk | None
    renewal_date: date | None
    acknowledged_by: str | None
    snoozed_until: datetime | None
    recovered: bool
    outcome: str | None
    todo: str
    reasons: tuple[Evidence, ...]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """`more` counts the interventions that were left out, to stay below 20 kB."""

    why: str
    title: str
    text: str
    url: str
    items: tuple[Work, ...]
    more: int


class Event(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    """`perennial.intervention.` and why it was sent: `first`, `overdue`, `digest`, `test`, ..."""
    timestamp: datetime
    data: Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """By the receiver's name; the current secret first, then the one that goes."""

    by_name: Mapping[str, Sequence[Signer]]

    def sign(self, name: str, *, id: str, at: datetime, body: bytes) -> str | None:  # noqa: A002 - the header's word
        """The value of `webhook-signature`; None where there is no secret of that name."""
        signers = self.by_name.get(name)
        if not signers:
            return None
        # The library takes the wall time for UTC, whatever the zone.
        utc = at.astimezone(UTC)
        return " ".join(one.sign(id, utc, body.decode()) for one in signers)


def signers_of(secrets: Mapping[str, Sequence[SecretStr]]) -> Signers:
    """Raises Misconfigured, naming the receiver, where a secret cannot sign."""
    by_name: dict[str, list[Signer]] = {}
    for name, ones in secrets.items():
        if not 1 <= len(ones) <= _MOST_SECRETS or not all(map(_is_secret, ones)):
            raise Misconfigured(
                f"PERENNIAL_WEBHOOK_SECRETS: {name!r} needs one secret, or two during a rotation:"
                " 24 to 64 bytes each, as whsec_ and base64"
            )
        by_name[name] = [Signer(one.get_secret_value()) for one in ones]
    return Signers(by_name=by_name)


class Webhooks:
    """All receivers; open it with `open_webhooks`."""

    name = "webhook"
    edits = False
    pace = timedelta(0)

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        urls: Callable[[], Mapping[str, str]],
        signers: Signers,
        limit: timedelta,
        clock: Clock,
    ) -> None:
        self._client = client
        self._urls = urls
        self._signers = signers
        self._limit = limit.total_seconds()
        self._clock = clock

    async def send(self, message: Message) -> Receipt:
        now = self._clock()
        url = self._urls().get(message.to)
        body = render(message)
        signature = self._signers.sign(message.to, id=str(message.delivery_id), at=now, body=body)
        if url is None or signature is None:
            missing = "receiver" if url is None else "secret"
            raise _failed(Class.DESTINATION_BROKEN, f"no {missing} of that name")
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "Perennial",
            "webhook-id": str(message.delivery_id),
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        if message.traceparent is not None:
            headers["traceparent"] = message.traceparent
        try:
            async with asyncio.timeout(self._limit):
                await self._post(url, body, headers)
        except (Refused, httpx.InvalidURL) as error:
            raise _failed(Class.DESTINATION_BROKEN, _said(error)) from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _failed(Class.TRANSIENT, type(error).__name__) from error
        except (httpx.HTTPError, TimeoutError) as error:
            # The request may have been written; the receiver knows a repetition by its id.
            raise _failed(Class.AMBIGUOUS, type(error).__name__) from error
        return Receipt()

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Judged by the head of the answer: what follows it is never read, however long it is."""
        async with self._client.stream(
            "POST", url, content=body, headers=dict(headers)
        ) as response:
            failure = classify(response.status_code, response.headers, now=self._clock())
            if failure is not None:
                raise DeliveryError(failure)


@asynccontextmanager
async def open_webhooks(
    *,
    urls: Callable[[], Mapping[str, str]],
    signers: Signers,
    allowed: Sequence[Network],
    limit: timedelta,
    clock: Clock,
    resolve: Resolve = resolve,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Webhooks]:
    """`urls`: the receivers as the team file has them now.

    `transport`: below the guard; by default one that keeps no connection and trusts the usual
    certificates.
    """
    inner = transport or httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
    guarded = Guarded(inner, allowed=allowed, limit=limit / 3, resolve=resolve)
    timeout = httpx.Timeout(limit.total_seconds(), connect=limit.total_seconds() / 3)
    # No proxy of the environment's: it would resolve the name once more, behind the guard's back.
    async with httpx.AsyncClient(
        transport=guarded, timeout=timeout, follow_redirects=False, trust_env=False
    ) as client:
        yield Webhooks(client, urls=urls, signers=signers, limit=limit, clock=clock)


def classify(status: int, headers: Mapping[str, str], *, now: datetime) -> Failure | None:
    """What an answer means; its words are not repeated: they are the receiver's business."""
    detail = f"HTTP {status}"
    if 200 <= status < 300:
        return None
    if status in _PAUSING or (status == _BUSY and "retry-after" in headers):
        pause = retry_after(headers.get("retry-after"), now=now)
        return Failure(kind=Class.PAUSE, detail=detail, retry_after=pause)
    if status == _GONE:
        return Failure(kind=Class.DESTINATION_BROKEN, detail=detail)
    return Failure(kind=Class.TRANSIENT, detail=detail)


def render(message: Message) -> bytes:
    """The body, below 20 kB whatever the texts are: the last items give way first."""
    items = tuple(_work(one) for one in message.items)
    for count in range(len(items), -1, -1):
        body = encode(
            Event(
                type=f"perennial.intervention.{message.why.value}",
                timestamp=message.created_at,
                data=Told(
                    why=message.why.value,
                    title=wording.cut(wording.title(message), _LINE),
                    text=wording.cut(wording.clean(message.text), _LINE),
                    url=message.url,
                    items=items[:count],
                    more=message.more + len(items) - count,
                ),
            )
        )
        if len(body) < MOST_BYTES:
            return body
    raise DeliveryError(Failure(kind=Class.BAD_MESSAGE, detail="larger than 20 kB without items"))


def _work(item: Item) -> Work:
    return Work(
        id=str(item.intervention_id),
        version=item.version,
        account=item.account_id,
        account_name=_short(wording.name(item), _NAME),
        type=item.type.value,
        reason=item.reason.value,
        severity=item.severity.value,
        status=item.status.value,
        is_news=item.is_news,
        summary=_short(wording.why(item)),
        owner=_short(item.owner, _NAME),
        due_at=item.due_at.astimezone(UTC),
        url=item.url,
        risk=item.risk,
        value_at_risk=item.value_at_risk,
        renewal_date=item.renewal_date,
        acknowledged_by=_short(item.acknowledged_by or "", _NAME) or None,
        snoozed_until=None if item.snoozed_until is None else item.snoozed_until.astimezone(UTC),
        recovered=item.recovered,
        outcome=None if item.outcome is None else item.outcome.value,
        todo=_short(wording.todo(item)),
        reasons=tuple(
            Evidence(
                text=_short(one.text),
                indicator=_short(one.indicator, _WORD),
                value=one.value,
                unit=_short(one.unit, _WORD),
                baseline=one.baseline,
                change=one.change,
                weight=one.weight,
                as_of=one.as_of,
            )
            for one in item.reasons[:_REASONS]
        ),
    )


def _short(text: str, limit: int = _LINE) -> str:
    return wording.cut(wording.clean(text), limit)


def _is_secret(secret: SecretStr) -> bool:
    text = secret.get_secret_value().removeprefix(_PREFIX)
    try:
        # Strict, unlike the library, which passes over what is no base64.
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(decoded) in _SECRET_BYTES


def _said(error: Refused | httpx.InvalidURL) -> str:
    return f"refused: {error.against}" if isinstance(error, Refused) else "refused: no_url"


def _failed(kind: Class, detail: str) -> DeliveryError:
    return DeliveryError(Failure(kind=kind, detail=detail))
