"""The fixtures that give tests a real Kafka; a plug-in of the tests' conftest."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers import BrokerError, KafkaBroker, fetch_jars, kafka_missing
from tests.secure_kafka import SecureKafka, new_secure_kafka


def require_kafka() -> None:
    """Skip loudly where Kafka cannot run; fail where the run must be complete (CI=true)."""
    missing = kafka_missing()
    if missing is None:
        try:
            fetch_jars()
        except BrokerError as error:
            missing = str(error)
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"Kafka cannot run here: {missing}", pytrace=False)
    pytest.skip(f"SKIPPED KAFKA: {missing}")


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One broker for the whole run; a test takes a topic prefix of its own and never kills it."""
    require_kafka()
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """One broker with TLS, sign-in and access rules for the whole run."""
    require_kafka()
    kafka = new_secure_kafka(tmp_path_factory.mktemp("secure-kafka"))
    try:
        kafka.broker.start()
        yield kafka
    finally:
        kafka.broker.stop()


@pytest.fixture
def new_kafka_broker(tmp_path: Path) -> Iterator[Callable[[], KafkaBroker]]:
    """Makes started brokers of this test alone, to be killed, frozen and restarted."""
    require_kafka()
    made: list[KafkaBroker] = []

    def make() -> KafkaBroker:
        broker = KafkaBroker(tmp_path / f"kafka-{len(made)}")
        made.append(broker)
        broker.start()
        return broker

    try:
        yield make
    finally:
        for broker in made:
            broker.stop()
