"""Which column is which field: what the caller says by `--map`, else well-known names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.importing.errors import Unusable
from shared.account_cells import COLUMN_NAMES, snake

_EVENT_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "event_id", "message_id"),
    "account_id": ("account_id", "tenant_id", "account"),
    "user_id": ("user_id", "user"),
    "type": ("type", "event_type", "event"),
    "occurred_at": (
        "occurred_at",
        "event_ts",
        "event_time",
        "timestamp",
        "ts",
        "time",
        "date",
    ),
}
_FEATURE_NAMES = ("feature", "product")
OWN_PREFIX = "perennial_"
"""Columns that `--rejects` adds; ignored, so that a corrected file of rejects can be imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventColumns:
    """The index of each event field in a row; `properties` are (name, index) pairs."""

    account_id: int
    occurred_at: int
    id: int | None
    user_id: int | None
    type: int | None
    properties: tuple[tuple[str, int], ...]
    id_is_guessed: bool
    """The id column was recognised by its name alone: it may name something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountColumns:
    """The index of each account field in a row."""

    id: int
    fields: tuple[tuple[str, int], ...]
    unused: tuple[str, ...]


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """`field=column` as given on the command line; `field=` says that no column is this field."""
    asked: dict[str, str] = {}
    for pair in pairs:
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not field or not equals:
            raise Unusable(f"--map {pair}: write field=column")
        if field in asked:
            raise Unusable(f"--map names the field {field} twice")
        asked[field] = column
    return asked


def map_events(header: Sequence[str], asked: Mapping[str, str]) -> EventColumns:
    """Raises Unusable where a column is missing; every column left over becomes a property."""
    chosen = {field: _asked_index(header, field, asked) for field in asked}
    for field, names in _EVENT_NAMES.items():
        if field not in chosen:
            chosen[field] = _recognised(header, names, taken=chosen.values())
    for field in ("account_id", "occurred_at"):
        if chosen[field] is None:
            raise _missing(header, field)
    properties: dict[str, int] = {
        field.removeprefix("properties."): index
        for field, index in chosen.items()
        if field not in _EVENT_NAMES and index is not None
    }
    if "feature" not in asked and "properties.feature" not in asked:
        index = _recognised(header, _FEATURE_NAMES, taken=chosen.values())
        if index is not None:
            properties["feature"] = index
    used = {*chosen.values(), *properties.values()}
    for index, column in enumerate(header):
        if index not in used and column and not column.startswith(OWN_PREFIX):
            properties.setdefault(column, index)
    return EventColumns(
        account_id=_known(chosen["account_id"]),
        occurred_at=_known(chosen["occurred_at"]),
        id=chosen["id"],
        user_id=chosen["user_id"],
        type=chosen["type"],
        properties=tuple(properties.items()),
        id_is_guessed=chosen["id"] is not None and "id" not in asked,
    )


def map_accounts(header: Sequence[str], asked: Mapping[str, str]) -> AccountColumns:
    """Raises Unusable where the id is missing or a field is none of an account's."""
    if unknown := sorted(set(asked) - set(COLUMN_NAMES)):
        raise Unusable(
            f"--map {unknown[0]}=…: an account has no such field; it has {', '.join(COLUMN_NAMES)}"
        )
    chosen = {field: _asked_index(header, field, asked) for field in asked}
    for field, names in COLUMN_NAMES.items():
        if field not in chosen:
            chosen[field] = _recognised(header, names, taken=chosen.values())
    if chosen["id"] is None:
        raise _missing(header, "id")
    used = set(chosen.values())
    return AccountColumns(
        id=chosen["id"],
        fields=tuple(
            (field, index) for field, index in chosen.items() if field != "id" and index is not None
        ),
        unused=tuple(
            column
            for index, column in enumerate(header)
            if index not in used and column and not column.startswith(OWN_PREFIX)
        ),
    )


def _asked_index(header: Sequence[str], field: str, asked: Mapping[str, str]) -> int | None:
    column = asked[field]
    if not column:
        return None
    if column not in header:
        raise Unusable(
            f"--map {field}={column}: the file has no column {column}; it has {', '.join(header)}"
        )
    return list(header).index(column)


def _recognised(
    header: Sequence[str], names: Sequence[str], *, taken: Iterable[int | None]
) -> int | None:
    """The first of `names` that the header has and no other field uses yet."""
    used = set(taken)
    places = {snake(column): index for index, column in enumerate(header) if index not in used}
    return next((places[name] for name in names if name in places), None)


def _missing(header: Sequence[str], field: str) -> Unusable:
    return Unusable(
        f"no column is recognised as {field}; the file has {', '.join(header)}:"
        f" say which with --map {field}=COLUMN"
    )


def _known(index: int | None) -> int:
    if index is None:
        raise AssertionError
    return index
