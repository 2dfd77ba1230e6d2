"""Whether scoring doubts its data: since when some source sends too little.

Asked every half minute, for a second at most. Where scoring does not answer, nobody knows of an
outage, and everybody is told as ever: silence of ours must not silence a customer.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import httpx
import msgspec

from services.notifier.capped import asked
from shared import logging as logs
from shared.lifecycle import stopped_within
from shared.telemetry import Dependency
from shared.watchdog import Loop, Outages

_EVERY_SECONDS = 30.0
_AGAIN_SECONDS = 5.0
_LIMIT_SECONDS = 1.0
_MOST_BYTES = 1_048_576

log = logs.get(__name__)


class _Outage(msgspec.Struct, frozen=True):
    began_at: datetime


class _Status(msgspec.Struct, frozen=True):
    staleness: tuple[_Outage, ...] = ()


@dataclass(slots=True, kw_only=True)
class Freshness:
    client: httpx.AsyncClient
    url: str
    key: str
    outages: Outages | None = None
    _since: datetime | None = None
    _is_up: bool = False

    def outage_since(self) -> datetime | None:
        """When the oldest outage that goes on began; None: there is none, or nobody knows."""
        return self._since

    async def run(self, stop: asyncio.Event, *, loop: Loop) -> None:
        while not stop.is_set():
            await self.ask()
            loop.progressed()
            await stopped_within(stop, _EVERY_SECONDS if self._is_up else _AGAIN_SECONDS)

    async def ask(self) -> None:
        since = await self._ask()
        if since != self._since:
            log.info("freshness.changed", outage_since=since.isoformat() if since else None)
        self._since = since

    async def _ask(self) -> datetime | None:
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                answer = await asked(
                    self.client,
                    "GET",
                    f"{self.url}/v1/status",
                    most_bytes=_MOST_BYTES,
                    headers=headers,
                )
            answer.raise_for_status()
            status = msgspec.json.decode(answer.content, type=_Status)
        except (httpx.HTTPError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            self._note(is_up=False)
            return None
        self._note(is_up=True)
        # Naive moments, if ever, are of no use beside ours.
        known = (one.began_at for one in status.staleness if one.began_at.tzinfo is not None)
        return min(known, default=None)

    def _note(self, *, is_up: bool) -> None:
        self._is_up = is_up
        if self.outages is not None:
            self.outages.note("notifier", Dependency.SCORING_API, is_up=is_up)
