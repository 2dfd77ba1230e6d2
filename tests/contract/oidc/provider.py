"""npm's oidc-provider as a process, and a person who goes through its pages."""

import asyncio
import re
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx

from tests.contract.sdks.installs import require_node
from tests.processes import at_our_end, free_port

_HERE = Path(__file__).parent
_START_SECONDS = 30.0
_MOST_PAGES = 15
SECRET = "a+b/c=d %&:e"


@dataclass(slots=True, kw_only=True)
class NodeProvider:
    """Started anew it has other keys, and knows nobody any more."""

    port: int
    redirect_uri: str
    _process: subprocess.Popen[str] | None = None
    _watchdog: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            line = await asyncio.to_thread(self._start)
        assert line == "ready", "oidc-provider did not start"

    def _start(self) -> str:
        self._process = subprocess.Popen(
            ["node", "provider.mjs", str(self.port), self.redirect_uri],
            cwd=_HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._watchdog = at_our_end('kill "$1"', self._process.pid)
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        for process in (self._watchdog, self._process):
            if process is not None:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()
        self._process = self._watchdog = None


def new_provider(redirect_uri: str) -> NodeProvider:
    """Skips where there is no Node."""
    require_node(_HERE, what="the OpenID provider", oldest=20)
    return NodeProvider(port=free_port(), redirect_uri=redirect_uri)


async def go_through(browser: httpx.AsyncClient, start: str, person: str, *, until: str) -> str:
    """From `start` through the provider's forms as `person`; the address at which `until` begins.

    That address is not asked for: the test does, or something else.
    """
    answer = await browser.get(start)
    for _ in range(_MOST_PAGES):
        if answer.is_redirect:
            there = urljoin(str(answer.url), answer.headers["location"])
            if there.startswith(until):
                return there
            answer = await browser.get(there)
            continue
        assert answer.status_code == 200, (answer.status_code, answer.url, answer.text[:300])
        action, fields = _filled(answer, person)
        answer = await browser.post(action, data=fields)
    raise AssertionError("the provider asks for ever")


def _filled(page: httpx.Response, person: str) -> tuple[str, dict[str, str]]:
    form = re.search(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', page.text, re.DOTALL)
    assert form is not None, page.text[:300]
    fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form[2]))
    if fields.get("prompt") == "login":
        fields |= {"login": person, "password": "any"}
    return urljoin(str(page.url), unescape(form[1])), fields
