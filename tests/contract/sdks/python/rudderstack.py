"""The script with rudder-sdk-python."""

from rudderstack.analytics.client import Client

from tests.contract.sdks.python.script import CUT, TRAITS, Report, Script, play


def send(script: Script, report: Report) -> None:
    client = Client(
        script.key,
        host=script.url,
        gzip=script.gzip,
        on_error=report.failed,
        upload_interval=0.1,
    )
    user, account = script.user(0), script.account(0)
    calls = [
        client.identify(user, {"email": "u@example.com"}, context={"groupId": account}),
        client.group(user, account, TRAITS),
        client.page(user, "Docs", "Start", {"url": "/start"}, context={"groupId": account}),
        client.screen(user, "Settings", "Team", {"tab": 2}, context={"groupId": account}),
        client.alias("before", user, context={"groupId": account}),
    ]
    for number in range(script.exports):
        properties = {
            "account_id": script.account(number),
            "n": number,
            "ratio": float("nan"),
            "cut": CUT,
        }
        at = script.time(number)
        calls.append(client.track(script.user(number), "Report Exported", properties, timestamp=at))
    report.sent = sum(queued for queued, _ in calls)
    client.shutdown()


if __name__ == "__main__":
    play(send)
