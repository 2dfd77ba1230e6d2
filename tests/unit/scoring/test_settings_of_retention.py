"""Ids of counted events outlive all that may come again."""

import pytest

from services.scoring.settings import ScoringSettings
from shared.errors import Misconfigured
from shared.settings import read


def test_ids_are_kept_for_longer_than_anything_may_be_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 30 days at most when it was sent, 7 in the log, 14 in quarantine.
    monkeypatch.setenv("PERENNIAL_EVENT_ID_RETENTION_DAYS", "51")
    assert read(ScoringSettings).perennial_event_id_retention_days == 51
    monkeypatch.setenv("PERENNIAL_EVENT_ID_RETENTION_DAYS", "50")
    with pytest.raises(Misconfigured, match="at least 51"):
        read(ScoringSettings)


def test_a_longer_age_of_events_needs_longer_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_EVENT_AGE_DAYS", "40")
    with pytest.raises(Misconfigured, match="at least 61"):
        read(ScoringSettings)
