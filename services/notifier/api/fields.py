"""Parts of requests: texts that PostgreSQL takes, moments that calendars take, keys of requests."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Header, Path, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

YEARS: Final = range(2000, 2101)
_STORABLE: Final = r"^[^\x00]*$"
_MAX_INT: Final = 2**31 - 1


class Body(BaseModel):
    """What stands in it is known, and nothing else is."""

    model_config = ConfigDict(extra="forbid", strict=False)


def _in_reach(moment: datetime) -> datetime:
    """Beyond these years, zones and calendars overflow."""
    if moment.year not in YEARS:
        raise ValueError("a year from 2000 to 2100")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_in_reach)]
Line = Annotated[str, Field(max_length=500, pattern=_STORABLE)]
Lines = Annotated[str, Field(max_length=4_000, pattern=_STORABLE)]
Version = Annotated[int, Field(ge=1, le=_MAX_INT, description="the one that you saw")]
Wanted = Annotated[str | None, Query(max_length=500, pattern=_STORABLE)]
Account = Annotated[str, Path(min_length=1, max_length=500, pattern=_STORABLE)]
Address = Annotated[str, Path(min_length=3, max_length=255, pattern=r"^[!-~]+$")]
Number = Annotated[int, Path(ge=1, le=_MAX_INT)]
Repeatable = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key with the same body is one step, however often it is sent.",
    ),
]


def request_key(viewer: str, path: str, body: BaseModel | None, given: str | None) -> str | None:
    """One step's; with all that was said: who says something else takes another step."""
    if given is None:
        return None
    said = repr((path, None if body is None else body.model_dump_json()))
    return f"api:{viewer}:{_short(given)}:{_short(said)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
