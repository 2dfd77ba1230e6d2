"""What is set: playbooks, people and their wishes, sources and keys; and who did what."""

from datetime import time
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Response
from pydantic import AfterValidator, Field

from services.notifier import preferences, rehearsal
from services.notifier.api import queries, views
from services.notifier.api.cursors import Cursor, Limit, number_of
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import Address, Body, Line, Wanted
from services.notifier.api.interventions import next_of
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer, refused
from services.notifier.console.people import everybody
from services.notifier.domain.access import Viewer
from services.notifier.domain.calendar import known_zones
from services.notifier.domain.flags import MEANINGS, reason_of
from services.notifier.domain.people import Mode, Person, Preference, is_mail_address
from services.notifier.domain.playbooks import DEFAULT
from services.notifier.routes import CHANNELS
from shared.credentials import Scope
from shared.messages import Band

_PEOPLE: Final[list[Any]] = ["people"]
_PLAYBOOKS: Final[list[Any]] = ["playbooks"]
_ACCESS: Final[list[Any]] = ["access"]


class Trial(Body):
    """A flag that might come."""

    account_id: Annotated[Line, Field(min_length=1)]
    reason: Line
    severity: Band


def _wall(at: time) -> time:
    if at.tzinfo is not None:
        raise ValueError("without an offset: it is the person's own clock")
    return at


Wall = Annotated[time, AfterValidator(_wall)]


class Wishes(Body):
    """What a person wants for themselves; null: as the team file says."""

    mode: Mode | None = None
    email: Mode | None = None
    channels: Annotated[list[Line], Field(max_length=20)] | None = None
    zone: Line | None = None
    opens: Wall | None = None
    closes: Wall | None = None
    digest_at: Wall | None = None


def add_playbooks(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.SETTINGS_READ))]

    @app.get(
        "/api/v1/playbooks", responses=answers("playbooks"), tags=_PLAYBOOKS, dependencies=reads
    )
    async def list_playbooks() -> Response:
        """Those in force, in the order in which they are tried: the first that matches."""
        return answer(
            {
                "playbooks": desk.playbooks().ordered or (DEFAULT,),
                "problem": desk.problems().get("playbooks"),
            }
        )

    @app.post(
        "/api/v1/playbooks/dry-run",
        responses=answers("dry_run"),
        tags=_PLAYBOOKS,
        dependencies=reads,
    )
    async def dry_run(body: Trial) -> Response:
        """What a flag would do now: owner, playbook, due date, who is told; nothing is changed."""
        if body.reason not in {one.value for one in MEANINGS}:
            raise refused(422, "invalid_request", "body.reason: not one of Perennial's reasons")
        async with desk.engine.connect() as connection, connection.begin() as transaction:
            found = await rehearsal.rehearse(
                connection,
                body.account_id,
                desk.steps.stepping.desk,
                reason=reason_of(body.reason),
                severity=body.severity,
                now=desk.clock(),
            )
            await transaction.rollback()
        return answer(
            {
                "is_known": found.is_known,
                "would": found.taken,
                "owner": found.owner,
                "because": found.because,
                "playbook": found.playbook,
                "due_at": found.due_at,
                "messages": [
                    {
                        "destination": one.destination,
                        "reason": one.reason,
                        "due_at": one.due_at,
                        "urgent": one.urgent,
                        "suppressed_because": one.against,
                    }
                    for one in found.words
                ],
            }
        )


def add_people(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.SETTINGS_READ))]
    writer = Depends(desk.callers.needs(Scope.SETTINGS_WRITE))

    @app.get("/api/v1/people", responses=answers("people"), tags=_PEOPLE, dependencies=reads)
    async def list_people() -> Response:
        """All whom the team file names, or who chose something, as it is in force."""
        team = desk.team()
        async with desk.engine.connect() as connection:
            wanted = await preferences.read_all(connection)
        return answer(
            {
                "people": [
                    _person(one, wanted.get(one.address.lower())) for one in everybody(team, wanted)
                ],
                "fallback_owner": team.fallback_owner,
                "fallback_lead": team.fallback_lead,
                "problem": desk.problems().get("team"),
            }
        )

    @app.get(
        "/api/v1/people/{address}",
        responses=answers("person", 404),
        tags=_PEOPLE,
        dependencies=reads,
    )
    async def read_person(address: Address) -> Response:
        """One person's hours and channels, and what they have chosen themselves."""
        _check_address(address)
        async with desk.engine.connect() as connection:
            wanted = (await preferences.read_all(connection)).get(address.lower())
        return answer(_person(desk.roster().person(address), wanted))

    @app.put("/api/v1/people/{address}", responses=answers("person", 404), tags=_PEOPLE)
    async def prefer(address: Address, body: Wishes, viewer: Annotated[Viewer, writer]) -> Response:
        """Set what they want for themselves; what is left out is as the team file says."""
        _check_address(address)
        wanted, now = _preference(body), desk.clock()
        async with desk.engine.begin() as connection:
            await preferences.save(connection, address, wanted, by=viewer, at=now)
        return answer(_person(desk.team().person(address), wanted))


def add_access(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.SETTINGS_READ))]

    @app.get("/api/v1/sources", responses=answers("sources"), tags=_ACCESS, dependencies=reads)
    async def list_sources() -> Response:
        """Every source, how its events are read, and its keys without their secrets."""
        return answer({"sources": views.sources(desk.keys, now=desk.clock())})

    @app.get("/api/v1/audit", responses=answers("audit"), tags=_ACCESS, dependencies=reads)
    async def list_audit(
        actor: Wanted = None, account: Wanted = None, limit: Limit = 100, cursor: Cursor = None
    ) -> Response:
        """Who did what, the newest first."""
        async with desk.engine.connect() as connection:
            rows = await queries.list_audit(
                connection,
                actor=actor,
                account_id=account,
                before=number_of(cursor),
                limit=limit,
            )
        return answer(
            {
                "audit": [views.audit(row) for row in rows[:limit]],
                "next_cursor": next_of(rows, limit, "id"),
            }
        )


def _person(one: Person, wanted: Preference | None) -> dict[str, Any]:
    return {
        "address": one.address,
        "name": one.name,
        "zone": one.zone,
        "opens": one.opens,
        "closes": one.closes,
        "any_hour": one.any_hour,
        "deputy": one.deputy,
        "manager": one.manager,
        "mode": one.mode,
        "email": one.email,
        "channels": one.channels,
        "digest_at": one.digest_at,
        "own_choice": wanted or Preference(),
    }


def _preference(body: Wishes) -> Preference:
    if body.channels is not None and not set(body.channels) <= set(CHANNELS):
        raise refused(422, "invalid_request", f"body.channels: of {', '.join(CHANNELS)}")
    if body.zone is not None and body.zone not in known_zones():
        raise refused(422, "invalid_request", "body.zone: one of IANA, such as Europe/Berlin")
    if (body.opens is None) != (body.closes is None):
        raise refused(422, "invalid_request", "body: both `opens` and `closes`, or neither")
    if body.opens is not None and body.closes is not None and body.opens >= body.closes:
        raise refused(422, "invalid_request", "body: `opens` must be before `closes`")
    return Preference(
        mode=body.mode,
        email=body.email,
        # None chosen: as the team file says, for nobody can choose to be unreachable.
        channels=tuple(one for one in CHANNELS if one in (body.channels or ())) or None,
        zone=body.zone,
        opens=body.opens,
        closes=body.closes,
        digest_at=body.digest_at,
    )


def _check_address(address: str) -> None:
    if not is_mail_address(address):
        raise refused(404, "unknown_person", "it is no e-mail address")
