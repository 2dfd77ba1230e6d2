"""What each service really answers on /metrics, on both ways to run it."""

import asyncio
import os
import re
import shutil
import subprocess
from typing import Final

import httpx
import pytest

from tests.e2e.deployments import Deploy, eventually
from tests.metric_catalogue import catalogue

_SERIES: Final = re.compile(r"^([a-z_:]+)(?:\{([^}]*)\})? ", re.MULTILINE)
_LABEL: Final = re.compile(r'([a-z_]+)="')
_LATER: Final = {
    # Once there is something to show: a certificate, an embedded database, a request, a score,
    # a source that was out.
    "perennial_certificate_expiry_timestamp_seconds",
    "perennial_disk_free_bytes",
    "perennial_disk_size_bytes",
    "perennial_http_request_seconds",
    "perennial_model_info",
    "perennial_source_stale",
}
# Days are what is counted: partitions, one for each.
_EXCUSED: Final = {'perennial_event_id_days_ahead use base unit "seconds" instead of "days"'}


async def test_all_that_is_scraped_is_in_the_catalogue_and_well_formed(
    deploy: Deploy, client: httpx.AsyncClient
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not on the PATH (Debian: prometheus)", pytrace=False)
        pytest.skip("SKIPPED PROMTOOL: it is not on the PATH (Debian: prometheus)")
    deployment = await deploy()
    texts: list[str] = []

    async def all_shown() -> bool:
        texts[:] = [
            (await client.get(f"{process.url('admin')}/metrics")).text
            for process in deployment.distinct
        ]
        return catalogue().keys() - set().union(*map(_named, texts)) <= _LATER

    await eventually(all_shown, what="series of all that is in the catalogue")
    for text in texts:
        checked = await asyncio.to_thread(
            subprocess.run,
            [promtool, "check", "metrics"],
            check=False,
            capture_output=True,
            input=text,
            text=True,
            timeout=60,
        )
        complaints = (checked.stderr + checked.stdout).splitlines()
        assert [line for line in complaints if line not in _EXCUSED] == []


def _named(text: str) -> set[str]:
    """The metrics that have a series; each as the catalogue has it."""
    known, found = catalogue(), set()
    for series, labels in _SERIES.findall(text):
        bare = re.sub(r"_(bucket|sum|count)$", "", series)
        name = series if series in known else bare
        assert name in known, series
        assert set(_LABEL.findall(labels)) - {"le"} == set(known[name][1]), series
        found.add(name)
    return found
