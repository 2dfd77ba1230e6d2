"""The notifier as a process of its own, so that a test may kill it: `python -m` this module.

Reads its settings as in production, DATABASE_URL and the embedded log; stops on SIGTERM.
"""

import asyncio
import os
import signal

from services.notifier.app import run
from services.notifier.settings import NotifierSettings
from shared import failpoints
from shared.lifecycle import new_frame
from shared.log.postgres import open_postgres_log
from shared.settings import read


async def main() -> None:
    failpoints.check_environment()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    url = os.environ["DATABASE_URL"]
    async with open_postgres_log(url) as log:
        await run(
            read(NotifierSettings),
            log=log,
            database_url=url,
            scoring_key="key",
            secret="a secret of at least 32 characters",
            frame=new_frame(),
            stop=stop,
        )


if __name__ == "__main__":
    asyncio.run(main())
