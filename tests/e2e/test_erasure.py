"""I10: erased stays erased, after a replay from the first offset and after a restore.

Words that stand nowhere else are planted through every door; then every column of every table, the
log, what is sent, what is logged and what the APIs answer is read.
"""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.scoring.domain.activity import user_key
from shared.credentials import hash_user
from shared.embedded_postgres import _binaries
from tests.databases import DatabaseServer
from tests.e2e.deployments import FAST, SERVICES, Deployment, bearer, eventually
from tests.e2e.test_main_job import put_account, send
from tests.e2e.traces import Traces, said_in, traces
from tests.processes import PerennialProcess
from tests.standins.mail import FakeMail, fake_mail
from tests.standins.slack import FakeSlack, fake_slack

MARK = "zq7canary"
ACCOUNT, NAME, PERSON = f"{MARK}-account", f"{MARK} Name GmbH", f"{MARK}.person@people.example"
OTHER = "globex"
"""An account that stays, where the person is active too."""
HASH_KEY = "0123456789abcdef0123456789abcdef"
HASHED = hash_user(HASH_KEY.encode(), PERSON)
WORDS = {
    "account": ACCOUNT,
    "name": NAME,
    "feature": f"{MARK}-feature",
    "goal": f"{MARK}_goal",
    "note": f"{MARK} note",
    "mood": f"{MARK} mood",
    "view": f"q={MARK}",
    "silence": f"{MARK} silence",
    "step": f"{MARK} closing",
    "plan": f"{MARK}-plan",
    "segment": f"{MARK}-segment",
}
"""Of the account: what was told of it, and what people wrote about it."""
PLAIN = {"person": PERSON}
HASHES = {"hash": HASHED, "key": str(user_key(HASHED))}
SUPPRESSION = {
    "scoring.erased_accounts",
    "notifier.accounts",
    "notifier.agenda",
    "notifier.timeline",
}
"""Where an erased account's id stays, alone with the moment."""
OF_THE_PERSON = {"scoring.account_day", "scoring.memberships", "scoring.group_calls"}
DELETED_BY_RETENTION = {
    "log:usage-events",
    "log:directory-changes",
    "log:flags",
    "log:outcomes",
    "log:rejected",
}
SCOPES = (
    "events:write", "accounts:write", "backfill", "accounts:read", "erase", "interventions:read",
    "interventions:write", "settings:read", "settings:write",
)  # fmt: skip


_BACKFILL = {"Perennial-Backfill": "true"}


@dataclass(slots=True, kw_only=True)
class Stage:
    deployment: Deployment
    process: PerennialProcess
    client: httpx.AsyncClient
    server: DatabaseServer
    database: str
    key: str
    slack: FakeSlack
    mail: FakeMail

    @property
    def url(self) -> str:
        return self.server.database_url(self.database)

    @property
    def folder(self) -> Path:
        """Its data folder."""
        return Path(self.process.environment["PERENNIAL_DATA_DIR"])

    def files(self) -> str:
        """All that lies in its data folder but the receipts, which name the account."""
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return "\n".join(
            f"{path.name}\n{path.read_text(errors='replace')}"
            for path in found
            if path.parent.name != "receipts"
        )

    async def look(self) -> Traces:
        return await traces(self.url, WORDS | PLAIN | HASHES)

    async def post(self, path: str, body: object, *, status: int = 200) -> Any:
        answer = await self.client.post(
            f"{self.process.url('ingest')}{path}",
            headers=bearer(self.key, **_BACKFILL),
            json=body,
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    async def tell(self, path: str, body: object) -> None:
        answer = await self.client.post(
            f"{self.process.url('notifier')}{path}", headers=bearer(self.key), json=body
        )
        assert answer.status_code in (200, 201), answer.text

    async def all_that_is_answered(self) -> str:
        """What the read API, the notifier's API and the console say, of everything."""
        scoring, notifier = self.process.url("scoring"), self.process.url("notifier")
        paths = [
            *(
                f"{scoring}/v1/{one}"
                for one in (
                    "accounts", "facets", "goals", "journey", "portfolio", "renewals", "status",
                    f"accounts/{OTHER}", f"accounts/{OTHER}/people",
                )
            ),
            *(
                f"{notifier}/api/v1/{one}"
                for one in (
                    "interventions?show=all", "deliveries", "audit", "views", "silences",
                    "feedback", "people", f"accounts/{OTHER}/timeline",
                )
            ),
            *(f"{notifier}/{one}" for one in ("", "board?show=all", "accounts", "goals")),
        ]  # fmt: skip
        said = []
        for path in paths:
            answer = await self.client.get(path, headers=bearer(self.key), follow_redirects=True)
            said.append(f"{answer.status_code} {path}\n{answer.text}")
        return "\n".join(said)

    def sent(self) -> list[str]:
        """Every message that was taken by Slack and by the mail server."""
        posted = [json.dumps(one, ensure_ascii=False) for one in self.slack.posted]
        return [*posted, *(one.decode(errors="replace") for one in self.mail.raw)]

    async def quiet(self) -> None:
        """Every record is read, every mark looked at, and nothing waits to leave or to be sent."""
        waits: list[Any] = []

        async def is_quiet() -> bool:
            connection = await asyncpg.connect(self.url)
            try:
                waits[:] = await connection.fetchrow(_WAITS)
            finally:
                await connection.close()
            return not any(waits)

        for _ in range(2):
            try:
                await eventually(is_quiet, seconds=60)
            except AssertionError:
                pytest.fail(f"marks, outboxes, deliveries and lags that wait: {waits}")
            await asyncio.sleep(1)  # A sweep's and a relay's round: what they find is seen.

    async def erase(self, *arguments: str) -> dict[str, Any]:
        said = await asyncio.to_thread(self.deployment.cli, "erase", *arguments, "--json")
        found: dict[str, Any] = json.loads(said)
        return found

    async def stop(self) -> None:
        assert await asyncio.to_thread(self.process.terminate) == 0

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)


_WAITS = """
SELECT (SELECT count(*) FROM scoring.dirty), (SELECT count(*) FROM scoring.outbox),
    (SELECT count(*) FROM notifier.outbox),
    (SELECT count(*) FROM notifier.deliveries WHERE state IN ('pending', 'sending') AND is_due),
    (SELECT array_agg((topic, p.next_offset, h.next_offset)::text) FROM log.heads AS h
        JOIN (SELECT topic, partition, next_offset FROM scoring.log_positions
            UNION ALL SELECT topic, partition, next_offset FROM notifier.log_positions)
            AS p USING (topic, partition) WHERE p.next_offset < h.next_offset)
"""


@pytest.fixture
async def stage(
    database_server: DatabaseServer, client: httpx.AsyncClient, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with (
        fake_slack() as slack,
        fake_mail() as mail,
        database_server.copy_of_template() as url,
    ):
        process = PerennialProcess(
            tmp_path / "up",
            **FAST,
            DATABASE_URL=url,
            PERENNIAL_USER_HASH_KEY=HASH_KEY,
            SLACK_WEBHOOK_URL=slack.url,
            SMTP_URL=mail.url,
        )
        deployment = Deployment(processes=dict.fromkeys(SERVICES, process))
        try:
            await asyncio.to_thread(process.start)
            yield Stage(
                deployment=deployment,
                process=process,
                client=client,
                server=database_server,
                database=url.rpartition("/")[2].partition("?")[0],
                key=await asyncio.to_thread(deployment.new_key, *SCOPES),
                slack=slack,
                mail=mail,
            )
        finally:
            process.stop()


def use(account: str, *, first: int, last: int) -> list[dict[str, Any]]:
    """The person uses the feature once a day, from `first` to `last` days ago."""
    now = datetime.now(UTC)
    return [
        {
            "id": f"{account}-{age}",
            "account_id": account,
            "user_id": PERSON,
            "type": "feature_used",
            "occurred_at": (now - timedelta(days=age)).isoformat(),
            "properties": {"feature": WORDS["feature"] if account == ACCOUNT else "export"},
        }
        for age in range(last, first + 1)
    ]


async def plant(stage: Stage) -> None:
    """Through every door: events in four formats, the directory, rejects, people's work."""
    client, deployment, key = stage.client, stage.deployment, stage.key
    renewal = (datetime.now(UTC).date() + timedelta(days=60)).isoformat()
    goal = {"metric": WORDS["goal"], "baseline": 1, "target": 5, "due": renewal}
    for account, name in ((ACCOUNT, NAME), (OTHER, "Globex")):
        goals = {"goals": [goal], "plan": WORDS["plan"]} if account == ACCOUNT else {}
        segment = WORDS["segment"] if account == ACCOUNT else "smb"
        await put_account(
            client, deployment, key, account, name=name, owner="csm@example.com", mrr="900",
            currency="EUR", contract_end=renewal, status="active", segment=segment, **goals,
        )  # fmt: skip
    await send(client, deployment, key, use(ACCOUNT, first=90, last=35))
    await send(client, deployment, key, use(OTHER, first=60, last=0))
    now = datetime.now(UTC)
    old = (now - timedelta(days=36)).isoformat()
    track = {
        "type": "track", "messageId": "s-1", "userId": PERSON, "event": "Export",
        "context": {"groupId": ACCOUNT}, "timestamp": old,
    }  # fmt: skip
    group = {
        "type": "group", "messageId": "s-2", "userId": PERSON, "groupId": ACCOUNT,
        "traits": {"name": NAME},
    }  # fmt: skip
    await stage.post("/v1/batch", {"batch": [track, group]})
    captured = {
        "event": "export", "distinct_id": PERSON, "uuid": str(uuid4()), "timestamp": old,
        "properties": {"$groups": {"company": ACCOUNT}},
    }  # fmt: skip
    await stage.post("/batch", {"api_key": key, "batch": [captured]})
    cloud = {
        "specversion": "1.0", "id": "c-1", "source": "/app", "type": "login", "time": old,
        "data": {"account_id": ACCOUNT, "user_id": PERSON},
    }  # fmt: skip
    await client.post(
        f"{stage.process.url('ingest')}/api/v1/events",
        headers=bearer(key, **_BACKFILL, **{"Content-Type": "application/cloudevents+json"}),
        content=json.dumps(cloud),
    )
    await asyncio.to_thread(import_file, stage, old)
    # Set aside: an event without a type, an account with a contradiction.
    broken = {"id": "q-1", "account_id": ACCOUNT, "user_id": PERSON}
    await stage.post("/v1/events", [broken], status=400)
    wrong = {"id": ACCOUNT, "name": NAME, "mrr": "much"}
    await stage.post("/v1/accounts:batch", [wrong], status=400)


def import_file(stage: Stage, at: str) -> None:
    file = stage.folder.parent / "events.csv"
    file.write_text(f"account_id,user_id,type,occurred_at,id\n{ACCOUNT},{PERSON},login,{at},i-1\n")
    url = stage.process.url("ingest")
    stage.deployment.cli("import", "events", str(file), "--url", url, "--key", stage.key)
    file.unlink()


async def work(stage: Stage) -> None:
    """What people do about it, as soon as they have heard of it."""

    async def heard() -> bool:
        return bool(stage.slack.posted and stage.mail.raw)

    await eventually(heard, seconds=60, what="Slack and mail tell of it")
    account = f"/api/v1/accounts/{ACCOUNT}"
    soon = (datetime.now(UTC) + timedelta(days=5)).isoformat()
    await stage.tell(f"{account}/notes", {"text": WORDS["note"]})
    await stage.tell(
        f"{account}/sentiments", {"mood": "bad", "note": WORDS["mood"], "expires_at": soon}
    )
    await stage.tell("/api/v1/views", {"name": NAME, "query": WORDS["view"]})
    await stage.tell(
        "/api/v1/silences",
        {"matchers": {"account": ACCOUNT}, "ends_at": soon, "comment": WORDS["silence"]},
    )
    await step(stage, "acknowledge", {})
    await step(stage, "close", {"outcome": "saved", "note": WORDS["step"]})


async def step(stage: Stage, name: str, body: dict[str, str]) -> None:
    """On the account's intervention, as it is now: scoring may change it meanwhile."""
    url = f"{stage.process.url('notifier')}/api/v1/interventions"

    async def is_taken() -> bool:
        found = (await stage.client.get(url, headers=bearer(stage.key))).json()["interventions"]
        [mine, *_] = [one for one in found if one["account_id"] == ACCOUNT]
        answer = await stage.client.post(
            f"{url}/{mine['id']}/{name}",
            headers=bearer(stage.key),
            json={**body, "version": mine["version"]},
        )
        assert answer.status_code in (200, 409), answer.text
        return answer.status_code == 200

    await eventually(is_taken, what=f"{name} is taken")


async def leftovers(stage: Stage) -> None:
    """What a backup may hold: a flag in the outbox, a message in the queue; nobody runs."""
    connection = await asyncpg.connect(stage.url)
    try:
        await connection.execute(
            "INSERT INTO scoring.outbox (topic, key, value, headers)"
            " SELECT topic, key, value, '\\x90' FROM log.records"
            " WHERE topic = 'flags' AND key = convert_to($1, 'UTF8') LIMIT 1",
            ACCOUNT,
        )
        again = await connection.execute(
            "UPDATE notifier.deliveries SET state = 'pending', is_due = true, due_at = now(),"
            " ended_at = NULL WHERE id = (SELECT id FROM notifier.deliveries"
            " WHERE account_id = $1 LIMIT 1)",
            ACCOUNT,
        )
        assert again == "UPDATE 1"
        await connection.execute("UPDATE notifier.destinations SET due_at = now()")
    finally:
        await connection.close()


def assert_gone(found: Traces) -> None:
    """Of the account the id, of the person the hash, where it says that they are erased."""
    assert found.tables_of("account") == SUPPRESSION
    for name in WORDS.keys() - {"account"}:
        assert not found.tables_of(name), (name, found.found[name])
    assert found.tables_of("hash") == {"scoring.erased_users"}
    assert found.tables_of("key") == {"scoring.erased_users"}
    assert not found.of("person")
    of_log = {place for name in (*WORDS, "hash") for place in found.topics(name)}
    # Of the directory the tombstone stays, by the account's id.
    assert of_log <= DELETED_BY_RETENTION | {"log:accounts"}, of_log


async def test_erased_stays_erased_after_a_replay_and_a_restore(
    stage: Stage, tmp_path: Path
) -> None:
    await plant(stage)
    await work(stage)
    await stage.quiet()

    # The scan finds everything where it is: it can fail.
    before = await stage.look()
    for name in WORDS:
        assert before.tables_of(name), f"{name} was planted in no table"
    assert before.tables_of("key") == OF_THE_PERSON
    assert before.topics("hash") >= {"log:usage-events", "log:rejected"}
    assert {"log:rejected", "log:usage-events"} <= before.topics("account")
    assert not before.of("person"), "ingest lets nobody's id through"
    answered = await stage.all_that_is_answered()
    assert said_in(answered, WORDS) >= {"account", "name", "silence"}
    assert any(said_in(one, WORDS) for one in stage.sent())

    await stage.stop()
    await leftovers(stage)
    dump = tmp_path / "backup.dump"
    await asyncio.to_thread(_run, "pg_dump", "-Fc", "-f", str(dump), "-d", stage.url)
    await stage.start()
    await stage.quiet()

    plan = await stage.erase("account", ACCOUNT)
    assert plan["would_go"]["scoring.account_day"] == 56  # 90 to 35 days ago.
    began = time.monotonic()
    account = await stage.erase("account", ACCOUNT, "--yes")
    person = await stage.erase("user", PERSON, "--yes")
    seconds = time.monotonic() - began
    assert (account["pending"], person["pending"]) == ([], [])
    await stage.quiet()
    told = len(stage.sent())
    erased = await stage.look()
    assert_gone(erased)

    # From the first record on, quarantine too.
    await stage.stop()
    await _positions_to_zero(stage)
    await stage.start()
    await asyncio.to_thread(_replay_quarantine, stage)
    await stage.quiet()
    replayed = await stage.look()
    assert_gone(replayed)
    assert not said_in(await stage.all_that_is_answered(), WORDS | PLAIN | HASHES)
    [still] = await _rows(stage, "SELECT count(*) FROM scoring.account_day")
    assert still == 61, "the other account has its days, without the person"

    # The backup knows nothing of it, and has a flag and a message that would leave.
    await stage.stop()
    await _restore(stage, dump)
    restored = await stage.look()
    assert restored.tables_of("name") >= {"scoring.accounts", "notifier.accounts"}
    assert restored.tables_of("key") == OF_THE_PERSON
    receipts = str(stage.folder / "receipts")
    assert await stage.erase("--from", receipts) == {"erased": 2, "already": 0}
    await stage.start()
    await stage.quiet()
    assert_gone(await stage.look())
    assert not said_in(await stage.all_that_is_answered(), WORDS | PLAIN | HASHES)

    later = stage.sent()[told:]
    assert not [one for one in later if said_in(one, WORDS | PLAIN | HASHES)]
    assert not said_in(stage.files(), WORDS | PLAIN | HASHES)
    output = stage.process.output()
    assert not said_in(output, WORDS | PLAIN), "a log line names them"
    figures = {
        "rows_before": before.rows, "tables": before.tables, "rows_after": replayed.rows,
        "seconds_of_both": round(seconds, 1), "messages_before": told, "after": len(later),
    }  # fmt: skip
    logging.getLogger(__name__).warning("figures: %s", figures)


async def _rows(stage: Stage, statement: str) -> list[Any]:
    connection = await asyncpg.connect(stage.url)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def _positions_to_zero(stage: Stage) -> None:
    connection = await asyncpg.connect(stage.url)
    try:
        for schema in ("scoring", "notifier"):
            await connection.execute(f"UPDATE {schema}.log_positions SET next_offset = 0")
        # They say where to begin to read: a position is looked at when there is something to read.
        await connection.execute("DELETE FROM log.hints")
    finally:
        await connection.close()


def _replay_quarantine(stage: Stage) -> None:
    """What cannot be read stays there; what can is taken in, and dropped by scoring."""
    subprocess.run(
        [sys.executable, "-m", "services", "quarantine", "replay", "--since", "14d"],
        check=False,
        capture_output=True,
        env=stage.process.environment,
        timeout=60,
    )


async def _restore(stage: Stage, dump: Path) -> None:
    name = stage.database
    await stage.server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await stage.server.execute(f"CREATE DATABASE {name}")
    await asyncio.to_thread(_run, "pg_restore", "-d", stage.url, "--no-owner", str(dump))


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(_binaries() / name), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
