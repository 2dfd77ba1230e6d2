"""The usual B2B tracking plan with rudder-sdk-python."""

from rudderstack.analytics.client import Client

from tests.contract.sdks.python.script import TRAITS, Report, Script, play


def send(script: Script, report: Report) -> None:
    client = Client(
        script.key,
        host=script.url,
        gzip=script.gzip,
        on_error=report.failed,
        upload_size=10,
        upload_interval=0.01,
    )
    for number in range(script.plans):
        user, account = script.planned(number)
        calls = [client.identify(user, {"plan": "pro"}), client.group(user, account, TRAITS)]
        client.flush()
        exports = range(script.exports)
        calls += [client.track(user, "Report Exported", {"n": export}) for export in exports]
        client.flush()
        report.sent += sum(queued for queued, _ in calls)
    client.shutdown()


if __name__ == "__main__":
    play(send)
