"""Slack and a mail server in a storm, and what arrived at them, in its order."""

import json
import math
import random
import re
import time
from asyncio import StreamWriter
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final

from aiosmtpd.smtp import SMTP, Envelope, Session

from services.notifier.channels.wording import WHY
from tests.standins import slack as slacks
from tests.standins.mail import FakeMail
from tests.standins.slack import FakeSlack, Hang, Reset, Turn, rate_limited
from tests.standins.slack_limits import Payload

_PHRASES: Final = {phrase: why.value for why, phrase in WHY.items()}
_FIRST_LIMIT_AFTER = 20
_BETWEEN_LIMITS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A message that was taken, whether or not its sender heard so."""

    destination: str
    account: str
    why: str
    id: str
    """Slack's `ts`, or the Message-ID."""
    said: str
    at: float
    thread: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """An answer 429: nothing more before `at` + `seconds`."""

    at: float
    seconds: int

    @property
    def until(self) -> float:
        return self.at + self.seconds


@dataclass(slots=True, kw_only=True)
class Weather:
    """How Slack behaves; calm by default.

    `limits`: for so many seconds each it answers every request with 429, one time after the other;
    the first stands for the 60 s that a real one may last. `share`: of 500s, of resets and of
    hangs; of the last two every other message was taken all the same.
    """

    choose: random.Random
    limits: list[float] = field(default_factory=list)
    share: tuple[float, float, float] = (0.0, 0.0, 0.0)
    hang_seconds: float = 0.0
    asked: int = 0
    taken_unsaid: int = 0
    failed: int = 0
    _limited_until: float = 0.0
    _next_limit: int = _FIRST_LIMIT_AFTER

    def turn(self) -> Turn | None:
        now = time.monotonic()
        self.asked += 1
        if self.limits and self.asked >= self._next_limit and now >= self._limited_until:
            self._limited_until = now + self.limits.pop(0)
            self._next_limit = self.asked + _BETWEEN_LIMITS
        if now < self._limited_until:
            return rate_limited(str(math.ceil(self._limited_until - now)))
        errors, resets, hangs = self.share
        drawn, posted = self.choose.random(), self.choose.random() < 0.5
        if drawn < errors:
            self.failed += 1
            return slacks.Answer(status=500, body="<html>Server error</html>")
        if drawn < errors + resets + hangs:
            self.failed += 1
            self.taken_unsaid += posted
            if drawn < errors + resets:
                return Reset(posted=posted)
            return Hang(seconds=self.hang_seconds, posted=posted)
        return None


@dataclass(kw_only=True)
class StormySlack(FakeSlack):
    weather: Weather
    arrived: list[Arrived] = field(default_factory=list)
    edits: list[Payload] = field(default_factory=list)
    limited: list[Limit] = field(default_factory=list)

    async def _answer(self, request: slacks.Request, writer: StreamWriter) -> bool:
        turn = self.weather.turn()
        if turn is not None:
            self.script.append(turn)  # It is taken from there at once.
        if isinstance(turn, slacks.Answer) and turn.status == 429:
            self.limited.append(Limit(at=time.monotonic(), seconds=int(turn.headers[0][1])))
        return await super()._answer(request, writer)

    def _post(self, payload: Payload) -> slacks.Answer:
        said = super()._post(payload)
        body = json.loads(said.body)
        if body["ok"]:
            self.arrived.append(
                Arrived(
                    destination=f"slack:U{body['channel'][1:]}",
                    account=payload["text"].partition(":")[0],
                    why=_why(json.dumps(payload["blocks"])),
                    id=body["ts"],
                    said=json.dumps(payload),
                    at=time.monotonic(),
                    thread=payload.get("thread_ts"),
                )
            )
        return said

    def _update(self, payload: Payload) -> slacks.Answer:
        said = super()._update(payload)
        if json.loads(said.body)["ok"]:
            self.edits.append(payload)
        return said


@dataclass(kw_only=True)
class StormyMail(FakeMail):
    """Greylists everybody once; now and then it takes a message and is gone before it says so."""

    choose: random.Random
    share_later: float = 0.0
    share_cut: float = 0.0
    times: list[float] = field(default_factory=list)
    cut: int = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.choose.random() < self.share_later:
            return "451 4.3.0 later"
        return await super().handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.times.append(time.monotonic())
        if self.choose.random() < self.share_cut:
            self.cut += 1
            self.at_data.append("cut")
        return await super().handle_DATA(server, session, envelope)

    # No property: the server looks at all of them at each connection.
    def arrived(self) -> Sequence[Arrived]:
        return [_letter(*one) for one in zip(self.taken, self.times, strict=True)]


def _letter(message: EmailMessage, at: float) -> Arrived:
    part = message.get_body(("plain",))
    assert part is not None
    text = part.get_content()
    account = re.search(r"^Account (\S+) ·", text, re.MULTILINE)
    return Arrived(
        destination=f"email:{message['To']}",
        account="" if account is None else account[1],
        why=_why(text),
        id=message["Message-ID"].strip("<>").partition("@")[0],
        said=text,
        at=at,
    )


def _why(text: str) -> str:
    """The reason that the message states; all of them where it is not one."""
    found = [why for phrase, why in _PHRASES.items() if json.dumps(phrase)[1:-1] in text]
    return ", ".join(found)
