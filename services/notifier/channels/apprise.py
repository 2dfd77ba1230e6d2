"""Teams, PagerDuty and what else apprise knows: bare text to a target that an admin has named.

An optional extra. Apprise connects by its own means: it follows redirects, uses proxies of the
environment and resolves names itself, so the guard of `addresses.py` does not stand here. Its URLs
come from the operator's environment only, never from the team file or an account; what they must
not reach is for egress rules to refuse.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import jinja2
from pydantic import SecretStr

from services.notifier.channels import DeliveryError, Message, Receipt, wording
from services.notifier.channels.letter import as_text
from services.notifier.domain.attempts import Class, Failure
from shared.errors import Misconfigured


class Target(Protocol):
    """A loaded apprise URL."""

    def notify(self, body: str, title: str = "") -> object:
        """Blocks; what it returns is true where every service took the message."""
        ...


class Apprise:
    """All targets, by name."""

    name = "apprise"
    edits = False
    pace = timedelta(0)

    def __init__(
        self, targets: Mapping[str, Target], *, templates: jinja2.Environment, limit: timedelta
    ) -> None:
        self._targets = targets
        self._templates = templates
        self._limit = limit.total_seconds()

    async def send(self, message: Message) -> Receipt:
        target = self._targets.get(message.to)
        if target is None:
            raise _failed(Class.DESTINATION_BROKEN, "no target of that name")
        title = wording.unlinked(wording.title(message))
        body = as_text(message, self._templates)
        try:
            async with asyncio.timeout(self._limit):
                taken = await asyncio.to_thread(target.notify, body, title)
        except TimeoutError as error:
            # Its thread goes on, and may succeed.
            raise _failed(Class.AMBIGUOUS, "no answer in time") from error
        if not taken:
            # It says no more than this: wrong password and busy server look alike.
            raise _failed(Class.TRANSIENT, "not taken")
        return Receipt()


def load(urls: Mapping[str, Sequence[SecretStr]]) -> Mapping[str, Target]:
    """The targets of PERENNIAL_APPRISE_URLS; raises Misconfigured, without telling a URL.

    Reads apprise's plugins: call it at start, off the loop.
    """
    try:
        import apprise  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise Misconfigured(
            "PERENNIAL_APPRISE_URLS is set, but apprise is not installed:"
            " add the extra `apprise` (requirements-notifier-apprise.txt)"
        ) from error
    # It logs a URL that it cannot read as it is, password and all.
    logging.getLogger("apprise").disabled = True
    # Nothing on disk, and nothing that a text could switch on.
    asset = apprise.AppriseAsset(
        app_id="Perennial",
        app_desc="Perennial",
        app_url="",
        image_url_mask="",
        body_format=apprise.NotifyFormat.TEXT,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        interpret_escapes=False,
    )
    targets: dict[str, Target] = {}
    for name, ones in urls.items():
        target = apprise.Apprise(asset=asset)
        # One each: of several, those that took it would be told again when another fails.
        if len(ones) != 1 or not target.add(ones[0].get_secret_value()):
            raise Misconfigured(
                f"PERENNIAL_APPRISE_URLS: {name!r} needs one URL that apprise knows"
            )
        targets[name] = target
    return targets


def _failed(kind: Class, detail: str) -> DeliveryError:
    return DeliveryError(Failure(kind=kind, detail=detail))
