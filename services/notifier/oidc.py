"""Sign-in by an OpenID provider: authorization code with PKCE, state and nonce.

Authlib makes the request and checks the ID token's claims, joserfc its signature; what goes over
the network goes by our own client, with limits. What the provider says of itself, and its keys, are
kept: while it is away nobody new comes in, and who is in stays.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import httpx
import msgspec
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from pydantic import SecretStr

from services.notifier.capped import AnswerTooLong, asked
from services.notifier.domain.identity import Claims, Going, NotIdentified, Registration
from services.notifier.settings import is_secure
from shared.clock import Clock
from shared.errors import DependencyAway

T = TypeVar("T")

_LIMIT: Final = timedelta(seconds=5)
_MOST_BYTES: Final = 1_048_576
_KEPT: Final = timedelta(hours=1)
_KEYS_AT_MOST_EVERY: Final = timedelta(minutes=1)
_SKEW_SECONDS: Final = 60
# What is signed with a shared secret, or not at all, is not taken.
_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What of the provider's own description is used; the rest is left alone."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    id_token: str
    access_token: str


@dataclass(slots=True, kw_only=True)
class Provider:
    registration: Registration
    secret: SecretStr | None
    client: httpx.AsyncClient
    clock: Clock
    _metadata: _Metadata | None = None
    _metadata_at: datetime | None = None
    _keys: KeySet | None = None
    _keys_at: datetime | None = None
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Asks for what is kept: many who sign in at once ask but once."""

    def setting_out(self) -> Going:
        return Going(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
        )

    async def address(self, going: Going, *, back_to: str) -> str:
        """Where to send the person; raises DependencyAway."""
        known = await self._described()
        address: str = prepare_grant_uri(
            known.authorization_endpoint,
            client_id=self.registration.client_id,
            response_type="code",
            redirect_uri=back_to,
            scope=self.registration.scope,
            state=going.state,
            nonce=going.nonce,
            code_challenge=create_s256_code_challenge(going.verifier),
            code_challenge_method="S256",
        )
        return address

    async def claims(self, going: Going, *, code: str, issuer: str | None, back_to: str) -> Claims:
        """Who came back with `code`; raises NotIdentified, DependencyAway."""
        known = await self._described()
        # RFC 9207: another provider's answer must not be taken for this one's.
        if issuer != known.issuer and (
            issuer is not None or known.authorization_response_iss_parameter_supported
        ):
            raise NotIdentified("the answer is another provider's")
        token = await self._token(known, going, code, back_to)
        claims = await self._checked(known, going, token)
        told = {"email", "email_verified", self.registration.role_claim or "email"}
        if told <= claims.keys() or known.userinfo_endpoint is None:
            return claims
        return {**await self._more(known.userinfo_endpoint, token, claims), **claims}

    async def is_there(self) -> bool:
        """Whether somebody can be sent to it."""
        try:
            await self._described()
        except (DependencyAway, NotIdentified):
            return False
        return True

    async def _token(self, known: _Metadata, going: Going, code: str, back_to: str) -> _Token:
        body = urlencode(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": back_to,
                "code_verifier": going.verifier,
            }
        )
        url, headers, signed = self._auth(known).prepare(
            "POST", known.token_endpoint, {"Accept": "application/json"}, body
        )
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        answer = await self._ask("POST", url, headers=headers, content=signed)
        if answer.status_code in (400, 401):
            raise NotIdentified(f"the provider refuses the code: {_error(answer.content)}")
        return self._decoded(answer, _Token)

    def _auth(self, known: _Metadata) -> ClientAuth:
        client_id = self.registration.client_id
        if self.secret is None:
            return ClientAuth(client_id, None, "none")
        secret = self.secret.get_secret_value()
        if "client_secret_basic" in known.token_endpoint_auth_methods_supported:
            # RFC 6749, 2.3.1: both are form-encoded first, which Authlib leaves to us.
            return ClientAuth(quote(client_id, safe=""), quote(secret, safe=""))
        return ClientAuth(client_id, secret, "client_secret_post")

    async def _checked(self, known: _Metadata, going: Going, token: _Token) -> dict[str, Any]:
        try:
            decoded = await self._verified(known, token.id_token)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                options={
                    "iss": {"essential": True, "value": known.issuer},
                    "aud": {"essential": True, "value": self.registration.client_id},
                },
                params={
                    "nonce": going.nonce,
                    "client_id": self.registration.client_id,
                    "access_token": token.access_token,
                },
            )
            claims.validate(now=int(self.clock().timestamp()), leeway=_SKEW_SECONDS)
        except (JoseError, ValueError) as error:
            raise NotIdentified(f"the ID token is not right: {type(error).__name__}") from error
        return dict(claims)

    async def _verified(self, known: _Metadata, id_token: str) -> jwt.Token:
        keys = await self._signers(known)
        try:
            return jwt.decode(id_token, keys, algorithms=_ALGORITHMS)
        except (InvalidKeyIdError, ValueError):
            # They may have changed since: look again, but not for each made-up key.
            renewed = await self._signers(known, asked_after=_KEYS_AT_MOST_EVERY)
            return jwt.decode(id_token, renewed, algorithms=_ALGORITHMS)

    async def _more(self, url: str, token: _Token, claims: Claims) -> dict[str, Any]:
        """What the provider tells at its userinfo endpoint alone: addresses often, and groups."""
        headers = {"Authorization": f"Bearer {token.access_token}", "Accept": "application/json"}
        answer = await self._ask("GET", url, headers=headers)
        more = self._decoded(answer, dict[str, Any])
        if more.get("sub") != claims.get("sub"):
            raise NotIdentified("the provider tells of somebody else than it let in")
        return more

    async def _described(self) -> _Metadata:
        async with self._one:
            if self._metadata is not None and self._is_fresh(self._metadata_at, _KEPT):
                return self._metadata
            try:
                self._metadata = await self._describe()
            except DependencyAway:
                if self._metadata is None:
                    raise
                return self._metadata  # An old one serves as well as none.
            self._metadata_at = self.clock()
            return self._metadata

    async def _describe(self) -> _Metadata:
        issuer = self.registration.issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = self._decoded(await self._ask("GET", url), _Metadata)
        if found.issuer != issuer:
            raise NotIdentified("the provider names itself otherwise than PERENNIAL_OIDC_ISSUER")
        named = (
            found.authorization_endpoint,
            found.token_endpoint,
            found.jwks_uri,
            found.userinfo_endpoint or found.jwks_uri,
        )
        if not all(map(is_secure, named)):
            raise NotIdentified("the provider names an address that is not https://")
        return found

    async def _signers(self, known: _Metadata, *, asked_after: timedelta = _KEPT) -> KeySet:
        async with self._one:
            if self._keys is not None and self._is_fresh(self._keys_at, asked_after):
                return self._keys
            answer = await self._ask("GET", known.jwks_uri)
            found = self._decoded(answer, dict[str, Any])
            try:
                self._keys = KeySet.import_key_set(_signing(found))
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise NotIdentified("the provider's keys cannot be read") from error
            self._keys_at = self.clock()
            return self._keys

    def _is_fresh(self, at: datetime | None, kept: timedelta) -> bool:
        return at is not None and self.clock() < at + kept

    async def _ask(self, method: str, url: str, **rest: Any) -> httpx.Response:
        """Never further than that address; an answer that is not too long."""
        try:
            async with asyncio.timeout(_LIMIT.total_seconds()):
                answer = await asked(self.client, method, url, most_bytes=_MOST_BYTES, **rest)
        except AnswerTooLong as error:
            raise NotIdentified("the provider's answer is too long") from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise DependencyAway("the identity provider") from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise DependencyAway("the identity provider")
        return answer

    def _decoded(self, answer: httpx.Response, kind: type[T]) -> T:
        if answer.status_code != 200:
            raise NotIdentified(f"the provider answers with HTTP {answer.status_code}")
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotIdentified("the provider's answer cannot be read") from error


@asynccontextmanager
async def open_provider(
    registration: Registration,
    *,
    secret: SecretStr | None,
    clock: Clock,
) -> AsyncIterator[Provider]:
    limit = _LIMIT.total_seconds()
    async with httpx.AsyncClient(timeout=limit, trust_env=False) as client:
        yield Provider(registration=registration, secret=secret, client=client, clock=clock)


def _signing(found: Mapping[str, Any]) -> Any:
    """Keys to encrypt with, and of kinds that are not known, would spoil the whole set."""
    known = {"RSA", "EC", "OKP"}
    keys = [
        one for one in found["keys"] if one.get("kty") in known and one.get("use", "sig") == "sig"
    ]
    return {"keys": keys}


def _error(body: bytes) -> str:
    """The code of an OAuth error, where it is one."""
    try:
        said = msgspec.json.decode(body, type=dict[str, Any]).get("error", "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no reason is given"
    return "".join(char for char in str(said) if char.isalnum() or char in "_-.")[:60]
