"""How the tests are shared out where several processes run them (`make test`, `pytest -n 3`).

The long ones first: none shall begin when the other processes have nothing left to do. Each test
by itself, wherever there is room; only a unit test goes with its module, whose fixtures are costly.
"""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

_LONGEST_FIRST = ("faults", "e2e", "contract", "integration", "unit")


class _Shares(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    def _split_scope(self, nodeid: str) -> str:
        """What must stay together: tests of one answer run in one process."""
        return nodeid.partition("::")[0] if "tests/unit/" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # keep our order
    return _Shares(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only for several processes: a run in one begins with what fails fast."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    level = item.path.relative_to(Path(__file__).parent).parts[0]
    return _LONGEST_FIRST.index(level) if level in _LONGEST_FIRST else 0
