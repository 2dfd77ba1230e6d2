"""The envelope in which flags leave."""

from datetime import UTC

from shared.messages import Flag, FlagEvent


def envelope(flag: Flag) -> FlagEvent:
    """A change of a flag as a CloudEvent: the same change at the same moment has the same id."""
    return FlagEvent(
        id=f"{flag.flag_id}-{flag.change}-{flag.as_of.astimezone(UTC):%Y%m%dT%H%M%S.%f}",
        source="perennial/scoring",
        type=f"perennial.flag.{flag.change}",
        subject=flag.account,
        time=flag.as_of,
        data=flag,
    )
