"""Which kind of delivery is composed by whom."""

from collections.abc import Mapping

from services.notifier import outages, trials
from services.notifier.composing import Composer, DeliveryKind
from services.notifier.digest_messages import Digests
from services.notifier.escalations import Escalations
from services.notifier.notices import Notices
from services.notifier.situations import Desk
from services.notifier.summaries import Summaries


def composers(desk: Desk) -> Mapping[DeliveryKind, Composer]:
    notices = Notices(desk=desk)
    return {
        DeliveryKind.NOTICE: notices,
        DeliveryKind.UPDATE: notices,
        DeliveryKind.STEP: Escalations(desk=desk),
        DeliveryKind.DIGEST: Digests(desk=desk, notices=notices),
        DeliveryKind.SUMMARY: Summaries(desk=desk, notices=notices),
        DeliveryKind.OUTAGE: outages.composer(desk.console_url),
        DeliveryKind.TEST: trials.composer(desk.console_url),
    }
