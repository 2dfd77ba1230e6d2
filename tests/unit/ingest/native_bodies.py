"""Decoding by the native format as one call, with valid defaults: a test states what matters."""

from services.ingest.formats.native import NATIVE
from services.ingest.results import Decoded
from services.ingest.wire import Submission
from tests.unit.ingest import decoded
from tests.unit.ingest.decoded import SUBMISSION


def item(**changes: object) -> dict[str, object]:
    """A good item; a change to None leaves the field out."""
    fields = {"id": "e-1", "account_id": "acme", "type": "login", **changes}
    return {name: value for name, value in fields.items() if value is not None}


def take(body: bytes | object, submission: Submission = SUBMISSION) -> Decoded:
    """The body, or the value as a body, decoded."""
    return decoded.take(NATIVE, body, submission)
