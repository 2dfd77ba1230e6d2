"""What people press in Slack: who it was, the step it means, and what they are told.

Order of effects: 1 the step, in one transaction, by its request key and the version that the
person saw; 2 Slack has its answer; 3 what is said in private, or a modal. If the process dies
after 1, the message in the channel still shows the step; only the private word is lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.notifier.channels import DeliveryError
from services.notifier.channels.slack_app import SlackApp
from services.notifier.channels.slack_blocks import Press
from services.notifier.channels.slack_modals import close_form
from services.notifier.domain.access import Viewer
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.people import Person, Roster
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.snoozes import LABELS, Put, end_of
from services.notifier.slack_forms import submit
from services.notifier.slack_payloads import (
    Click,
    Pressed,
    Submission,
    Target,
    request_key,
    target_of,
)
from services.notifier.slack_replies import (
    GONE,
    UNKNOWN_BUTTON,
    Modal,
    Reply,
    Whisper,
    stranger,
    tell,
    why_not,
)
from services.notifier.slack_work import Subject, Work
from services.notifier.stepping import Changed, NotTaken
from shared import logging as logs
from shared.clock import Clock

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicks:
    work: Work
    roster: Callable[[], Roster]
    slack: SlackApp
    clock: Clock

    async def take(self, pressed: Pressed) -> Reply:
        """Do what was asked for; the caller answers Slack, and then calls `follow`."""
        person = person_of(self.roster(), pressed.user)
        viewer = None if person is None else await self.work.viewer(person)
        if isinstance(pressed, Submission):
            return await submit(self.work, pressed, viewer)
        if viewer is None:
            return tell(pressed, f"{stranger(pressed.user)} Nothing was changed.")
        return await self._click(pressed, viewer)

    async def follow(self, reply: Reply) -> None:
        """What Slack is asked for in its turn; nobody is worse off where it refuses."""
        if reply.then is None:
            return
        try:
            if isinstance(reply.then, Whisper):
                await self._whisper(reply.then)
                return
            await self.slack.open_view(trigger_id=reply.then.trigger_id, view=reply.then.view)
        except DeliveryError as error:
            log.warning("slack.not_answered", failure=error.failure.kind.value)
            if isinstance(reply.then, Modal) and reply.then.otherwise is not None:
                await self.follow(Reply(then=reply.then.otherwise))

    async def _whisper(self, said: Whisper) -> None:
        await self.slack.whisper(
            channel=said.place.channel,
            user=said.user,
            thread_ts=said.place.thread_ts,
            payload=said.payload,
        )

    async def _click(self, click: Click, viewer: Viewer) -> Reply:
        target = target_of(click.value)
        if target is None:
            return tell(click, UNKNOWN_BUTTON)
        subject = await self.work.read(target.intervention_id)
        if subject is None:
            return tell(click, GONE)
        match click.action:
            case Press.ACKNOWLEDGE:
                result = await self.work.steps.acknowledge(
                    target.intervention_id,
                    version=target.version,
                    by=viewer,
                    key=request_key(click.user, click.action, click.value, click.at),
                )
                return await self._answer(click, viewer, target, result)
            case Press.SNOOZE:
                return await self._snooze(click, viewer, target, subject)
            case Press.CLOSE:
                return await self._ask_outcome(click, subject)
        return tell(click, UNKNOWN_BUTTON)

    async def _snooze(
        self, click: Click, viewer: Viewer, target: Target, subject: Subject
    ) -> Reply:
        try:
            put = Put(target.choice or "")
        except ValueError:
            return tell(click, UNKNOWN_BUTTON)
        current = subject.intervention
        calendar = calendar_of(self.roster().person(current.owner))
        deadline = current.notice_by or current.renewal_date
        until = end_of(put, now=self.clock(), calendar=calendar, notice_by=deadline)
        if until is None:
            return tell(click, "The last day for notice is too near, or not known.", subject.item)
        result = await self.work.steps.snooze(
            target.intervention_id,
            version=target.version,
            until=until,
            reason=f"In Slack: {LABELS[put].lower()}",
            by=viewer,
            key=request_key(click.user, click.action, click.value, click.at),
        )
        return await self._answer(click, viewer, target, result, until=until)

    async def _ask_outcome(self, click: Click, subject: Subject) -> Reply:
        item = subject.item
        if item.status is Status.CLOSED:
            await self.work.look_again(item.account_id)
            return tell(click, why_not(Refusal.CLOSED), item)
        here = Target(intervention_id=item.intervention_id, version=item.version)
        words = "Slack did not open the form. Close it in Perennial: follow the link."
        fallback = tell(click, words, item, buttons=False).then
        return Reply(
            then=Modal(
                trigger_id=click.trigger_id,
                view=close_form(item, target=str(here)),
                otherwise=fallback if isinstance(fallback, Whisper) else None,
            )
        )

    async def _answer(
        self,
        click: Click,
        viewer: Viewer,
        target: Target,
        result: Changed,
        *,
        until: datetime | None = None,
    ) -> Reply:
        """Nothing where it is as the person wants it: the message itself shows that."""
        if not isinstance(result, NotTaken):
            return Reply()
        subject = await self.work.read(target.intervention_id)
        if subject is None:
            return tell(click, GONE)
        if _is_done(subject.intervention, click, viewer, until):
            return Reply()
        await self.work.look_again(subject.item.account_id)
        return tell(click, why_not(result.refusal), subject.item)


def person_of(roster: Roster, user: str) -> Person | None:
    return next((one for one in roster.people if one.slack == user), None)


def _is_done(current: Intervention, click: Click, viewer: Viewer, until: datetime | None) -> bool:
    """Whether it is as this person wanted it: they pressed twice."""
    if click.action == Press.ACKNOWLEDGE:
        by_them = current.acknowledged_by == viewer.address
        return current.status is Status.ACKNOWLEDGED and by_them
    snooze = current.snooze
    return snooze is not None and (snooze.until, snooze.by) == (until, viewer.address)
