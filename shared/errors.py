"""The errors that cross module borders. Everything else is a bug and ends the process."""


class PerennialError(Exception):
    """Root of the errors that have a designed answer."""


class InvalidMessage(PerennialError):
    """The data is at fault: the message goes to quarantine with this reason, the rest goes on.

    `code` is a stable word for metrics and callers; `detail` names the field, never its value.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class DependencyAway(PerennialError):
    """A dependency does not answer now; the same work may succeed later."""

    def __init__(self, dependency: str) -> None:
        super().__init__(f"{dependency} is away")
        self.dependency = dependency


class Misconfigured(PerennialError):
    """The operator must change a setting; the message says which one and to what."""
