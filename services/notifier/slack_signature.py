"""Whether a request comes from Slack: it signs the time and the body with a secret of the app's."""

import hashlib
import hmac
import re
from datetime import datetime

from pydantic import SecretStr
from starlette.datastructures import Headers

WINDOW_SECONDS = 300
_TIMESTAMP = "x-slack-request-timestamp"
_SIGNATURE = "x-slack-signature"
_DIGITS = re.compile(r"[0-9]{1,12}")


def is_recent(headers: Headers, *, now: datetime) -> bool:
    """Whether it carries one signature and one time of at most 5 minutes ago, or ahead.

    Worth asking before the body is read; proves nothing by itself.
    """
    stamps = headers.getlist(_TIMESTAMP)
    if len(stamps) != 1 or len(headers.getlist(_SIGNATURE)) != 1:
        return False
    stamp = stamps[0]
    if _DIGITS.fullmatch(stamp) is None:
        return False
    return abs(now.timestamp() - int(stamp)) <= WINDOW_SECONDS


def is_signed(headers: Headers, body: bytes, *, secret: SecretStr, now: datetime) -> bool:
    """Whether exactly this body was signed with the secret, at a time that `is_recent`."""
    if not is_recent(headers, now=now):
        return False
    signed = b"v0:" + headers[_TIMESTAMP].encode() + b":" + body
    expected = hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()
    # Bytes: text outside ASCII would raise instead of differing.
    return hmac.compare_digest(headers[_SIGNATURE].encode(), f"v0={expected}".encode())
