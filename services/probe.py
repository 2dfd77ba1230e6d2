"""Asks the process of this container whether it is ready: `python -m services.probe`.

Exit code 0 when it is, else 1 and why. The standard library alone: it runs every few seconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import Final

_SECONDS: Final = 3
_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


def why_unready(host: str, port: int) -> str | None:
    """What /readyz of the admin port answers, unless it is ready."""
    connection = HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        return f"no answer from {host}:{port}: {error}"
    finally:
        connection.close()
    return None if answer.status == 200 else said.strip()


def main() -> None:
    host = os.environ.get("PERENNIAL_HOST", "")
    wrong = why_unready(
        "127.0.0.1" if host in _EVERYWHERE else host, int(os.environ.get("ADMIN_PORT") or 9100)
    )
    sys.exit(wrong)


if __name__ == "__main__":
    main()
