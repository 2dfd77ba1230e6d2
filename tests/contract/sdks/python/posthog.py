"""The script with posthog for Python; the mode is the protocol and, of V1, the compression."""

from posthog.client import Client

from tests.contract.sdks.python.script import CUT, TRAITS, Report, Script, play


def send(script: Script, report: Report) -> None:
    protocol, _, compression = script.mode.partition(" ")
    client = Client(
        script.key,
        host=script.url,
        gzip=script.gzip,
        on_error=report.failed,
        flush_interval=0.1,
        capture_mode=protocol,
        capture_compression=compression or None,
    )
    user, account = script.user(0), script.account(0)
    groups = {"company": account}
    calls = [
        client.set(distinct_id=user, properties={"email": "u@example.com"}),
        client.group_identify("company", account, TRAITS, distinct_id=user),
        client.capture("$pageview", distinct_id=user, properties={"url": "/start"}, groups=groups),
        client.capture("$screen", distinct_id=user, properties={"tab": 2}, groups=groups),
        client.alias("before", user),
    ]
    calls += [
        client.capture(
            "Report Exported",
            distinct_id=script.user(number),
            properties={"n": number, "ratio": float("nan"), "cut": CUT},
            groups={"company": script.account(number)},
            timestamp=script.time(number),
        )
        for number in range(script.exports)
    ]
    report.sent = sum(uuid is not None for uuid in calls)
    client.shutdown()


if __name__ == "__main__":
    play(send)
