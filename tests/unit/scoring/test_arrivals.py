"""Records become events, each once; what is known is left out."""

from datetime import timedelta

from services.scoring.arrivals import AccountAndDay, Arrivals, Known, count, nothing_known, read
from shared.log import StoredRecord
from shared.messages import PlacedBy, UsageEvent, encode
from tests.unit.scoring.factories import NOW, TODAY, usage_event

GROUP = (TODAY.toordinal(), "acme")


def stored(*values: bytes) -> list[StoredRecord]:
    return [
        StoredRecord(offset=offset, key=b"acme", value=value, headers=(), appended_at=NOW)
        for offset, value in enumerate(values)
    ]


def events(*found: UsageEvent) -> list[StoredRecord]:
    return stored(*map(encode, found))


def test_of_several_deliveries_the_first_counts() -> None:
    arrivals = Arrivals()
    records = events(
        usage_event(id="1", type="login"),
        usage_event(id="1", type="page_view"),
        usage_event(id="2"),
    )
    found = [event for _, event in read(records, arrivals, nothing_known)]
    assert [(event.id, event.type) for event in found] == [("1", "login"), ("2", "login")]
    assert (arrivals.readable, count(arrivals.keys)) == (3, 2)


def test_what_is_known_is_left_out() -> None:
    first = Arrivals()
    list(read(events(usage_event(id="1"), usage_event(id="2")), first, nothing_known))
    one, other = sorted(first.keys[GROUP])

    def known(group: AccountAndDay) -> Known:
        return ({one}, {other}) if group == GROUP else (set(), set())

    second = Arrivals()
    records = events(*(usage_event(id=name) for name in "123"), usage_event(id="1", account="b"))
    found = [(event.account, event.id) for _, event in read(records, second, known)]
    assert found == [("acme", "3"), ("b", "1")]
    assert not second.keys[GROUP] & {one, other}


def test_an_event_that_was_placed_counts_once_whatever_account_was_found() -> None:
    arrivals = Arrivals()
    placed = [usage_event(account=name, placed_by=PlacedBy.ONLY_ACCOUNT) for name in ("a", "b")]
    found = [event.account for _, event in read(events(*placed), arrivals, nothing_known)]
    assert (found, list(arrivals.keys)) == (["a"], [(TODAY.toordinal(), "")])


def test_an_event_that_names_an_account_is_not_the_one_that_was_placed_there() -> None:
    """Which account the client stated is part of what the event is."""
    both = [usage_event(placed_by=PlacedBy.ONLY_ACCOUNT), usage_event()]
    assert len(list(read(events(*both), Arrivals(), nothing_known))) == 2


def test_an_event_of_no_account_is_set_aside() -> None:
    arrivals = Arrivals()
    both = [usage_event(account=""), usage_event(account="", placed_by=PlacedBy.ONLY_ACCOUNT)]
    assert list(read(events(*both), arrivals, nothing_known)) == []
    assert [error.code for _, error in arrivals.unreadable] == ["missing_account"] * 2
    assert arrivals.readable == 0


def test_an_account_and_day_of_which_all_is_known_has_no_keys() -> None:
    first, second = Arrivals(), Arrivals()
    records = events(usage_event())
    list(read(records, first, nothing_known))
    assert not list(read(records, second, lambda group: (first.keys[group], set())))
    assert (second.readable, second.keys) == (1, {})


def test_the_day_is_the_one_that_the_client_stated() -> None:
    arrivals = Arrivals()
    yesterday = NOW - timedelta(days=1)
    list(read(events(usage_event(client_at=yesterday)), arrivals, nothing_known))
    assert arrivals.days() == {yesterday.date()}


def test_what_cannot_be_read_is_told_with_its_record() -> None:
    arrivals = Arrivals()
    records = stored(b"{", encode(usage_event()))
    assert len(list(read(records, arrivals, nothing_known))) == 1
    assert [record.offset for record, _ in arrivals.unreadable] == [0]
