"""The horizon: nothing that was accepted before it is still to be taken in."""

from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.scoring.horizon import Horizon
from services.scoring.metrics import ScoringMetrics
from shared.errors import DependencyAway
from shared.lifecycle import new_frame
from shared.log import LogUnavailable, TopicMissing, TopicPartition
from shared.messages import USAGE_EVENTS, USAGE_EVENTS_OVERFLOW
from tests.factories import NOW

ONE, TWO = TopicPartition(USAGE_EVENTS, 0), TopicPartition(USAGE_EVENTS, 1)
OVER = TopicPartition(USAGE_EVENTS_OVERFLOW, 0)
SECOND = timedelta(seconds=1)


Event: TypeAlias = "Callable[[World], None]"


class World:
    """A log and an intake in plain lists, and a horizon that looks at them."""

    def __init__(self) -> None:
        self.now = NOW
        self.appended: dict[TopicPartition, list[datetime]] = {ONE: [], OVER: []}
        self.position: dict[TopicPartition, int] = {}
        """Absent: never claimed."""
        self.begin: dict[TopicPartition, int] = {}
        self.meanwhile: deque[Event] = deque()
        """Happens one after the other: before and after it reads the positions, before the log
        gives its ends, and two after that."""
        self.away: Exception | None = None
        self.registry = CollectorRegistry()
        frame = new_frame()
        self.horizon = Horizon(
            log=self,
            positions=self.positions,
            metrics=ScoringMetrics(self.registry, frame.metrics, lambda: self.now),
            clock=lambda: self.now,
            loop=frame.loop("scoring", "horizon"),
        )

    async def positions(self) -> Mapping[TopicPartition, int]:
        self._go_on()
        answer = dict(self.position)
        self._go_on()
        return answer

    async def ends(self, topics: tuple[str, ...]) -> Mapping[TopicPartition, int]:
        self._go_on()
        if self.away is not None:
            raise self.away
        answer = {one: len(of) for one, of in self.appended.items() if one.topic in topics}
        self._go_on()
        self._go_on()
        return answer

    async def begins(self, topics: tuple[str, ...]) -> Mapping[TopicPartition, int]:
        return {one: self.begin.get(one, 0) for one in self.appended if one.topic in topics}

    def append(self, partition: TopicPartition, records: int = 1) -> None:
        self.appended.setdefault(partition, []).extend([self.now] * records)

    def take_in(self, partition: TopicPartition, records: int = 1_000) -> None:
        begins = max(self.position.get(partition, 0), self.begin.get(partition, 0))
        if begins < (end := len(self.appended.get(partition, ()))):  # else there is no batch
            self.position[partition] = min(begins + records, end)

    def expire(self, partition: TopicPartition) -> None:
        """All that the partition holds, as retention does."""
        self.begin[partition] = len(self.appended.get(partition, ()))

    def look(self, **after: float) -> datetime | None:
        self.now += timedelta(**after)
        _ran(self.horizon.look())
        return self.horizon.moment

    def oldest_to_take_in(self) -> datetime | None:
        """When the first of the records was appended that wait and are still there."""
        waiting = [
            moments[first]
            for one, moments in self.appended.items()
            if (first := max(self.position.get(one, 0), self.begin.get(one, 0))) < len(moments)
        ]
        return min(waiting, default=None)

    def age(self) -> float | None:
        with self.horizon.told():
            return self.registry.get_sample_value("perennial_placing_horizon_age_seconds")

    def _go_on(self) -> None:
        if self.meanwhile:
            self.meanwhile.popleft()(self)


def _ran(coroutine: Coroutine[object, object, None]) -> None:
    """Nothing in it waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def test_without_records_the_horizon_is_the_moment_of_the_look() -> None:
    world = World()
    assert world.horizon.moment is None
    assert world.look() == NOW
    assert world.look(seconds=1) == NOW + SECOND


def test_it_stands_until_all_that_was_there_has_been_taken_in() -> None:
    world = World()
    world.append(ONE, 5)
    world.append(OVER, 2)
    assert world.look(seconds=1) is None
    world.take_in(ONE)
    assert world.look(seconds=1) is None
    world.append(ONE, 5)  # not there at the first look: it is not waited for
    world.take_in(OVER)
    assert world.look(seconds=1) == NOW + SECOND
    world.take_in(ONE)
    assert world.look(seconds=1) == NOW + 4 * SECOND


def test_what_comes_between_the_moment_and_the_ends_is_waited_for_too() -> None:
    world = World()
    world.meanwhile.extend([_nothing, _nothing, lambda it: it.append(ONE)])
    assert world.look() is None
    world.take_in(ONE)
    assert world.look(seconds=1) == NOW + SECOND


def test_what_comes_after_the_ends_is_not_before_the_moment() -> None:
    world = World()
    later: list[Event] = [lambda it: it.append(ONE), lambda it: _pass(it, 5)]
    world.meanwhile.extend([_nothing, _nothing, _nothing, *later])
    assert world.look() == NOW
    assert world.look() == NOW
    world.take_in(ONE)
    assert world.look() == NOW + 5 * SECOND


def test_what_was_taken_in_after_the_positions_were_read_counts_at_the_next_look() -> None:
    world = World()
    world.append(ONE)
    world.meanwhile.extend([_nothing, lambda it: it.take_in(ONE)])
    assert world.look(seconds=1) is None
    assert world.look(seconds=1) == NOW + 2 * SECOND


def test_a_partition_that_the_topic_was_given_counts() -> None:
    world = World()
    assert world.look() == NOW
    world.append(TWO)
    assert world.look(seconds=1) == NOW
    world.take_in(TWO)
    assert world.look(seconds=1) == NOW + 2 * SECOND


def test_positions_of_an_older_backup_are_waited_for() -> None:
    world = World()
    world.append(ONE, 10)
    world.take_in(ONE)
    assert world.look(seconds=1) == NOW + SECOND
    world.position[ONE] = 3
    assert world.look(seconds=1) == NOW + SECOND
    world.take_in(ONE, 6)
    assert world.look(seconds=1) == NOW + SECOND
    world.take_in(ONE, 1)
    assert world.look(seconds=1) == NOW + 4 * SECOND


def test_what_the_log_has_deleted_is_not_waited_for_for_ever() -> None:
    world = World()
    world.append(ONE, 10)
    world.append(OVER, 3)
    world.expire(ONE)
    assert world.look(seconds=1) is None
    assert world.look(seconds=10) is None  # the other partition has records that wait
    world.take_in(OVER)
    assert world.look(seconds=1) == NOW + 12 * SECOND
    assert world.look(seconds=1) == NOW + 13 * SECOND  # it is known by now
    world.append(ONE)
    assert world.look(seconds=20) == NOW + 13 * SECOND


def test_a_log_that_ends_before_a_position_tells_nothing() -> None:
    world = World()
    world.append(ONE, 5)
    world.take_in(ONE)
    assert world.look() == NOW
    world.appended[ONE].clear()  # it was made anew
    world.append(ONE, 2)
    assert world.look(seconds=1) == NOW
    assert world.look(seconds=60) == NOW


def test_a_log_made_anew_is_waited_for_though_an_older_one_had_begun_later() -> None:
    world = World()
    world.append(ONE, 9)
    world.expire(ONE)
    world.look()
    assert world.look(seconds=10) == NOW + 10 * SECOND
    world.appended[ONE].clear()
    world.begin.clear()
    world.append(ONE, 2)
    assert world.look(seconds=1) == NOW + 10 * SECOND
    assert world.look(seconds=1) == NOW + 10 * SECOND
    world.take_in(ONE)
    assert world.look(seconds=1) == NOW + 13 * SECOND


def test_it_stands_while_log_or_database_are_away() -> None:
    world = World()
    assert world.look() == NOW
    for away in (LogUnavailable("away"), TopicMissing("events"), DependencyAway("PostgreSQL")):
        world.away = away
        assert world.look(seconds=1) == NOW
    world.away = None
    assert world.look(seconds=1) == NOW + 4 * SECOND


def test_a_clock_that_was_set_back_takes_its_moments_with_it() -> None:
    world = World()
    world.now = NOW + timedelta(hours=1)
    assert world.look() == world.now
    world.append(ONE)
    assert world.look(seconds=1) == NOW + timedelta(hours=1)
    world.now = NOW
    assert world.look() is None
    world.take_in(ONE)
    assert world.look(seconds=1) == NOW + SECOND


def test_its_age_grows_where_it_stands_and_before_it_is_known() -> None:
    world = World()
    world.append(ONE)
    world.look(seconds=30)
    assert world.age() == 30
    world.take_in(ONE)
    world.look(seconds=5)
    assert world.age() == 0
    world.append(ONE)
    world.look(seconds=60)
    world.look(seconds=60)
    assert world.age() == 120


_PARTITIONS = st.sampled_from([ONE, TWO, OVER])
_EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        lambda one, records: lambda world: world.append(one, records),
        _PARTITIONS,
        st.integers(1, 3),
    ),
    st.builds(
        lambda one, records: lambda world: world.take_in(one, records),
        _PARTITIONS,
        st.integers(1, 5),
    ),
    st.builds(lambda one: lambda world: world.expire(one), _PARTITIONS),
    st.builds(lambda seconds: lambda world: _pass(world, seconds), st.integers(1, 30)),
)


def _nothing(_world: World) -> None:
    pass


def _pass(world: World, seconds: int) -> None:
    world.now += timedelta(seconds=seconds)


@given(
    st.lists(st.tuples(st.lists(_EVENTS, max_size=4), st.lists(_EVENTS, max_size=5)), max_size=15)
)
def test_nothing_from_before_the_horizon_is_still_to_be_taken_in(
    rounds: list[tuple[list[Event], list[Event]]],
) -> None:
    """Whatever happens before and during a look."""
    world = World()
    for before, during in rounds:
        for event in before:
            event(world)
        world.meanwhile = deque(during)
        moment, oldest = world.look(seconds=1), world.oldest_to_take_in()
        # What was appended at that very moment may wait: the ends were asked for before it.
        assert moment is None or oldest is None or oldest >= moment
    world.meanwhile.clear()
    for one in world.appended:
        world.take_in(one)
    world.look(seconds=20)  # past what was noted before, perhaps to note what is deleted by now
    world.look(seconds=20)
    assert world.look() == world.now, "it is not to stand for ever"
