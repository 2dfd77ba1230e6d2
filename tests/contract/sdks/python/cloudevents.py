"""The script with cloudevents 1.x for Python: binary, structured, batches by hand."""

import json

import httpx
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent

from tests.contract.sdks.python.posting import Sender
from tests.contract.sdks.python.script import CUT, Report, Script, play

BATCH = 100


def send(script: Script, report: Report) -> None:
    with httpx.Client(trust_env=False) as client:
        sender = Sender(client, script, report)
        events = [_event(script, number) for number in range(script.exports)]
        if script.mode == "batch":
            for start in range(0, len(events), BATCH):
                some = [json.loads(to_structured(event)[1]) for event in events[start:][:BATCH]]
                headers = {"content-type": "application/cloudevents-batch+json"}
                sender.post(headers, json.dumps(some).encode(), events=len(some))
        else:
            write = to_binary if script.mode == "binary" else to_structured
            for event in events:
                sender.post(*write(event))


def _event(script: Script, number: int) -> CloudEvent:
    attributes = {
        "id": f"export-{number}",
        "source": "app/backend",
        "type": "report exported",
        "subject": script.account(number),
        "time": script.time(number).isoformat(),
        "userid": script.user(number),
    }
    return CloudEvent(attributes, {"n": number, "ratio": float("nan"), "cut": CUT})


if __name__ == "__main__":
    play(send)
