"""The script with cloudevents 2.x for Python: binary (values percent-encoded) and structured."""

import httpx
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from tests.contract.sdks.python.posting import Sender
from tests.contract.sdks.python.script import CUT, Report, Script, play


def send(script: Script, report: Report) -> None:
    write = to_binary_event if script.mode == "binary" else to_structured_event
    with httpx.Client(trust_env=False) as client:
        sender = Sender(client, script, report)
        for number in range(script.exports):
            attributes = {
                "id": f"export-{number}",
                "source": "app/backend",
                "type": "report exported",
                "subject": script.account(number),
                "time": script.time(number),
                "userid": script.user(number),
            }
            data = {"n": number, "ratio": float("nan"), "cut": CUT}
            message = write(CloudEvent(attributes=attributes, data=data))
            sender.post(message.headers, message.body)


if __name__ == "__main__":
    play(send)
