"""When the certificates that this process was given expire, read again from time to time."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from shared import logging as logs
from shared.lifecycle import stopped_within
from shared.readings import Readings

_EVERY_SECONDS = 3_600.0

log = logs.get(__name__)


async def watch(files: Mapping[str, Path], told: Readings, stop: asyncio.Event) -> None:
    """Tell, until `stop`, the expiry of each file by the name of its setting."""
    expiries: dict[str, datetime] = {}
    with ExitStack() as stack:
        stack.enter_context(
            told.told_by(lambda: [((name,), at.timestamp()) for name, at in expiries.items()])
        )
        while not stop.is_set():
            for name, path in files.items():
                try:
                    expiries[name] = await asyncio.to_thread(expiry_of, path)
                except (OSError, ValueError) as error:
                    log.warning("certificate.unreadable", setting=name, cause=type(error).__name__)
            await stopped_within(stop, _EVERY_SECONDS)


def expiry_of(path: Path) -> datetime:
    """The first moment at which one of the authorities, or the certificate, is valid no more.

    Of a certificate the file may hold those that it rests on, too; its own is the first then.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=path)
    # Private, and the only way that the library has to read a certificate that is no authority.
    first = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]  # noqa: SLF001
    ends = [str(one["notAfter"]) for one in (first, *context.get_ca_certs())]
    return datetime.fromtimestamp(min(map(ssl.cert_time_to_seconds, ends)), UTC)
