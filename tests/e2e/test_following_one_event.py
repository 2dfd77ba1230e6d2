"""One event followed by its trace alone: from the request to the messages, by log lines and spans.

What an operator does with `traceresponse` in hand; the database is not looked at.
"""

import asyncio
import json
from datetime import UTC, datetime

import httpx

from tests.databases import temporary_folder
from tests.e2e.deployments import Deployment, bearer, embedded, eventually
from tests.e2e.test_main_job import SCOPES
from tests.standins.mail import fake_mail
from tests.standins.slack import fake_slack
from tests.standins.spans import span_receiver

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
STATED = f"00-{TRACE}-00f067aa0ba902b7-01"


def written(deployment: Deployment) -> list[dict[str, object]]:
    """Every line that the program has written, all of them JSON."""
    lines = deployment.ingest.output().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def lines_of(deployment: Deployment, event: str) -> list[dict[str, object]]:
    return [one for one in written(deployment) if one["event"] == event]


async def send(client: httpx.AsyncClient, deployment: Deployment, key: str) -> httpx.Response:
    now = datetime.now(UTC).isoformat()
    events = [
        {"id": "c", "account_id": "acme", "type": "cancellation_requested", "occurred_at": now}
    ]
    answer = await client.post(
        f"{deployment.ingest.url('ingest')}/v1/events",
        headers=bearer(key, traceparent=STATED),
        json=events,
    )
    assert answer.status_code == 200, answer.text
    return answer


async def test_one_event_is_followed_by_its_trace_to_slack_and_mail(
    client: httpx.AsyncClient,
) -> None:
    async with fake_slack() as slack, fake_mail() as mail, span_receiver() as spans:
        with temporary_folder() as folder:
            deployment = embedded(
                folder,
                SLACK_WEBHOOK_URL=slack.url,
                SMTP_URL=mail.url,
                PERENNIAL_LOG_FORMAT="json",
                OTEL_EXPORTER_OTLP_ENDPOINT=spans.url,
            )
            try:
                await asyncio.to_thread(deployment.start)
                key = await asyncio.to_thread(deployment.new_key, *SCOPES)
                answer = await send(client, deployment, key)
                assert answer.headers["traceresponse"][3:35] == TRACE

                await eventually(lambda: slack.posted and mail.taken, what="both messages arrive")
                await eventually(
                    lambda: len(lines_of(deployment, "delivery.sent")) == 2,
                    what="both are recorded",
                )
            finally:
                # Asked to stop: the last spans are told.
                if deployment.ingest.is_running():
                    await asyncio.to_thread(deployment.terminate)

            [letter] = mail.taken
            assert letter["X-Perennial-Trace"] == TRACE
            sent = lines_of(deployment, "delivery.sent")
            assert {one["channel"] for one in sent} == {"slack", "email"}
            for line in sent:
                assert (line["trace_id"], line["service"]) == (TRACE, "notifier")
                assert {"ts", "level", "version", "delivery", "account_ref"} <= line.keys()
            services = {one["service"] for one in written(deployment)}
            assert {"perennial", "ingest", "scoring", "notifier"} <= services
            # Nobody is named in a line of the whole run.
            assert "acme" not in str([one for one in written(deployment) if "trace_id" in one])

        told = spans.of_trace(TRACE)
        by_name = {one.name: one for one in told}
        assert {"ingest native", "append", "deliver slack", "deliver email"} <= by_name.keys()
        request = by_name["ingest native"]
        assert request.parent_id == "00f067aa0ba902b7"
        assert by_name["append"].parent_id == request.span_id
        # All between are of the same trace, as there is no other event.
        assert {one.service for one in told} == {"ingest", "scoring", "notifier"}
        # And hang together: each hangs on one that was told too.
        parents = {one.parent_id for one in told if one is not request}
        assert parents <= {one.span_id for one in told}
        assert "acme" not in repr(spans.spans)
