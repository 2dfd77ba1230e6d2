"""Rules at another pace: their durations change, and nothing else."""

import pytest
import yaml

from tests.e2e.prometheus_server import Pace
from tests.prometheus_tools import RULES, seconds_of

SHORT = Pace(times=20, longest_seconds=60, scrape_seconds=1)


@pytest.mark.parametrize(
    ("written", "at_that_pace"),
    [
        ("rate(a_total[5m]) > 0.9", "rate(a_total[15000ms]) > 0.9"),
        # 3 h / 20 = 9 min, which is more than a minute.
        ("avg_over_time(a[3h])", "avg_over_time(a[60000ms])"),
        ("sum_over_time(a[1h:1m]) > 60", "sum_over_time(a[60000ms:3000ms]) > 60"),
        ("a offset 1w > 300", "a offset 60000ms > 300"),
    ],
)
def test_durations_of_an_expression_are_shorter(written: str, at_that_pace: str) -> None:
    text = yaml.safe_dump({"groups": [{"name": "x", "rules": [{"alert": "A", "expr": written}]}]})
    found = yaml.safe_load(SHORT.rewritten(text))
    assert found["groups"][0]["rules"][0]["expr"] == at_that_pace


def test_real_time_changes_nothing() -> None:
    for path in RULES.glob("*.yml"):
        assert Pace().rewritten(path.read_text()) == path.read_text()


def test_every_for_is_a_twentieth() -> None:
    for path in RULES.glob("*.yml"):
        before, after = (
            [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
            for text in (path.read_text(), SHORT.rewritten(path.read_text()))
        )
        for one, other in zip(before, after, strict=True):
            if "for" in one:
                assert seconds_of(other["for"]) == pytest.approx(seconds_of(one["for"]) / 20)
