"""The API as an application: its routes, its description, its errors."""

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from services.notifier.api.arrangements import add_access, add_people, add_playbooks
from services.notifier.api.deliveries import add_deliveries
from services.notifier.api.desk import ApiDesk
from services.notifier.api.feedback import add_feedback
from services.notifier.api.interventions import add_accounts, add_interventions
from services.notifier.api.notes import add_notes, add_views
from services.notifier.api.refusals import add_errors
from services.notifier.api.silences import add_silences
from services.notifier.api.steps import add_steps
from services.notifier.api.targets import add_targets
from services.notifier.api.users import add_users

_BEARER = HTTPBearer(auto_error=False, description="A key with the scope that the route needs.")
_ABOUT = """\
The work on accounts: interventions and the steps people take on them, messages and why some were
not sent, silences, playbooks, people, sources. Risk, use and economics are scoring's to tell.

Keys are made by `perennial keys create --scope ...`. Reading needs `interventions:read` or
`settings:read`, writing `interventions:write` or `settings:write`; none includes another. A step
states the `version` that the caller saw: where the intervention has changed since, it is refused
with 409 and the row as it is now. With `Idempotency-Key`, a step or a sentiment that is sent again
is not taken again; what takes no such key (notes, silences, users) is done as often as it is sent.
Lists are read by `cursor`; page n costs what page 1 costs.
"""


def api(desk: ApiDesk) -> FastAPI:
    app = FastAPI(
        title="Perennial notifier",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        dependencies=[Depends(_BEARER)],
    )
    add_interventions(app, desk)
    add_steps(app, desk)
    add_accounts(app, desk)
    add_notes(app, desk)
    add_views(app, desk)
    add_deliveries(app, desk)
    add_feedback(app, desk)
    add_silences(app, desk)
    add_playbooks(app, desk)
    add_people(app, desk)
    add_access(app, desk)
    add_targets(app, desk)
    add_users(app, desk)
    add_errors(app)
    return app
