"""Interventions to read: by the board's filters, and one with its timeline and tasks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Response

from services.notifier import sentiments, store, tasks
from services.notifier.api import queries, views
from services.notifier.api.cursors import Cursor, Limit, cursor_of, invalid, number_of, place_of
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import YEARS, Account, Wanted
from services.notifier.api.openapi import answers
from services.notifier.api.queries import Filters, Show, Sort
from services.notifier.api.refusals import answer, refused
from services.notifier.domain.flags import MEANINGS, Kind
from services.notifier.intervention_rows import AnyRow, intervention_of
from shared.credentials import Scope
from shared.messages import Band

_ENTRIES = 200
_TAGS: list[Any] = ["interventions"]


def add_interventions(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.INTERVENTIONS_READ))]

    @app.get("/api/v1/interventions", responses=answers("list"), tags=_TAGS, dependencies=reads)
    async def list_interventions(
        show: Show = Show.ACTIVE,
        owner: Wanted = None,
        account: Wanted = None,
        kind: Annotated[Kind | None, Query(alias="type")] = None,
        reason: Wanted = None,
        severity: Band | None = None,
        sort: Sort = Sort.PRIORITY,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Interventions, by default all that are not closed, the most urgent first."""
        if reason is not None and reason not in {one.value for one in MEANINGS}:
            raise refused(422, "invalid_request", "query.reason: not one of Perennial's reasons")
        filters = Filters(
            show=show, owner=owner, account=account, kind=kind, reason=reason, severity=severity
        )
        now = desk.clock()
        async with desk.engine.connect() as connection:
            rows = await queries.list_interventions(
                connection,
                filters,
                sort,
                after=_after(cursor, sort),
                limit=limit,
                fallback=desk.roster().fallback_owner,
                now=now,
            )
        return answer(
            {
                "interventions": [
                    views.intervention(intervention_of(row), now=now)
                    | {"account_name": row.name or row.account_id}
                    for row in rows[:limit]
                ],
                "next_cursor": _cursor(rows[limit - 1], sort) if len(rows) > limit else None,
            }
        )

    @app.get(
        "/api/v1/interventions/{intervention_id}",
        responses=answers("intervention", 404),
        tags=_TAGS,
        dependencies=reads,
    )
    async def read_intervention(intervention_id: UUID) -> Response:
        """One with its reasons, the parts of its priority, its tasks and its timeline."""
        now = desk.clock()
        async with desk.engine.connect() as connection:
            one = await store.read(connection, intervention_id)
            if one is None or not one.owner:
                raise refused(404, "unknown_intervention", "there is no such intervention")
            known = await store.read_account(connection, one.account_id)
            to_do = await tasks.of_episode(connection, one)
            entries = await queries.timeline_of(connection, one.account_id, one.id, limit=_ENTRIES)
        lost = known is not None and known.is_lost
        return answer(views.in_full(one, to_do, entries[:_ENTRIES], account_lost=lost, now=now))


def add_accounts(app: FastAPI, desk: ApiDesk) -> None:
    """What the notifier knows of an account; its risk and use are scoring's to tell."""
    reads = [Depends(desk.callers.needs(Scope.INTERVENTIONS_READ))]

    @app.get(
        "/api/v1/accounts/{account:path}/timeline",
        responses=answers("timeline"),
        tags=["accounts"],
        dependencies=reads,
    )
    async def read_timeline(
        account: Account, limit: Limit = 100, cursor: Cursor = None
    ) -> Response:
        """All that happened to the account's interventions, the newest first."""
        async with desk.engine.connect() as connection:
            rows = await queries.list_timeline(
                connection, account, before=number_of(cursor), limit=limit
            )
        return answer(
            {
                "timeline": [views.entry(row) for row in rows[:limit]],
                "next_cursor": next_of(rows, limit, "id"),
            }
        )

    @app.get(
        "/api/v1/accounts/{account:path}/sentiments",
        responses=answers("sentiments"),
        tags=["accounts"],
        dependencies=reads,
    )
    async def read_sentiments(account: Account) -> Response:
        """What people felt about the account, the newest first; the newest holds, if any does."""
        now = desk.clock()
        async with desk.engine.connect() as connection:
            said = await sentiments.history(connection, account)
        return answer({"sentiments": [views.sentiment(one, now=now) for one in said]})


def next_of(rows: Sequence[AnyRow], limit: int, column: str) -> str | None:
    """The cursor of a list by falling numbers."""
    if len(rows) <= limit:
        return None
    return cursor_of(str(getattr(rows[limit - 1], column)))


def _cursor(row: AnyRow, sort: Sort) -> str:
    match sort:
        case Sort.PRIORITY:
            value = repr(row.priority)
        case Sort.DUE:
            value = row.due_at.isoformat()
        case Sort.OPENED:
            value = row.opened_at.isoformat()
    return cursor_of(sort.value, value, str(row.id))


def _after(cursor: str | None, sort: Sort) -> tuple[float | datetime, UUID] | None:
    place = place_of(cursor, 3)
    if place is None:
        return None
    by, text, last = place
    if by != sort.value:
        raise invalid()
    try:
        value = float(text) if sort is Sort.PRIORITY else datetime.fromisoformat(text)
        found = UUID(last)
    except ValueError as error:
        raise invalid() from error
    # Our own are of no other years; beyond them, zones overflow.
    if isinstance(value, datetime) and (value.tzinfo is None or value.year not in YEARS):
        raise invalid()
    return value, found
