"""Who is told where a destination does not take a message: the rest of the recipient's channels,
then the fallback owner's e-mail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.notifier.composing import Claimed, Place
from services.notifier.domain.people import Person, Roster, is_mail_address
from services.notifier.routes import EMAIL, SLACK, Ways


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """See `composing.Fallbacks`."""

    roster: Callable[[], Roster]
    """The team as of now."""
    ways: Ways

    def after(self, held: Claimed) -> Place | None:
        roster = self.roster()
        chain = [*self._of(roster.person(held.recipient)), *self._mail(roster.fallback_owner)]
        tried = {*held.tried, held.destination}
        return next((place for place in chain if place.destination not in tried), None)

    def admin(self, broken: str) -> Place | None:
        """The fallback's lead, at a place that is not what is broken, nor of that channel."""
        roster = self.roster()
        places = [
            place
            for address in (roster.fallback_lead, roster.fallback_owner)
            for place in self._of(roster.person(address))
        ]
        fine = (place for place in places if broken not in (place.destination, place.channel))
        return next(fine, None)

    def _of(self, person: Person) -> Sequence[Place]:
        direct: list[Place] = []
        if self.ways.slack_bot and person.slack:
            direct.append(
                Place(
                    channel=SLACK,
                    destination=f"{SLACK}:{person.slack}",
                    recipient=person.address.lower(),
                )
            )
        return [*direct, *self._mail(person.address)]

    def _mail(self, address: str) -> Sequence[Place]:
        if not self.ways.email or not is_mail_address(address):
            return []
        place = f"{EMAIL}:{address.lower()}"
        return [Place(channel=EMAIL, destination=place, recipient=address.lower())]
