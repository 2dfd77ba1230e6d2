"""Ids of counted events outlive all that may come again."""

import pytest

from services.scoring.settings import ScoringSettings
from shared.errors import Misconfigured
from shared.settings import read


def test_ids_are_kept_for_longer_than_anything_may_be_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 30 days at most when it was sent, 7 in the log without an account, 1 until its user is known,
    # 7 in the log with its account, 14 in quarantine.
    monkeypatch.setenv("PERENNIAL_EVENT_ID_RETENTION_DAYS", "59")
    assert read(ScoringSettings).perennial_event_id_retention_days == 59
    monkeypatch.setenv("PERENNIAL_EVENT_ID_RETENTION_DAYS", "58")
    with pytest.raises(Misconfigured, match="at least 59"):
        read(ScoringSettings)


def test_a_longer_age_of_events_needs_longer_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_EVENT_AGE_DAYS", "40")
    with pytest.raises(Misconfigured, match="at least 69"):
        read(ScoringSettings)


@pytest.mark.parametrize(
    ("hours", "days"),
    [
        pytest.param("48", 60, id="30 + 7 + 2 + 7 + 14 days"),
        pytest.param("48.5", 61, id="half an hour more is a day more"),
    ],
)
def test_who_lets_events_wait_for_longer_keeps_ids_for_longer(
    monkeypatch: pytest.MonkeyPatch, hours: str, days: int
) -> None:
    monkeypatch.setenv("PERENNIAL_PLACING_WAIT_HOURS", hours)
    monkeypatch.setenv("PERENNIAL_EVENT_ID_RETENTION_DAYS", str(days))
    assert read(ScoringSettings).perennial_event_id_retention_days == days
    monkeypatch.setenv("PERENNIAL_EVENT_ID_RETENTION_DAYS", str(days - 1))
    with pytest.raises(Misconfigured, match=f"at least {days}"):
        read(ScoringSettings)
