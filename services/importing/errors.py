"""How an import ends early: what the caller got wrong, and what the world did not let happen."""

from shared.errors import PerennialError


class Unusable(PerennialError):
    """The file, the mapping or the address cannot be used as given; nothing has been sent."""


class Stopped(PerennialError):
    """The import stopped before the last row; the same command goes on from there."""


class KeyRefused(Stopped):
    """The server does not take this key, or not for this."""
