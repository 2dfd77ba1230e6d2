"""The register: all accounts in the memory of the process that is asked, some seconds old.

The first question loads everything, later ones what was written since; as long as somebody asks, it
is read ahead in the background. Erasures have everything read again.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import register_store
from services.scoring.domain import posting
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.posting import NOTHING, Book
from services.scoring.register_store import Mark, Reading
from shared import database
from shared.clock import Clock
from shared.lifecycle import stopped_within

log = structlog.get_logger()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ASKED_WITHIN: Final = timedelta(minutes=5)
_PAUSE_SECONDS: Final = 0.1  # At the least, between two readings.
_SHARE: Final = 10
"""At most one part of so many of the time is spent on reading."""


class Register:
    """`current()` answers with a ledger that was read at most `max_age` ago; where one reading
    takes long, ten times as long as that.
    """

    def __init__(self, *, engine: AsyncEngine, clock: Clock, max_age: timedelta) -> None:
        self._engine = engine
        self._clock = clock
        self._max_age = max_age
        self._book: Book | None = None
        self._mark: Mark | None = None
        self._took = timedelta()
        self._read_at = self._asked_at = _EPOCH
        self._reading = asyncio.Lock()

    async def current(self) -> Ledger:
        """All accounts; raises what the database raises."""
        self._asked_at = self._clock()
        book = self._young()
        if book is None:
            async with self._reading:
                # Who waited for another one's reading has it.
                book = self._young() or await self._read()
        return book.ledger

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: as long as somebody asks, read ahead of the next question."""
        # Nor shall the first one wait.
        self._asked_at = self._clock()
        while not await stopped_within(stop, self._pause_seconds):
            if self._clock() - self._asked_at > _ASKED_WITHIN:
                continue
            try:
                async with self._reading:
                    await self._read()
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("register.not_read", error=str(error))

    async def _read(self) -> Book:
        began = self._clock()
        async with self._engine.begin() as connection:
            await connection.exec_driver_sql(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
            )
            # All of a large vendor takes longer than a request may: it would never be read.
            await connection.exec_driver_sql("SET LOCAL statement_timeout = '2min'")
            reading = await register_store.read(connection, self._mark)
        before = NOTHING if reading.is_whole or self._book is None else self._book
        book = await asyncio.to_thread(_posted, before, reading, (began - _EPOCH) // _MICROSECOND)
        self._book, self._mark, self._read_at = book, reading.mark, self._clock()
        # A whole reading is an exception: what follows it takes less.
        self._took = timedelta() if reading.is_whole else self._read_at - began
        if reading.is_whole:
            log.info(
                "register.loaded",
                accounts=len(book.ledger.accounts),
                versions=len(book.ledger.versions),
                seconds=(self._read_at - began).total_seconds(),
            )
        return book

    @property
    def _age(self) -> timedelta:
        return max(self._max_age, _SHARE * self._took)

    @property
    def _pause_seconds(self) -> float:
        return max(self._age.total_seconds() / 2, _PAUSE_SECONDS)

    def _young(self) -> Book | None:
        # A clock may be set back.
        is_young = abs(self._clock() - self._read_at) < self._age
        return self._book if is_young else None


def _posted(book: Book, reading: Reading, at: int) -> Book:
    return posting.post(book, register_store.entries_of(reading, at))
