"""How long a sign-in waits after failures: longer each time, but never for good."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    free: int
    """Failures that cost no wait: people mistype."""
    longest: timedelta

    def wait(self, failures: int) -> timedelta:
        """After so many failures in a row; doubles from a second on."""
        beyond = failures - self.free
        if beyond <= 0:
            return timedelta(0)
        # 2 ** 20 s are twelve days: more exponent says no more.
        return min(timedelta(seconds=2 ** min(beyond - 1, 20)), self.longest)


ADDRESS: Final = Throttle(free=3, longest=timedelta(minutes=1))
"""Of a person, from wherever: short, since who knows an address can use it up. One guess a minute
is 525,600 a year, against passwords of twelve characters that are on no short list."""
CLIENT: Final = Throttle(free=20, longest=timedelta(minutes=1))
"""Of where they come from, which may be an office, or the proxy before us."""
KNOWN: Final = Throttle(free=5, longest=timedelta(minutes=15))
"""Of a browser in which that person signed in before, in place of both: others use up nothing."""
FORGOTTEN: Final = timedelta(days=1)
"""After so long without a failure it is as if there had been none."""
