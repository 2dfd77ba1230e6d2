"""What clicks need of interventions: as they are, as a message shows them, and a new look."""

from dataclasses import dataclass
from uuid import UUID

from services.notifier import agenda, items, looks, store, users
from services.notifier.channels import Item
from services.notifier.domain.access import Role, Viewer
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import Person
from services.notifier.stepping import Stepping
from services.notifier.steps import Steps
from services.notifier.store import Account
from shared.messages import AccountFields


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    intervention: Intervention
    item: Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    stepping: Stepping

    @property
    def steps(self) -> Steps:
        return Steps(self.stepping)

    async def viewer(self, person: Person) -> Viewer | None:
        """In which role they click: their user's, else a CSM's; None: they were disabled."""
        async with self.stepping.engine.connect() as connection:
            user = await users.read(connection, person.address)
        if user is None:
            # As users are kept: the audit log knows one person by one address.
            return Viewer(address=person.address.lower(), role=Role.CSM, way="slack")
        if user.is_disabled:
            return None
        return Viewer(address=user.address, role=user.role, way="slack")

    async def read(self, intervention_id: UUID) -> Subject | None:
        """None where there is none, or it was erased."""
        desk, now = self.stepping.desk, self.stepping.clock()
        async with self.stepping.engine.connect() as connection:
            found = await store.read(connection, intervention_id)
            if found is None or not found.owner:
                return None
            account = await store.read_account(connection, found.account_id)
            tasks = await items.next_tasks(connection, [found])
        item = items.item_of(
            found,
            account or Account(account_id=found.account_id, fields=AccountFields()),
            desk.staff.roster(),
            console_url=desk.console_url,
            next_task=tasks.get(found.id),
            is_news=True,
            now=now,
        )
        return Subject(intervention=found, item=item)

    async def look_again(self, account_id: str) -> None:
        """See to it that the messages about the account show what is so."""
        stepping = self.stepping
        async with stepping.engine.begin() as connection:
            await agenda.lock(connection, [account_id])
            decided = await looks.look(
                connection, [account_id], stepping.desk, now=stepping.clock(), at_once=True
            )
        stepping.metrics.decided(decided)
        stepping.wake()
