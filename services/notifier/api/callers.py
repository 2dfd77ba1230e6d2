"""Who calls: a key of a source, what it may do, and how it is named in the audit log."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from services.notifier.api.refusals import refused
from services.notifier.domain.access import Role, Viewer
from shared.clock import Clock
from shared.credentials import KeyRing, Refusal, Scope, bearer
from shared.messages import WriteKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """Checks keys; the same key is good at once after `perennial keys create`."""

    keys: KeyRing
    clock: Clock

    def needs(self, scope: Scope) -> Callable[[Request], Awaitable[Viewer]]:
        """A dependency of routes: the viewer, where its key has `scope`."""

        async def check(request: Request) -> Viewer:
            key = self.keys.check(bearer(request.headers.get("authorization")), now=self.clock())
            if key is Refusal.UNREAD:
                raise refused(503, "log_unavailable", "the keys are not read yet")
            if isinstance(key, Refusal):
                raise refused(401, "invalid_key", "the key is missing, unknown, expired or revoked")
            if scope not in key.scopes:
                raise refused(403, "scope_missing", f"the key lacks the scope {scope}")
            return viewer_of(key)

        return check


def viewer_of(key: WriteKey) -> Viewer:
    """A key acts for a department, not for a person: its scopes say how far it goes."""
    role = Role.VIEWER
    if Scope.INTERVENTIONS_WRITE in key.scopes:
        role = Role.MANAGER
    if Scope.SETTINGS_WRITE in key.scopes:
        role = Role.ADMIN
    return Viewer(address=f"key:{key.source}/{key.key_id}", role=role, way="key")
