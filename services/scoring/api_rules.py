"""The read API's questions about other rules: would they be accepted, what would they do today.

What is asked is the body, as a rules file: TOML that states what differs from the shipped rules.
Nothing is stored. A preview reads all accounts, so one is made at a time, within a limit.
"""

import asyncio
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import flag_review, rules_file
from services.scoring.api_sources import Sources, answer, refused
from services.scoring.domain.rules import Rules, RulesRejected, load
from services.scoring.flag_review import Preview
from services.scoring.openapi import answers_like

MOST_BYTES: Final = 64 * 1024
PREVIEW_SECONDS: Final = 60.0

_CHECKED: Final[dict[str, Any]] = {
    "accepted": True,
    "path": None,
    "problem": None,
    "digest": "1b4f0e9851971998",
    "changes": [{"path": "gone_silent.silent_days", "shipped": 28, "file": 14}],
}
_PREVIEWED: Final[dict[str, Any]] = {
    "accounts": 240,
    "as_of": "2026-11-22T06:18:06Z",
    "flags": {
        "gone_silent": {
            "raised_now": 14,
            "would_raise": 6,
            "would_wait": 0,
            "would_clear": 0,
            "would_clear_later": 0,
            "raised_examples": ["fernhill-media"],
            "cleared_examples": [],
        }
    },
    "storm": False,
}
_TOML: Final = {
    "requestBody": {
        "required": True,
        "description": f"Rules that differ from the shipped ones, {MOST_BYTES} bytes at most.",
        "content": {
            "application/toml": {
                "schema": {"type": "string", "maxLength": MOST_BYTES},
                "example": "[gone_silent]\nsilent_days = 14\n",
            }
        },
    }
}


def add_rules(app: FastAPI, sources: Sources, *, seconds: float = PREVIEW_SECONDS) -> None:
    """`seconds`: how long a preview may take."""
    reading, previewing = asyncio.Lock(), asyncio.Lock()

    async def read_rules(request: Request) -> Rules:
        content = await _body(request)
        # The worst that fits takes half a second (measured): one after the other, beside the loop.
        async with reading:
            return await asyncio.to_thread(load, content)

    @app.post(
        "/v1/rules/check",
        responses=answers_like(_CHECKED, 413),
        openapi_extra=_TOML,
        tags=["rules"],
    )
    async def check_rules(request: Request) -> Response:
        """Whether these rules would be accepted, and what they change of the shipped ones.

        If they are not: `path` is the entry that is wrong, `problem` says what is allowed.
        """
        try:
            rules = await read_rules(request)
            changes = await asyncio.to_thread(rules_file.changes, rules)
        except RulesRejected as error:
            refusal = {"path": error.path or None, "problem": error.problem}
            return answer({"accepted": False, **refusal, "digest": None, "changes": []})
        return answer(
            {
                "accepted": True,
                "path": None,
                "problem": None,
                "digest": rules.digest,
                "changes": [one.as_json() for one in changes],
            }
        )

    @app.post(
        "/v1/rules/preview",
        responses=answers_like(_PREVIEWED, 413),
        openapi_extra=_TOML,
        tags=["rules"],
    )
    async def preview_rules(request: Request) -> Response:
        """What these rules would do to today's accounts, as of their last look; nothing changes.

        One preview at a time: else 503, code `preview_busy`; one that takes too long ends with
        503, code `preview_too_long`. `storm`: the storm guard would hold what they raise.
        """
        try:
            rules = await read_rules(request)
        except RulesRejected as error:
            raise refused(422, "rules_rejected", str(error)) from error
        if previewing.locked():
            raise refused(503, "preview_busy", "another preview is being made")
        async with previewing:
            try:
                async with asyncio.timeout(seconds):
                    found = await sources.read(lambda connection: _preview(connection, rules))
            except TimeoutError as error:
                raise refused(503, "preview_too_long", f"not ready in {seconds:g} s") from error
        return answer(msgspec.to_builtins(found))


async def _preview(connection: AsyncConnection, rules: Rules) -> Preview:
    # Between two reads thousands of accounts are judged; our connections end sooner by default.
    await connection.execute(
        text(
            "SELECT set_config('idle_in_transaction_session_timeout', '60s', true),"
            " set_config('statement_timeout', '30s', true)"
        )
    )
    return await flag_review.preview(connection, rules)


async def _body(request: Request) -> bytes:
    """The whole body; what is too long is not read to its end."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise refused(413, "body_too_large", f"at most {MOST_BYTES} bytes are taken")
    return bytes(content)
