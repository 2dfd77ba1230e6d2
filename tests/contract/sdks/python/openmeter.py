"""The script with openmeter for Python: events one by one, or in batches."""

from openmeter import Client
from openmeter.models import Event

from tests.contract.sdks.python.script import CUT, Report, Script, play

BATCH = 100


def send(script: Script, report: Report) -> None:
    events = [
        Event(
            id=f"export-{number}",
            source="app/backend",
            specversion="1.0",
            type="report exported",
            subject=script.account(number),
            time=script.time(number),
            data={"n": number, "user_id": script.user(number), "ratio": float("nan"), "cut": CUT},
        )
        for number in range(script.exports)
    ]
    with Client(endpoint=script.url, token=script.key) as client:
        if script.mode == "single":
            for event in events:
                _send(client, [event], report, is_batch=False)
        else:
            for start in range(0, len(events), BATCH):
                _send(client, events[start : start + BATCH], report, is_batch=True)


def _send(client: Client, events: list[Event], report: Report, *, is_batch: bool) -> None:
    report.sent += len(events)
    try:
        if is_batch:
            client.events.ingest_events(events)
        else:
            client.events.ingest_event(events[0])
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what is looked for
        report.failed(error)


if __name__ == "__main__":
    play(send)
