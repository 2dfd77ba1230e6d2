"""What has just been answered of the ledger: until the next reading the same question has it again.

A page asks several questions, and colleagues look at the same pages.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from services.scoring.domain.ledger import Ledger

MOST: Final = 200  # Of up to some hundred kilobytes each.


class Recent:
    """Answers as bytes. What they rest on beside the ledger is part of the question."""

    def __init__(self) -> None:
        self._of: Ledger | None = None
        self._answers: OrderedDict[Hashable, bytes] = OrderedDict()

    async def answer(
        self, ledger: Ledger, question: Hashable, compute: Callable[[], bytes]
    ) -> bytes:
        """The answer that is kept, or the one that `compute` makes in a thread."""
        if ledger is not self._of:
            self._of = ledger
            self._answers.clear()
        found = self._answers.get(question)
        if found is None:
            found = await asyncio.to_thread(compute)
            # Another question may have brought a newer ledger meanwhile.
            if ledger is self._of:
                self._answers[question] = found
                while len(self._answers) > MOST:
                    self._answers.popitem(last=False)
        return found
