"""The form that closes an intervention, sent off: closed, or what is missing, or what has changed.

Slack shows the answer in the form itself, which keeps what was typed.
"""

from services.notifier.channels.slack_modals import CLOSE, NOTE, OUTCOME, close_form, told_form
from services.notifier.domain.access import Viewer
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.steps import needs_note
from services.notifier.slack_payloads import Submission, Target, request_key, target_of
from services.notifier.slack_replies import (
    GONE,
    UNKNOWN_BUTTON,
    Reply,
    errors,
    stranger,
    update,
    why_not,
)
from services.notifier.slack_work import Work
from services.notifier.stepping import NotTaken
from shared.messages import OutcomeKind

_CHOOSE = "Choose how it ended."
_SAY_WHY = "Say what happened: others learn from it."
_CHANGED = "It has changed meanwhile. This is how it is now: close it all the same?"


async def submit(work: Work, sent: Submission, viewer: Viewer | None) -> Reply:
    """`viewer`: who sent it, None where nobody knows them."""
    if sent.callback_id != CLOSE:
        return Reply()
    target = target_of(sent.metadata)
    if viewer is None or target is None:
        said = stranger(sent.user) if viewer is None else UNKNOWN_BUTTON
        return update(told_form(said))
    outcome, note = _outcome(sent.fields.get(OUTCOME, "")), sent.fields.get(NOTE, "").strip()
    if outcome is None:
        return errors(OUTCOME, _CHOOSE)
    if needs_note(outcome) and not note:
        return errors(NOTE, _SAY_WHY)
    result = await work.steps.close(
        target.intervention_id,
        version=target.version,
        outcome=outcome,
        note=note,
        by=viewer,
        key=request_key(sent.user, CLOSE, sent.view_id, sent.metadata),
    )
    if not isinstance(result, NotTaken):
        return Reply()
    return await _not_closed(work, result.refusal, target, by=viewer.address, outcome=outcome)


async def _not_closed(
    work: Work, refusal: Refusal, target: Target, *, by: str, outcome: OutcomeKind
) -> Reply:
    subject = await work.read(target.intervention_id)
    if subject is None:
        return update(told_form(GONE))
    current = subject.intervention
    if (current.closed_by, current.outcome) == (by, outcome):
        # They sent it off twice.
        return Reply()
    if refusal is Refusal.NOTE_MISSING:
        return errors(NOTE, _SAY_WHY)
    await work.look_again(current.account_id)
    if refusal is not Refusal.STALE or not current.is_open:
        return update(told_form(why_not(refusal), subject.item))
    here = Target(intervention_id=current.id, version=current.version)
    return update(close_form(subject.item, target=str(here), notice=_CHANGED))


def _outcome(text: str) -> OutcomeKind | None:
    try:
        return OutcomeKind(text)
    except ValueError:
        return None
