"""The whole document: one part per wire format, and what they share."""

from services.ingest.openapi import cloudevents, directory, native, parts, posthog, segment
from services.ingest.openapi.parts import Json

TITLE = "Perennial ingest"
VERSION = "1"
DESCRIPTION = (
    "Send what happens in your product, and what is known of your customers' accounts. An answer"
    " `accepted` means that it is stored: it is given after the log has it. Whatever is answered"
    " `retry`, or with 429 or 503, is safe to send again under the same ids. Bodies may come with"
    " `Content-Encoding: gzip`, `deflate` or `zstd`, up to 8 MiB as sent and 16 MiB inflated, with"
    " up to 2,000 items of 64 KiB. The libraries of Segment, RudderStack, PostHog, OpenMeter and"
    " CloudEvents work unchanged: point their host here, and give them a write key."
)

_PARTS = (native, directory, segment, cloudevents, posthog)


def describe() -> Json:
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "tags": [{"name": part.TAG, "description": part.ABOUT} for part in _PARTS],
        "paths": {
            path: {
                method: {"tags": [part.TAG], **operation}
                for method, operation in operations.items()
            }
            for part in _PARTS
            for path, operations in part.paths().items()
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A write key."},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The write key as the user, no password.",
                },
            },
            "schemas": {
                name: schema for part in (parts, *_PARTS) for name, schema in part.schemas().items()
            },
        },
        "security": [{"key": []}],
    }
