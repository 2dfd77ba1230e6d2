import pytest

from tests.contract.sdks.sdks import Sdk


@pytest.fixture(autouse=True)
def installed(sdk: Sdk) -> None:
    """Before a service runs: the SDK of the test is there, or the test is skipped."""
    sdk.require()
