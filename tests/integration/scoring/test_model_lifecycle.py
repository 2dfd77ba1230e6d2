"""From logged rows to a model in service and back, on real PostgreSQL."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import drift, lifecycle, model_store
from services.scoring.domain.drift import distributions_of
from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import Model, dump, load, with_golden
from services.scoring.domain.rules import read_default
from services.scoring.domain.table import COLUMNS
from services.scoring.metrics import ScoringMetrics
from services.scoring.model_store import NothingToRollBackTo, State
from services.scoring.models import Models
from services.scoring.tables import model_health, models, scores
from services.scoring.training import NotEnoughToLearnFrom
from tests.factories import NOW
from tests.integration.scoring.logged import log_vendor, moment, put_scores
from tests.unit.scoring.factories import model
from tests.unit.scoring.vendors import END, vendor

RULES = read_default()
DAY = timedelta(days=1)
LATER = moment(END + 199)


def own(version: str, **changes: object) -> Model:
    """A model of the vendor's own losses."""
    rows = np.random.default_rng(0).normal(1.0, 0.5, (200, len(FEATURES)))
    return model(version=version, kind="own", distributions=distributions_of(rows), **changes)


async def put(
    engine: AsyncEngine, one: Model, state: State, now: datetime = NOW, reason: str = "as put"
) -> None:
    at_first = State.CANDIDATE if state is State.ACTIVE else state
    async with engine.begin() as connection:
        await model_store.add(connection, one, state=at_first, reason=reason, accounts=0, now=now)
        if state is State.ACTIVE:
            await model_store.activate(connection, one.version, reason=reason, now=now)


async def states(engine: AsyncEngine) -> dict[str, str]:
    async with engine.connect() as connection:
        return {one.version: one.state.value for one in await model_store.read_all(connection)}


async def reason_of(engine: AsyncEngine, version: str) -> str:
    async with engine.connect() as connection:
        return (await model_store.read_one(connection, version)).reason


@pytest.fixture
def serving(engine: AsyncEngine, metrics: ScoringMetrics) -> Models:
    return Models(
        engine=engine, metrics=metrics, rules=RULES, yearly_churn=0.1, progressed=lambda: None
    )


@pytest.fixture
def just_started(engine: AsyncEngine, metrics: ScoringMetrics) -> Models:
    """Another process: it has served no model yet."""
    return Models(
        engine=engine, metrics=metrics, rules=RULES, yearly_churn=0.1, progressed=lambda: None
    )


async def version_in_service(models_: Models, now: datetime = NOW) -> str:
    standard = await models_.current(
        now, accounts=0, history_loaded=False, settle=timedelta(seconds=0)
    )
    return standard.model.version


async def test_what_was_logged_makes_a_model_that_waits_in_shadow_and_then_serves(
    engine: AsyncEngine,
) -> None:
    logged, evidence = vendor()
    await log_vendor(engine, logged, evidence)
    await put(engine, model(), State.ACTIVE, LATER)
    steps: list[str] = []
    found = await lifecycle.train_and_store(
        engine, LATER, horizon_days=90, on_progress=steps.append
    )
    assert (found.state, found.report.passed) == (State.SHADOW, True)
    assert len(steps) >= 5
    assert found.report.definition == "contract"
    assert found.model.training.rows == len(logged.day)
    async with engine.connect() as connection:
        stored = await model_store.read_one(connection, found.model.version)
    assert load(stored.document) == found.model
    assert stored.metrics["passed"] is True
    assert stored.metrics["horizon_days"] == 90

    shadowed = await lifecycle.look_at_shadow(engine, LATER + 7 * DAY - DAY / 2, RULES)
    assert shadowed is not None
    assert not shadowed.activated
    shadowed = await lifecycle.look_at_shadow(engine, LATER + 7 * DAY, RULES)
    assert shadowed is not None
    assert shadowed.activated
    assert await states(engine) == {found.model.version: "active", "test-1": "retired"}
    assert await lifecycle.look_at_shadow(engine, LATER + 8 * DAY, RULES) is None


async def test_a_vendor_with_few_losses_gets_no_model_and_one_sentence(
    engine: AsyncEngine,
) -> None:
    with pytest.raises(NotEnoughToLearnFrom, match=r"0 accounts were lost .* needs 100"):
        await lifecycle.train_and_store(engine, LATER, horizon_days=90)
    assert await states(engine) == {}


async def test_a_model_that_misses_the_gate_is_refused_and_says_why(engine: AsyncEngine) -> None:
    await log_vendor(engine, *vendor(3, effect=0.0))
    found = await lifecycle.train_and_store(engine, LATER, horizon_days=90, activate=True)
    assert found.state is State.REFUSED
    assert "best single indicator" in await reason_of(engine, found.model.version)
    assert await states(engine) == {found.model.version: "refused"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # 20 accounts of 200 are a tenth; 21 are more.
        pytest.param(20, "active", id="a tenth of the bands change"),
        pytest.param(21, "shadow", id="more than a tenth do"),
    ],
)
async def test_a_model_that_changes_many_bands_waits_for_an_admin(
    engine: AsyncEngine, changed: int, expected: str
) -> None:
    # Healthy under both; those with a high recency are so under the old model alone.
    recency = np.where(np.arange(200) < changed, 900.0, 0.0)
    table = np.full((200, len(COLUMNS)), np.nan)
    table[:, COLUMNS.index("recency_days")] = recency
    await put_scores(engine, [f"account-{number}" for number in range(200)], table)
    weights = [replace(one, weight=0.0) for one in model().weights]
    blind = tuple(weights)
    weights[0] = replace(weights[0], weight=0.4)
    sighted = with_golden(replace(own("sighted"), weights=tuple(weights), intercept=-2.0))
    blind_model = with_golden(replace(model(), weights=blind, intercept=-2.0))
    await put(engine, blind_model, State.ACTIVE)
    await put(engine, sighted, State.SHADOW)
    found = await lifecycle.look_at_shadow(engine, NOW + 7 * DAY, RULES)
    assert found is not None
    assert (found.accounts, found.changed) == (200, changed)
    assert (await states(engine))["sighted"] == expected
    said = f"{changed} of 200 accounts would change their band"
    assert (await reason_of(engine, "sighted")).startswith(said)
    assert ("an admin decides" in await reason_of(engine, "sighted")) == (expected == "shadow")


async def test_a_newer_model_takes_the_place_in_shadow(engine: AsyncEngine) -> None:
    await log_vendor(engine, *vendor())
    await put(engine, model(), State.ACTIVE, LATER)
    await put(engine, own("older"), State.SHADOW, LATER)
    found = await lifecycle.train_and_store(engine, LATER + DAY, horizon_days=90)
    assert (await states(engine))["older"] == "refused"
    assert found.model.version in await reason_of(engine, "older")


async def test_a_model_of_another_horizon_is_left_to_an_operator(engine: AsyncEngine) -> None:
    await log_vendor(engine, *vendor())
    await put(engine, own("own28-x", horizon_days=28), State.ACTIVE, LATER)
    found = await lifecycle.train_and_store(engine, LATER, horizon_days=90)
    assert (found.state, found.report.comparison) == (State.CANDIDATE, None)
    assert found.reason == "the model in service looks 28 days ahead"
    # What is not said is that of the model in service: a vendor's choice outlives the month.
    found = await lifecycle.train_and_store(engine, LATER)
    assert found.model.horizon_days == lifecycle.horizon_of(found.model.version) == 28


async def test_a_rollback_goes_back_one_model_at_a_time(engine: AsyncEngine) -> None:
    await put(engine, model(), State.ACTIVE)
    await put(engine, own("own-1"), State.ACTIVE, NOW + DAY)
    await put(engine, own("own-2"), State.ACTIVE, NOW + 2 * DAY)
    async with engine.begin() as connection:
        back = await model_store.roll_back(connection, now=NOW + 3 * DAY)
    assert back == ("own-2", "own-1")
    assert await states(engine) == {"own-2": "refused", "own-1": "active", "test-1": "retired"}
    async with engine.begin() as connection:
        back = await model_store.roll_back(connection, now=NOW + 3 * DAY)
    assert back == ("own-1", "test-1")
    with pytest.raises(NothingToRollBackTo):
        async with engine.begin() as connection:
            await model_store.roll_back(connection, now=NOW + 3 * DAY)


async def test_five_of_a_kind_are_kept_and_what_is_in_use(engine: AsyncEngine) -> None:
    await put(engine, own("candidate"), State.CANDIDATE)
    await put(engine, own("named"), State.ACTIVE, NOW)
    table = np.full((1, len(COLUMNS)), np.nan)
    await put_scores(engine, ["acme"], table)
    async with engine.begin() as connection:
        await connection.execute(update(scores).values(model_version="named"))
    for number in range(1, 8):
        await put(engine, own(f"own-{number}"), State.ACTIVE, NOW + number * DAY)
    for number in range(1, 8):
        await put(engine, model(version=f"prior-{number}"), State.ACTIVE, NOW + (7 + number) * DAY)
    kept = await states(engine)
    assert {name for name in kept if name.startswith("own")} == {
        "own-3", "own-4", "own-5", "own-6", "own-7",
    }  # fmt: skip
    assert {name for name in kept if name.startswith("prior")} == {
        "prior-3", "prior-4", "prior-5", "prior-6", "prior-7",
    }  # fmt: skip
    assert kept["candidate"] == "candidate"
    assert kept["named"] == "retired"
    assert list(kept.values()).count("active") == 1


def _flipped(document: bytes) -> bytes:
    return document.replace(b'"horizon_days": 90', b'"horizon_days": 91')


def _of_another_schema(document: bytes) -> bytes:
    return dump(replace(load(document), schema_sha256="0" * 64))


def _newer(document: bytes) -> bytes:
    return document.replace(b'"format": 2', b'"format": 3')


@pytest.mark.parametrize(
    ("spoil", "sentence", "reason"),
    [
        pytest.param(_flipped, "the digest does not match", "digest", id="tampered"),
        pytest.param(
            _of_another_schema, "fitted on other features", "features", id="another schema"
        ),
        pytest.param(_newer, "a newer version of Perennial: format 3", "format", id="newer"),
    ],
)
async def test_a_model_that_is_refused_leaves_the_previous_one_in_service(
    engine: AsyncEngine,
    serving: Models,
    just_started: Models,
    metrics: ScoringMetrics,
    logged: Callable[[], str],
    spoil: Callable[[bytes], bytes],
    sentence: str,
    reason: str,
) -> None:
    await put(engine, own("own-1"), State.ACTIVE)
    assert await version_in_service(serving) == "own-1"
    await put(engine, own("own-2"), State.ACTIVE, NOW + DAY)
    async with engine.begin() as connection:
        await connection.execute(
            update(models)
            .where(models.c.version == "own-2")
            .values(document=spoil(dump(own("own-2"))))
        )
    assert await version_in_service(serving, NOW + DAY) == "own-1"
    assert sentence in logged()
    refusals = metrics.model_refusals.labels(reason)
    assert refusals._value.get() == 1
    # Not again each round, and a process that starts now serves the previous one too.
    assert await version_in_service(serving, NOW + DAY) == "own-1"
    assert refusals._value.get() == 1
    assert await version_in_service(just_started, NOW + DAY) == "own-1"


async def test_a_sound_model_is_served_at_the_next_round(
    engine: AsyncEngine, serving: Models
) -> None:
    await put(engine, own("own-1"), State.ACTIVE)
    assert await version_in_service(serving) == "own-1"
    await put(engine, own("own-2"), State.ACTIVE, NOW + DAY)
    assert await version_in_service(serving, NOW + DAY) == "own-2"
    async with engine.begin() as connection:
        await model_store.roll_back(connection, now=NOW + 2 * DAY)
    assert await version_in_service(serving, NOW + 2 * DAY) == "own-1"


async def test_a_survey_leaves_a_model_of_own_losses_in_service(
    engine: AsyncEngine, serving: Models
) -> None:
    await put(engine, own("own-1"), State.ACTIVE)
    assert await version_in_service(serving, NOW + 40 * DAY) == "own-1"
    assert await states(engine) == {"own-1": "active"}


async def test_a_look_for_drift_tells_what_moved_and_what_was_off(engine: AsyncEngine) -> None:
    logged, evidence = vendor()
    await log_vendor(engine, logged, evidence)
    found = await lifecycle.train_and_store(engine, LATER, horizon_days=90, activate=True)
    table = logged.table[:500].copy()
    table[:, COLUMNS.index("tenure_days")] = 4_000.0  # All in the last bin: they were 60 to 900.
    await put_scores(engine, [f"now-{number}" for number in range(500)], table)

    first = await drift.look(engine, LATER)
    assert first is not None
    assert first.version == found.model.version
    assert first.psi["tenure_days"] == first.psi_max
    assert first.psi["tenure_days"] > 0.25
    assert first.psi["stickiness"] < 0.25
    # Every row was served 0.1, and more were lost.
    months = {one.month: one for one in first.months}
    assert months["2023-06"].expected == pytest.approx(0.1 * months["2023-06"].rows)
    assert first.calibration_ratio is None or first.calibration_ratio > 0
    assert not [alarm for alarm in first.alarms if "PSI" in alarm]  # One week is no drift.

    second = await drift.look(engine, LATER + 7 * DAY)
    assert second is not None
    assert [alarm.split()[0] for alarm in second.alarms if "PSI" in alarm] == ["tenure_days"]
    # The served risk was the same for all: an AUC of a half, and the gate's was above 0.7.
    assert second.quarter_auc == pytest.approx(0.5)
    assert any("last quarter's AUC is 0.500" in alarm for alarm in second.alarms)
    async with engine.connect() as connection:
        newest = await drift.read_newest(connection)
        history = await drift.read_history(connection, LATER)
        stored = (await connection.execute(select(model_health.c.version))).scalars().all()
    assert newest == history[-1]
    assert newest is not None
    assert newest["psi_max"] == second.psi_max
    assert stored == [found.model.version] * 2


async def test_where_no_stored_model_can_be_served_the_prior_stands_in_surveyed_once_for_all(
    engine: AsyncEngine, metrics: ScoringMetrics
) -> None:
    await put(engine, own("own-1"), State.ACTIVE)
    async with engine.begin() as connection:
        await connection.execute(update(models).values(document=b"of another version"))
    surveys: list[None] = []

    def just_started() -> Models:
        return Models(
            engine=engine,
            metrics=metrics,
            rules=RULES,
            yearly_churn=0.1,
            progressed=lambda: surveys.append(None),
        )

    one, another = just_started(), just_started()
    version = await version_in_service(one)
    assert version.startswith("prior-")
    took = len(surveys)
    assert took > 0
    for _ in range(3):
        assert await version_in_service(one) == version
        assert await version_in_service(another) == version  # or they would score in turns, forever
    assert len(surveys) <= 2 * took
    assert await version_in_service(just_started()) == version
    assert await states(engine) == {"own-1": "active", version: "retired"}
    assert (await reason_of(engine, version)) == "stands in for own-1, which was refused"
