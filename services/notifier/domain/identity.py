"""What an identity provider says of a person, and what it makes of them here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from services.notifier.domain.access import Role
from services.notifier.domain.people import is_mail_address
from shared.errors import PerennialError

Claims: TypeAlias = Mapping[str, object]


class NotLetIn(StrEnum):
    """Why somebody whom the provider knows is not let in."""

    NO_ADDRESS = "no_address"
    UNVERIFIED = "unverified"
    NO_ROLE = "no_role"
    DISABLED = "disabled"


class NotIdentified(PerennialError):
    """The provider's answer cannot be taken; the text says why, and holds no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """A person on their way to the provider and back: random, and told to nobody else."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What the provider knows us as, and how its claims are read."""

    issuer: str
    client_id: str
    scope: str
    role_claim: str | None
    roles: Mapping[str, Role]
    default_role: Role | None
    takes_unverified: bool


def address_of(claims: Claims, registration: Registration) -> str | NotLetIn:
    """In lower case."""
    address = claims.get("email")
    if not isinstance(address, str) or not is_mail_address(address):
        return NotLetIn.NO_ADDRESS
    # Some providers say it as a text.
    is_verified = claims.get("email_verified") in (True, "true")
    if not is_verified and not registration.takes_unverified:
        return NotLetIn.UNVERIFIED
    return address.lower()


def role_of(claims: Claims, registration: Registration, *, known_as: Role | None) -> Role | None:
    """`known_as`: their role here until now; it counts only where no claim is mapped.

    Else somebody whose group was taken from them would keep what it had given.
    """
    if registration.role_claim is None:
        return known_as or registration.default_role
    said = _values(claims, registration.role_claim)
    found = {role for value, role in registration.roles.items() if value in said}
    return max(found, key=list(Role).index, default=registration.default_role)


def roles_of(text: str) -> Mapping[str, Role]:
    """Raises ValueError where it is no mapping of texts to roles."""
    found = json.loads(text) if text.strip() else {}
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the text is wrong, not its type
    return {str(value): Role(role) for value, role in found.items()}


def _values(claims: Claims, name: str) -> frozenset[str]:
    """Of a claim that is a text or a list of them; `a.b`: of `b` within `a`."""
    found: object = claims.get(name)
    if name not in claims:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    several = found if isinstance(found, list) else [found]
    return frozenset(one for one in several if isinstance(one, str))
