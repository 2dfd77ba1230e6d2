"""The load at saturation: wrk, with a script that makes every event's id its own.

The script remembers which requests wait for an answer, so that in the end it is known of each
whether it was acknowledged: `Sent`. wrk is closed-loop: its latency is that of its connections,
each of which sends the next request when the last one is answered.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.benchmarks.ingest_events import ACCOUNTS, SPREAD, TAILS, USERS, Stream

_INSTALL = "wrk is missing; Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk"


class WrkFailed(Exception):
    """wrk is missing or did not run; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The requests of one thread: 0 to `requests` - 1, all acknowledged but those in `open`."""

    thread: int
    requests: int
    open: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """What wrk saw; latencies in milliseconds."""

    seconds: float
    sent: tuple[Sent, ...]
    p50_ms: float
    p99_ms: float
    refused: int
    """Answers other than a 200 that accepts every event."""
    errors: int
    """Connections that failed, and answers that did not come in time."""

    @property
    def acknowledged(self) -> int:
        """Requests."""
        return sum(sent.requests - len(sent.open) for sent in self.sent)


def check_wrk() -> None:
    if shutil.which("wrk") is None:
        raise WrkFailed(_INSTALL)


def saturate(
    folder: Path,
    stream: Stream,
    *,
    ports: Sequence[int],
    key: str,
    seconds: float,
    connections: int,
    threads: int,
) -> Saturation:
    """Send as much as is answered; `connections` and `threads` are those of all ports together."""
    script, result = folder / f"load-{stream.load}.lua", folder / f"load-{stream.load}.json"
    first, last = f'{{"id":"{stream.id_prefix}', "%02d%010d"
    names = f'{last}","account_id":"account-%05d","user_id":"user-%05d-%02d",%s'  # as Stream.event
    script.touch(mode=0o600)  # It holds a key.
    script.write_text(
        _SCRIPT.substitute(
            event=_lua(first + names),
            tails="\n".join(f"  {_lua(tail)}," for tail in stream.tails),
            key=_lua(key),
            ports=", ".join(_lua(str(port)) for port in ports),
            result=_lua(str(result)),
            batch=stream.batch,
            body_bytes=len(stream.body(1, 0)),
            accounts=ACCOUNTS,
            users=USERS,
            tail_count=TAILS,
            by_number=SPREAD[0],
            by_thread=SPREAD[1],
            modulus=SPREAD[2],
        )
    )
    options = ["-t", str(threads), "-c", str(connections), "-d", f"{max(1, round(seconds))}s"]
    done = subprocess.run(
        ["wrk", *options, "--timeout", "20s", "-s", str(script), f"http://127.0.0.1:{ports[0]}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    if done.returncode != 0 or not result.exists():
        raise WrkFailed(f"wrk ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return _read(json.loads(result.read_text()))


def _read(found: dict[str, object]) -> Saturation:
    threads = found["threads"]
    assert isinstance(threads, list)
    return Saturation(
        seconds=float(str(found["seconds"])),
        sent=tuple(
            Sent(
                thread=thread["thread"],
                requests=thread["requests"],
                open=frozenset(thread["open"]),
            )
            for thread in threads
        ),
        p50_ms=float(str(found["p50_ms"])),
        p99_ms=float(str(found["p99_ms"])),
        refused=sum(thread["refused"] for thread in threads),
        errors=int(str(found["errors"])),
    )


def _lua(text: str) -> str:
    """A Lua string literal; our texts hold no brackets of this level."""
    return f"[==[{text}]==]"


_SCRIPT = Template("""
local EVENT = $event
local TAILS = {
$tails
}
local KEY, PORTS, RESULT = $key, {$ports}, $result
local BATCH, BODY_BYTES = $batch, $body_bytes
local ACCOUNTS, USERS, TAIL_COUNT = $accounts, $users, $tail_count
local BY_NUMBER, BY_THREAD, MODULUS = $by_number, $by_thread, $modulus
local format, floor, concat = string.format, math.floor, table.concat
local find, match = string.find, string.match

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("id", #threads)
  local port = PORTS[(#threads - 1) % #PORTS + 1]
  thread.addr = wrk.lookup("127.0.0.1", port)[1]
end

requests, refused, open = 0, 0, {}

function init(args)
  head = "POST /v1/events HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Type: application/json\\r\\n"
    .. "Authorization: Bearer " .. KEY .. "\\r\\nContent-Length: " .. BODY_BYTES .. "\\r\\n\\r\\n"
  parts = {}
end

function request()
  local first, thread = requests * BATCH, id
  for place = 1, BATCH do
    local number = first + place - 1
    local share = (number * BY_NUMBER + thread * BY_THREAD) % MODULUS / MODULUS
    local account = floor(ACCOUNTS * (share * share * share))
    parts[place] = format(
      EVENT, thread, number, account, account, number % USERS, TAILS[number % TAIL_COUNT + 1]
    )
  end
  open[requests] = requests
  requests = requests + 1
  return head .. "[" .. concat(parts, ",") .. "]"
end

function response(status, headers, body)
  local number = status == 200 and match(body, '"id":"[^"]*%-%d%d(%d+)"')
  if number and not find(body, '"status":"re', 1, true) then
    open[tonumber(number) / BATCH] = nil
  else
    refused = refused + 1
  end
end

function done(summary, latency, rates)
  local lines = {}
  for place, thread in ipairs(threads) do
    local waiting = {}
    for _, number in pairs(thread:get("open")) do waiting[#waiting + 1] = format("%d", number) end
    lines[place] = format(
      '{"thread": %d, "requests": %d, "refused": %d, "open": [%s]}',
      place, thread:get("requests"), thread:get("refused"), concat(waiting, ", ")
    )
  end
  local failed = summary.errors
  local file = assert(io.open(RESULT, "w"))
  file:write(format(
    '{"seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d, "threads": [%s]}',
    summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    failed.connect + failed.read + failed.write + failed.timeout, concat(lines, ", ")
  ))
  file:close()
end
""")
