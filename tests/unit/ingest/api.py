"""The whole HTTP application of ingest over a given log, with keys to call it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from services.ingest.app import create_app
from services.ingest.inflight import InFlight
from services.ingest.metrics import IngestMetrics
from services.ingest.publisher import AppendLog, Publisher
from services.ingest.routes import Routes
from services.ingest.settings import IngestSettings
from shared.credentials import KeyRing, Scope, new_key
from shared.lifecycle import Frame, new_frame

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
USER_KEY = b"k" * 32
ERROR_FIELDS = ("code", "message", "detail", "error", "request_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    client: httpx.AsyncClient
    app: Routes
    ring: KeyRing
    inflight: InFlight
    frame: Frame

    def key(self, *scopes: Scope, source: str = "app") -> dict[str, str]:
        """The headers of a new key; without scopes it has those of a source."""
        wanted: Iterable[Scope] = scopes or (Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE)
        created = new_key(source=source, scopes=wanted, now=NOW)
        self.ring.put(created.record)
        return {"authorization": f"Bearer {created.secret}"}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.frame.registry.get_sample_value(f"perennial_ingest_{name}", labels)


@asynccontextmanager
async def open_api(log: AppendLog, **settings: object) -> AsyncIterator[Api]:
    frame = new_frame()
    wanted = IngestSettings.model_validate(settings)
    ring = KeyRing()
    inflight = InFlight(
        max_bytes=wanted.ingest_max_inflight_bytes, max_events=wanted.ingest_max_inflight_events
    )
    metrics = IngestMetrics(frame.registry, inflight)
    app = create_app(
        wanted,
        frame=frame,
        ring=ring,
        publisher=Publisher(
            target=log,
            deadline=wanted.append_deadline,
            metrics=metrics,
            dependency_up=frame.metrics.dependency_up.labels("ingest", "log"),
        ),
        inflight=inflight,
        metrics=metrics,
        user_key=USER_KEY,
        clock=lambda: NOW,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
        yield Api(client=client, app=app, ring=ring, inflight=inflight, frame=frame)


def check_error(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Every error has the same body, and says when to come back where that helps."""
    assert response.status_code == status, response.text
    body: dict[str, object] = response.json()
    for field in ERROR_FIELDS:
        value = body[field]
        assert isinstance(value, str)
        assert value
    assert body["code"] == body["error"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    if status in (429, 503):
        assert 1 <= int(response.headers["retry-after"]) <= 30
    return body
