"""The page of what people have changed."""

from fastapi import FastAPI
from fastapi.responses import Response

from services.notifier import audit
from services.notifier.console.pages import Pages
from services.notifier.console.rights import needs
from services.notifier.domain.access import Right
from services.notifier.domain.people import is_mail_address

PAGE = 100
_MAX_ID = 2**63 - 1


def add_audit(app: FastAPI, pages: Pages) -> None:
    @app.get("/audit", dependencies=[needs(Right.ADMINISTER)])
    async def listed(actor: str = "", account: str = "", before: int | None = None) -> Response:
        who, what = actor.strip().replace("\0", ""), account.strip().replace("\0", "")
        place = None if before is None else min(max(before, 0), _MAX_ID)
        async with pages.engine.connect() as connection:
            found = await audit.read(
                connection,
                before=place,
                account=what or None,
                actor=_actor(who) or None,
                limit=PAGE,
            )
        return pages.page(
            "audit.html",
            entries=found,
            actor=who,
            account=what,
            is_first=place is None,
            last=found[-1].id if len(found) == PAGE else None,
        )


def _actor(who: str) -> str:
    """Addresses are kept in lower case, the ids of keys are not."""
    return who.lower() if is_mail_address(who) else who
