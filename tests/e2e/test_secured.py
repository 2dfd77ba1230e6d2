"""A deployment in production: TLS, a user of Kafka and a role of PostgreSQL for each service."""

import asyncio
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.databases import DatabaseServer, as_role
from tests.e2e.deployments import FAST, SERVICES, Deployment, bearer, eventually, status_of
from tests.e2e.test_main_job import SCOPES, daily_use, put_account, send
from tests.processes import PerennialProcess, ProcessFailed, free_port
from tests.secure_kafka import SecureKafka
from tests.standins.slack import fake_slack

PREFIX = "secured."


def file_of(folder: Path, name: str, secret: str) -> str:
    path = folder / name
    path.write_text(secret + "\n")
    path.chmod(0o600)
    return str(path)


async def test_in_production_each_service_has_the_rights_it_needs(
    secure_kafka: SecureKafka,
    database_server: DatabaseServer,
    client: httpx.AsyncClient,
    tmp_path: Path,
) -> None:
    async with database_server.copy_of_template() as url, fake_slack() as slack:
        common = {
            **FAST,
            **{f"{service.upper()}_PORT": str(free_port()) for service in SERVICES},
            "PERENNIAL_PRODUCTION": "true",
            "PERENNIAL_TESTING": "",
            "PERENNIAL_TOPIC_PREFIX": PREFIX,
            "PERENNIAL_PREPARE": "false",
            "PERENNIAL_CONSOLE_SIGN_IN": "local",
            "PERENNIAL_DATA_DIR": str(tmp_path / "data"),
            "PERENNIAL_USER_HASH_KEY_FILE": file_of(
                tmp_path, "user_hash.key", secrets.token_urlsafe(48)
            ),
            "PERENNIAL_NOTIFIER_SECRET_FILE": file_of(
                tmp_path, "notifier.key", secrets.token_urlsafe(48)
            ),
            "SLACK_WEBHOOK_URL_FILE": file_of(tmp_path, "slack.url", slack.url),
        }

        def environment(principal: str, role: str | None) -> dict[str, str]:
            given = {**common, **secure_kafka.settings_of(principal)}
            given["DATABASE_URL_FILE"] = file_of(
                tmp_path, f"{principal}.url", url if role is None else as_role(url, role)
            )
            return given

        await asyncio.to_thread(secure_kafka.allow, PREFIX)
        migrating = PerennialProcess(tmp_path / "migrate", **environment("migrate", None))
        await asyncio.to_thread(migrating.run, "migrate")
        operator = PerennialProcess(tmp_path / "operator", **environment("operator", None))

        def new_key(source: str, *scopes: str) -> str:
            options = [option for scope in scopes for option in ("--scope", scope)]
            made = operator.run("keys", "create", "--source", source, *options, "--plain")
            return made.split()[-1]

        common["PERENNIAL_SCORING_KEY_FILE"] = file_of(
            tmp_path, "scoring.key", await asyncio.to_thread(new_key, "console", "accounts:read")
        )
        roles = {"ingest": None, "scoring": "perennial_scoring", "notifier": "perennial_notifier"}
        deployment = Deployment(
            processes={
                service: PerennialProcess(
                    tmp_path / service, "--service", service, **environment(service, roles[service])
                )
                for service in SERVICES
            }
        )
        try:
            await asyncio.to_thread(deployment.start)
            key = await asyncio.to_thread(new_key, "app", *SCOPES)
            renewal = (datetime.now(UTC).date() + timedelta(days=60)).isoformat()
            await eventually(lambda: _is_known(client, deployment, key), what="the key is known")
            await put_account(
                client, deployment, key, "acme", name="Acme", mrr="900", currency="EUR",
                contract_end=renewal, status="active",
            )  # fmt: skip
            for account in ("globex", "initech"):
                await send(client, deployment, key, daily_use(account, first=60, last=0))
            # One is rejected: it takes the topic of its own.
            silent = [*daily_use("acme", first=90, last=35), {"id": "hunter2", "type": ""}]
            await send(client, deployment, key, silent)
            await eventually(lambda: slack.posted, what="somebody is told")
            assert "Acme" in str(slack.posted[0])
            status = await status_of(client, deployment, key)
            assert status["events_taken_in"] == 56 + 2 * 61
            listed = await asyncio.to_thread(operator.run, "quarantine", "list")
            assert re.search(r"\b1\b", listed)
            # The console is not open.
            page = await client.get(f"{deployment.notifier.url('notifier')}/", headers={})
            assert page.status_code in (302, 303)
            assert set(await asyncio.to_thread(deployment.terminate)) == {0}
        finally:
            deployment.stop()
        for process in (*deployment.distinct,):
            said = process.output()
            assert "hunter2" not in said
            assert slack.url not in said
            assert "AuthorizationFailed" not in said
            assert "Traceback" not in said
        with pytest.raises(ProcessFailed, match=r"refuses topic|may not"):
            await asyncio.to_thread(deployment.ingest.run, "migrate")


async def _is_known(client: httpx.AsyncClient, deployment: Deployment, key: str) -> bool:
    answer = await client.get(f"{deployment.scoring.url('scoring')}/v1/status", headers=bearer(key))
    return answer.status_code == 200
