"""`perennial migrate` makes the console's key known, once; whoever revoked it is obeyed."""

import pytest

from services import keys
from services.process import CONSOLE_SCOPES, CONSOLE_SOURCE
from shared.clock import system_clock
from shared.credentials import Secret, new_key
from shared.errors import Misconfigured
from shared.log.postgres import PostgresLog


async def test_a_key_made_elsewhere_is_announced_once_and_stays_revoked(log: PostgresLog) -> None:
    now = system_clock()
    secret = new_key(source=CONSOLE_SOURCE, scopes=CONSOLE_SCOPES, now=now).secret
    assert await keys.announce_console(log, secret, now=now)
    (record,) = await keys.read_all(log)
    assert (record.source, record.scopes) == (CONSOLE_SOURCE, ("accounts:read",))

    assert not await keys.announce_console(log, secret, now=now)
    await keys.revoke(log, key_id=record.key_id, now=now)
    assert not await keys.announce_console(log, secret, now=now)
    (record,) = await keys.read_all(log)
    assert record.revoked_at is not None


async def test_what_is_no_key_is_refused_by_the_name_of_its_setting(log: PostgresLog) -> None:
    with pytest.raises(Misconfigured, match="PERENNIAL_SCORING_KEY is not a key of Perennial"):
        await keys.announce_console(log, Secret("hunter2"), now=system_clock())
