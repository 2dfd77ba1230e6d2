"""Places where a fault test kills the process or switches a safeguard off.

Both do nothing unless `PERENNIAL_TESTING=1`: a production process with a failpoint set refuses
to start. `PERENNIAL_FAILPOINT=scoring.after_commit:kill9:nth=3` kills at the third passing;
`PERENNIAL_SWITCHED_OFF=dedupe,fence` shows that a test can fail.
"""

import os
import signal
from collections import Counter

from shared.errors import Misconfigured

_passed: Counter[str] = Counter()


def check_environment(environment: dict[str, str] | None = None) -> None:
    """Raises Misconfigured where a fault is asked for outside a test."""
    values = os.environ if environment is None else environment
    if values.get("PERENNIAL_TESTING") == "1":
        return
    for name in ("PERENNIAL_FAILPOINT", "PERENNIAL_SWITCHED_OFF"):
        if values.get(name):
            raise Misconfigured(f"{name} is for tests: unset it, or set PERENNIAL_TESTING=1")


def reach(name: str) -> None:
    """Die here, as by kill -9, if the environment names this place."""
    wanted = os.environ.get("PERENNIAL_FAILPOINT", "")
    if not wanted.startswith(name + ":"):
        return
    check_environment()
    _passed[name] += 1
    nth = int(wanted.rpartition("nth=")[2] or "1")
    if _passed[name] == nth:
        os.kill(os.getpid(), signal.SIGKILL)


def switched_off(safeguard: str) -> bool:
    names = os.environ.get("PERENNIAL_SWITCHED_OFF", "")
    if not names:
        return False
    check_environment()
    return safeguard in names.split(",")
