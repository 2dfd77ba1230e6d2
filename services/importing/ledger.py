"""What became of every row, in the file's order, whatever order the answers come in.

Counts and rejected rows move on only with the prefix of rows that are all settled; so what is
stored with a row number is exact for the rows up to it, and an import can go on from there.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from services.importing.rows import RowError

Verdict: TypeAlias = RowError | tuple[str, ...]
"""Why a row was rejected, or the warnings (mostly none) of an accepted one."""


@dataclass(slots=True, kw_only=True)
class Ledger:
    """`done` rows are settled, and so is every row before; the counts are about those."""

    on_rejected: Callable[[RowError], None]
    done: int = 0
    accepted: int = 0
    rejected: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    _ahead: dict[int, Verdict] = field(default_factory=dict)

    def settle(self, verdicts: Iterable[tuple[int, Verdict]]) -> None:
        self._ahead.update(verdicts)
        while (verdict := self._ahead.pop(self.done + 1, None)) is not None:
            self.done += 1
            if isinstance(verdict, RowError):
                self.rejected += 1
                self.on_rejected(verdict)
            else:
                self.accepted += 1
                self.warnings.update(verdict)
