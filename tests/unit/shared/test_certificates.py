"""When a certificate expires is read from its file, an authority's or not."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared import certificates
from shared.lifecycle import Frame
from tests.certificates import certificate_for, chain_for


async def test_the_expiry_of_a_file_is_told_while_it_is_watched(
    frame: Frame, tmp_path: Path
) -> None:
    file = await asyncio.to_thread(certificate_for, "localhost", tmp_path)
    stop, told = asyncio.Event(), frame.metrics.certificate_expiry

    def expiry(name: str) -> float | None:
        return frame.registry.get_sample_value(told.name, {"certificate": name})

    files = {"kafka_ca": file, "gone": tmp_path / "gone.pem"}
    watching = asyncio.create_task(certificates.watch(files, told, stop))
    async with asyncio.timeout(10):
        while expiry("kafka_ca") is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    # It was made for two days.
    expected = (datetime.now(UTC) + timedelta(days=2)).timestamp()
    assert abs((expiry("kafka_ca") or 0) - expected) < 120
    assert expiry("gone") is None
    stop.set()
    await watching
    assert expiry("kafka_ca") is None


def test_a_certificate_ends_before_the_authority_that_its_file_holds_too(tmp_path: Path) -> None:
    file = chain_for("localhost", tmp_path, days=3, authority_days=300)
    expected = datetime.now(UTC) + timedelta(days=3)
    assert abs(certificates.expiry_of(file) - expected) < timedelta(minutes=2)
