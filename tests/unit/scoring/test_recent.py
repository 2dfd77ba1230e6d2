"""Answers that are kept until the register has read again."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from services.scoring.domain.posting import NOTHING
from services.scoring.recent import MOST, Recent

LEDGER = NOTHING.ledger


def counted(asked: list[str], name: str) -> Callable[[], bytes]:
    def compute() -> bytes:
        asked.append(name)
        return name.encode()

    return compute


async def test_the_same_question_is_computed_once_per_ledger() -> None:
    recent, asked = Recent(), list[str]()
    newer = replace(LEDGER, as_of=1)
    for ledger in (LEDGER, LEDGER, newer, newer):
        for question in ("goals", "months"):
            found = await recent.answer(ledger, (question, 12), counted(asked, question))
            assert found == question.encode()
    assert asked == ["goals", "months"] * 2  # Of two ledgers.


async def test_what_differs_in_any_part_is_another_question() -> None:
    recent, asked = Recent(), list[str]()
    for question in (("renewals", "owner"), ("renewals", "plan"), ("renewals", "owner")):
        await recent.answer(LEDGER, question, counted(asked, question[1]))
    assert asked == ["owner", "plan"]


async def test_an_answer_of_an_older_ledger_is_not_given_for_the_newer_one() -> None:
    """The register reads on while an answer is computed."""
    recent, asked = Recent(), list[str]()
    newer = replace(LEDGER, as_of=1)
    late, early = await asyncio.gather(
        recent.answer(LEDGER, "q", counted(asked, "old")),
        recent.answer(newer, "q", counted(asked, "new")),
    )
    assert (late, early) == (b"old", b"new")
    assert await recent.answer(newer, "q", counted(asked, "again")) == b"new"


async def test_the_oldest_of_too_many_is_forgotten() -> None:
    recent, asked = Recent(), list[str]()
    for number in range(MOST + 1):
        await recent.answer(LEDGER, number, counted(asked, str(number)))
    await recent.answer(LEDGER, MOST, counted(asked, "kept"))
    await recent.answer(LEDGER, 0, counted(asked, "forgotten"))
    assert asked[MOST + 1 :] == ["forgotten"]
