"""Who is told, and what speaks against it: the rows that are built of notifier.md, section 4."""

from dataclasses import replace
from typing import Any

import pytest

from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.policy import (
    NotifyReason,
    SuppressReason,
    Told,
    still_wanted,
    told_by,
    why_notify,
)
from shared.messages import Band, OutcomeKind
from tests.unit.notifier.factories import HOUR, NOW, intervention

SUBJECT = intervention()
TOLD = told_by(SUBJECT)
CLOSED = replace(SUBJECT, status=Status.CLOSED, outcome=OutcomeKind.SAVED, closed_at=NOW)
RECOVERED = replace(SUBJECT, status=Status.ACKNOWLEDGED, recovered_at=NOW)
ACKED = replace(SUBJECT, status=Status.ACKNOWLEDGED, acknowledged_at=NOW + HOUR)
CRITICAL = replace(SUBJECT, severity=Band.CRITICAL)
MOVED = replace(SUBJECT, owner="ben@vendor.example")
NEXT = replace(SUBJECT, seen=replace(SUBJECT.seen, flag_id="acme/2", episode=2))


@pytest.mark.parametrize(
    ("subject", "told", "elsewhere", "reason"),
    [
        pytest.param(SUBJECT, None, None, NotifyReason.FIRST, id="never told: first"),
        pytest.param(SUBJECT, TOLD, None, None, id="told: nothing"),
        pytest.param(CLOSED, None, None, None, id="closed: nothing"),
        pytest.param(RECOVERED, None, None, None, id="recovered: nothing"),
        pytest.param(CRITICAL, TOLD, None, NotifyReason.SEVERITY_RAISED, id="worse"),
        pytest.param(SUBJECT, told_by(CRITICAL), None, None, id="better: nothing"),
        pytest.param(ACKED, TOLD, None, None, id="acknowledged, told: nothing"),
        pytest.param(
            replace(CRITICAL, status=Status.ACKNOWLEDGED),
            TOLD,
            None,
            NotifyReason.SEVERITY_RAISED,
            id="acknowledged, worse",
        ),
        pytest.param(NEXT, TOLD, None, NotifyReason.FIRST, id="the flag's next episode: first"),
        pytest.param(MOVED, TOLD, None, NotifyReason.OWNER_CHANGED, id="another owner"),
        pytest.param(
            MOVED,
            None,
            TOLD,
            NotifyReason.OWNER_CHANGED,
            id="never told, others knew another owner",
        ),
        pytest.param(SUBJECT, None, TOLD, NotifyReason.FIRST, id="never told, others knew: first"),
        pytest.param(
            replace(MOVED, severity=Band.CRITICAL),
            TOLD,
            None,
            NotifyReason.SEVERITY_RAISED,
            id="worse and moved: worse is what is said",
        ),
    ],
)
def test_why_somebody_is_told(
    subject: Intervention, told: Told | None, elsewhere: Told | None, reason: NotifyReason | None
) -> None:
    assert why_notify(subject, told, told_elsewhere=elsewhere) is reason


@pytest.mark.parametrize(
    ("subject", "changes", "against"),
    [
        pytest.param(SUBJECT, {}, None, id="wanted"),
        pytest.param(CLOSED, {}, SuppressReason.NO_LONGER_WANTED, id="closed"),
        pytest.param(RECOVERED, {}, SuppressReason.NO_LONGER_WANTED, id="recovered"),
        pytest.param(SUBJECT, {"account_lost": True}, SuppressReason.INHIBITED, id="account left"),
        pytest.param(SUBJECT, {"for_owner": False}, SuppressReason.REASSIGNED, id="old owner"),
        pytest.param(SUBJECT, {"told": TOLD}, SuppressReason.ALREADY_TOLD, id="told already"),
        pytest.param(ACKED, {}, SuppressReason.ACKNOWLEDGED, id="first, but somebody is at work"),
        pytest.param(
            replace(ACKED, seen=replace(ACKED.seen, raised_at=NOW + 2 * HOUR)),
            {},
            None,
            id="acknowledged before this flag: told",
        ),
        pytest.param(
            replace(ACKED, severity=Band.CRITICAL),
            {"told": TOLD, "reason": NotifyReason.SEVERITY_RAISED},
            None,
            id="acknowledged, worse: told",
        ),
        pytest.param(
            CLOSED,
            {"account_lost": True, "told": TOLD},
            SuppressReason.NO_LONGER_WANTED,
            id="the first match counts",
        ),
    ],
)
def test_what_speaks_against(
    subject: Intervention, changes: dict[str, Any], against: SuppressReason | None
) -> None:
    usual: dict[str, Any] = {"told": None, "reason": NotifyReason.FIRST, "account_lost": False}
    asked = usual | changes
    assert still_wanted(subject, asked.pop("told"), **asked) is against
