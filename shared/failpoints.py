"""Places where a fault test kills or freezes the process, or switches a safeguard off.

They do nothing unless `PERENNIAL_TESTING=1`: a production process with one set refuses to start.
`PERENNIAL_FAILPOINT=scoring.after_commit:kill9:nth=3` kills at the third passing, as `kill -9`;
`...:freeze:every=40` stops the process (SIGSTOP) at each 40th, until somebody continues it.
`PERENNIAL_SWITCHED_OFF=dedupe,fence` shows that a test can fail. `PERENNIAL_HASTY_WATCHDOGS=1` has
watchdogs expire after seconds instead of minutes.
"""

import os
import re
import signal
from collections import Counter
from collections.abc import Mapping
from functools import cache

from shared.errors import Misconfigured

_FORM = re.compile(r"([a-z_.]+):(kill9|freeze):(nth|every)=([1-9]\d*)")
_SIGNALS = {"kill9": signal.SIGKILL, "freeze": signal.SIGSTOP}
_passed: Counter[str] = Counter()


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Raises Misconfigured where a fault is asked for outside a test, or in a form that is none."""
    failpoint = environment.get("PERENNIAL_FAILPOINT", "")
    if failpoint and not _FORM.fullmatch(failpoint):
        raise Misconfigured("PERENNIAL_FAILPOINT: NAME:kill9|freeze:nth|every=N")
    if environment.get("PERENNIAL_TESTING") == "1":
        return
    for name in ("PERENNIAL_FAILPOINT", "PERENNIAL_SWITCHED_OFF", "PERENNIAL_HASTY_WATCHDOGS"):
        if environment.get(name):
            raise Misconfigured(f"{name} is for tests: unset it, or set PERENNIAL_TESTING=1")


def reach(name: str) -> None:
    """Die or freeze here, if the environment names this place."""
    wanted = _wanted()
    if wanted is None or wanted[1] != name:
        return
    _passed[name] += 1
    count = int(wanted[4])
    is_here = _passed[name] == count if wanted[3] == "nth" else _passed[name] % count == 0
    if is_here:
        os.kill(os.getpid(), _SIGNALS[wanted[2]])


@cache
def _wanted() -> re.Match[str] | None:
    """The fault that the environment asks for; read once, as every request comes by here."""
    check_environment()
    return _FORM.fullmatch(os.environ.get("PERENNIAL_FAILPOINT", ""))


def switched_off(safeguard: str) -> bool:
    names = os.environ.get("PERENNIAL_SWITCHED_OFF", "")
    if not names:
        return False
    check_environment()
    return safeguard in names.split(",")


def is_hasty() -> bool:
    """Whether watchdogs wait only as long as a test does."""
    if not os.environ.get("PERENNIAL_HASTY_WATCHDOGS"):
        return False
    check_environment()
    return True
