"""Who may do what in the console and its API: four roles, and what each has a right to."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """In rising order: each may do all that the one before it may."""

    VIEWER = "viewer"
    CSM = "csm"
    MANAGER = "manager"
    ADMIN = "admin"


class SignIn(StrEnum):
    """How people come in."""

    AUTO = "auto"
    """Open where only this machine reaches the console and there is no user yet, else local."""
    OPEN = "open"
    LOCAL = "local"
    OIDC = "oidc"


class Right(StrEnum):
    """What a page, a form or a call of the API needs."""

    READ = "read"
    ACT = "act"
    """Take a step on work: one's own and what belongs to the fallback; a manager on all."""
    NOTE = "note"
    """Notes, sentiments, views and preferences of one's own."""
    LEAD = "lead"
    """Silences, targets, other people's work and preferences; the hold-out."""
    ADMINISTER = "administer"
    """Users and their roles, the audit log, test messages."""


_OF: Final = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.CSM: frozenset({Right.READ, Right.ACT, Right.NOTE}),
    Role.MANAGER: frozenset({Right.READ, Right.ACT, Right.NOTE, Right.LEAD}),
    Role.ADMIN: frozenset(Right),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who asks. `address` is an e-mail address, or the name of a key (`key:SOURCE/ID`)."""

    address: str
    role: Role
    way: str
    """How they came in: `open`, `local`, `oidc`, `key`, `slack`, `link`, `command`."""

    def may(self, right: Right) -> bool:
        return right in _OF[self.role]

    def may_act_on(self, owner: str, *, fallback: Collection[str]) -> bool:
        """Whether they may take steps on work of `owner`; `fallback`: whose work is everybody's."""
        if self.may(Right.LEAD):
            return True
        known = {self.address.lower(), *(one.lower() for one in fallback)}
        return self.may(Right.ACT) and owner.lower() in known
