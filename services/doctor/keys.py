"""Keys of sources: whether anybody may send, and which end soon."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import httpx

from services.doctor.findings import Area, Finding, failed, ok, warning
from services.keys import is_live
from shared.credentials import KeyRing, Refusal, Scope
from shared.messages import WriteKey

_SOON: Final = timedelta(days=14)
_LONG: Final = timedelta(days=30)
_ASK_SECONDS: Final = 3.0


def look(ring: KeyRing, now: datetime) -> list[Finding]:
    live = [key for key in ring.records() if is_live(key, now)]
    findings = []
    if not any(Scope.EVENTS_WRITE in key.scopes for key in live):
        findings.append(
            warning(
                Area.KEYS,
                "no live key may send events",
                "perennial keys create --source NAME",
            )
        )
    findings += [
        warning(
            Area.KEYS,
            f"key {key.key_id} of {key.source} ends on {key.expires_at:%Y-%m-%d}, and no other key"
            " of it lives on",
            f"perennial keys rotate {key.key_id}",
        )
        for key in live
        if _ends_soon(key, live, now)
    ]
    findings += _of_rotations(live, now)
    return findings or [ok(Area.KEYS, f"{len(live)} keys are live")]


def look_at_console_key(ring: KeyRing, key: str | None, now: datetime) -> list[Finding]:
    """The key by which the console asks scoring, where the environment gives it."""
    if key is None:
        return []
    found = ring.check(key, now=now)
    if isinstance(found, Refusal):
        return [
            failed(
                Area.KEYS,
                f"PERENNIAL_SCORING_KEY is refused ({found.value}): the console shows no risk",
                "perennial migrate announces it, if it was never known; else make another one:"
                " perennial keys create --source perennial-console --scope accounts:read",
            )
        ]
    if Scope.ACCOUNTS_READ not in found.scopes:
        return [
            failed(
                Area.KEYS,
                "PERENNIAL_SCORING_KEY may not read accounts: the console shows no risk",
                "perennial keys create --source perennial-console --scope accounts:read",
            )
        ]
    return []


async def look_at_read_api(url: str, key: str | None) -> list[Finding]:
    """Whether the console reaches scoring; with the key that it has."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        async with httpx.AsyncClient(timeout=_ASK_SECONDS, trust_env=False) as client:
            answer = await client.get(f"{url}/v1/status", headers=headers)
    except httpx.HTTPError as error:
        return [
            warning(
                Area.KEYS,
                f"scoring's read API does not answer at {url} ({type(error).__name__}): the console"
                " works, without risks and figures",
                "start scoring, or correct PERENNIAL_SCORING_URL",
            )
        ]
    if answer.is_success or (key is None and answer.status_code == httpx.codes.UNAUTHORIZED):
        return [ok(Area.KEYS, f"scoring's read API answers at {url}")]
    return [
        failed(
            Area.KEYS,
            f"scoring's read API at {url} answers {answer.status_code}",
            "perennial doctor on scoring's machine; PERENNIAL_SCORING_KEY",
        )
    ]


def _ends_soon(key: WriteKey, live: Sequence[WriteKey], now: datetime) -> bool:
    if key.expires_at is None or key.expires_at - now > _SOON:
        return False
    until = key.expires_at
    return not any(
        other.source == key.source and (other.expires_at is None or other.expires_at > until)
        for other in live
        if other is not key
    )


def _of_rotations(live: Sequence[WriteKey], now: datetime) -> list[Finding]:
    """Two keys are for the days of a change; afterwards the old one is only one more to lose."""
    of_source: defaultdict[str, list[WriteKey]] = defaultdict(list)
    for key in live:
        of_source[key.source].append(key)
    findings = []
    for source, own in sorted(of_source.items()):
        *older, newest = sorted(own, key=lambda key: key.created_at)
        if older and older[0].expires_at is None and now - newest.created_at > _LONG:
            findings.append(
                warning(
                    Area.KEYS,
                    f"{source} has had two live keys since {newest.created_at:%Y-%m-%d}",
                    f"once nobody uses the old one: perennial keys revoke {older[0].key_id}",
                )
            )
    return findings
