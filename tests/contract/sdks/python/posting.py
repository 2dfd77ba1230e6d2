"""Sending for an SDK that only writes messages: what an application would do around it."""

import time

import httpx

from tests.contract.sdks.python.script import Report, Script

_TRIES = 5


class Sender:
    def __init__(self, client: httpx.Client, script: Script, report: Report) -> None:
        self._client = client
        self._url = f"{script.url}/api/v1/events"
        self._authorization = f"Bearer {script.key}"
        self._report = report

    def post(self, headers: dict[str, str], body: bytes, *, events: int = 1) -> None:
        """Post until it is taken or refused for good; the same bytes each time."""
        self._report.sent += events
        headers = {**headers, "authorization": self._authorization}
        for _ in range(_TRIES):
            answer = self._client.post(self._url, headers=headers, content=body)
            if answer.status_code not in (429, 503):
                break
            time.sleep(float(answer.headers["retry-after"]))
        if answer.status_code != 204:
            self._report.errors.append(f"{answer.status_code}: {answer.text}")
