"""Every page of the console: its route, how it is asked for, and where the API tells the same.

Three tests stand on it: that it is complete, that each page has its data in an API, and that each
is fast enough and free of barriers.
"""

from dataclasses import dataclass
from typing import Final

PAGE_MS: Final = 100
FIGURES_MS: Final = 300
"""Search and portfolio go over all accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePage:
    """`ways`: queries that are measured too; `{account}` and `{owner}` are filled in.

    `api`: paths of the notifier's API (`/api/v1/...`) and of scoring's (`/v1/...`).
    """

    name: str
    route: str
    path: str
    api: tuple[str, ...]
    ways: tuple[str, ...] = ()
    limit_ms: int = PAGE_MS
    in_nav: bool = True


PAGES: Final = (
    ConsolePage(
        name="today",
        route="/",
        path="/",
        api=("/api/v1/today", "/api/v1/interventions"),
        ways=("?owner={owner}",),
    ),
    ConsolePage(
        name="accounts",
        route="/accounts",
        path="/accounts",
        api=("/v1/accounts", "/v1/facets", "/api/v1/views"),
        ways=(
            "?q=fern",
            "?band=critical&segment=smb",
            "?owner={owner}&sort=value_at_risk",
            "?sort=name",
            "?renews_within=90",
        ),
        limit_ms=FIGURES_MS,
    ),
    ConsolePage(
        name="account",
        route="/accounts/{account_id:path}",
        path="/accounts/{account}",
        api=(
            "/v1/accounts/{account}",
            "/v1/accounts/{account}/daily",
            "/v1/accounts/{account}/history",
            "/v1/accounts/{account}/people",
            "/v1/accounts/{account}/journey",
            "/v1/accounts/{account}/goals",
            "/api/v1/interventions",
            "/api/v1/interventions/{intervention_id}",
            "/api/v1/accounts/{account}/timeline",
            "/api/v1/accounts/{account}/sentiments",
            "/api/v1/accounts/{account}/notes",
        ),
        in_nav=False,
    ),
    ConsolePage(
        name="board",
        route="/board",
        path="/board",
        api=("/api/v1/interventions",),
        ways=("?show=all", "?show=overdue&severity=critical", "?owner={owner}"),
    ),
    ConsolePage(
        name="portfolio",
        route="/portfolio",
        path="/portfolio",
        api=("/v1/portfolio", "/v1/portfolio/months", "/v1/renewals", "/v1/journey"),
        ways=("?by=owner", "?by=segment&region=DE", "?by=reseller"),
        limit_ms=FIGURES_MS,
    ),
    ConsolePage(
        name="goals",
        route="/goals",
        path="/goals",
        api=("/v1/goals", "/api/v1/targets", "/api/v1/targets/{year}/{measure}"),
        limit_ms=FIGURES_MS,
    ),
    ConsolePage(
        name="insights",
        route="/insights",
        path="/insights",
        api=("/v1/insights", "/v1/insights/{month}"),
    ),
    ConsolePage(
        name="deliveries",
        route="/deliveries",
        path="/deliveries",
        api=("/api/v1/deliveries", "/api/v1/channels"),
        ways=("?show=suppressed", "?show=dead"),
    ),
    ConsolePage(
        name="playbooks",
        route="/playbooks",
        path="/playbooks",
        api=("/api/v1/playbooks", "/api/v1/playbooks/dry-run"),
    ),
    ConsolePage(
        name="rules", route="/rules", path="/rules", api=("/v1/rules", "/v1/rules/preview")
    ),
    ConsolePage(name="silences", route="/silences", path="/silences", api=("/api/v1/silences",)),
    ConsolePage(
        name="feedback",
        route="/feedback",
        path="/feedback",
        api=("/api/v1/feedback",),
        ways=("?days=365",),
    ),
    ConsolePage(name="people", route="/people", path="/people", api=("/api/v1/people",)),
    ConsolePage(
        name="person",
        route="/people/{address:path}",
        path="/people/{owner}",
        api=("/api/v1/people/{address}",),
        in_nav=False,
    ),
    ConsolePage(
        name="sources",
        route="/sources",
        path="/sources",
        api=("/api/v1/sources", "/v1/sources/placing"),
    ),
    ConsolePage(
        name="system",
        route="/system",
        path="/system",
        api=("/v1/status", "/v1/models", "/v1/models/{version}", "/api/v1/channels"),
    ),
    ConsolePage(name="users", route="/users", path="/users", api=("/api/v1/users",)),
    ConsolePage(
        name="audit",
        route="/audit",
        path="/audit",
        api=("/api/v1/audit",),
        ways=("?actor={owner}",),
    ),
)

NO_PAGES: Final = {
    "/accounts.csv": "the list of accounts as a file",
    "/interventions/{intervention_id}": "leads to the account's page",
    "/sign-in": "before there is anybody to show something to",
    "/static/{name}": "our own files",
    "/v1/status": "JSON for the demo and for operators",
    "/welcome/{token}": "where an invitation leads",
}
