"""`POST /api/v1/otlp/v1/metrics`: what a sender is told, and who may send."""

import gzip
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api_client import api_client
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.prometheus.otlp import BODIES, routes
from tocsin_alerting.api.prometheus.write import RemoteWriteEndpoint
from tocsin_alerting.http import httpx
from tocsin_alerting.otlp.receiver import OtlpReceiver
from tocsin_alerting.remote_write.prompb import read_fields
from tocsin_alerting.remote_write.receiver import Receiver
from tocsin_alerting.tsdb.backlog import Backlogged
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Floats, Ints

NOW = 1_790_000_000_000
GOLDEN = Path(__file__).parents[3] / "golden"
MIXED = (GOLDEN / "otlp_metrics.binpb").read_bytes()
MIXED_JSON = (GOLDEN / "otlp_metrics.json").read_bytes()
# What OpenTelemetry's exporter for Python 1.45 sends.
PYTHON = {
    "content-type": "application/x-protobuf",
    "content-encoding": "gzip",
    "user-agent": "OTel-OTLP-Exporter-Python/1.45.2",
}
IN_JSON = {"content-type": "application/json"}
POINT = {"timeUnixNano": f"{NOW}000000", "asInt": "1"}


def _request(metric: Mapping[str, object]) -> bytes:
    scopes = [{"metrics": [{"name": "m", **metric}]}]
    return json.dumps({"resourceMetrics": [{"scopeMetrics": scopes}]}).encode()


GOOD = _request({"gauge": {"dataPoints": [POINT]}})
DELTA = _request({"sum": {"aggregationTemporality": 1, "dataPoints": [POINT, POINT]}})


class Site:
    """One agent's route."""

    def __init__(self, store: Store | None = None) -> None:
        store = store or Store()
        self.receiver = OtlpReceiver(store)
        intake = RemoteWriteEndpoint(Receiver(store), ThreadPoolExecutor(1), lambda: NOW)
        self.routes = routes(self.receiver, intake, new_guard(bodies=BODIES))

    async def post(
        self, body: bytes, headers: Mapping[str, str] = IN_JSON, **roles: str
    ) -> httpx.Response:
        async with api_client(self.routes, **roles) as client:
            return await client.post("/api/v1/otlp/v1/metrics", content=body, headers=headers)


def _fields(body: bytes) -> dict[int, bytes | int]:
    """A message's fields: texts and messages, or numbers."""
    parts = read_fields(body, 0, len(body))
    return {n: value if wire == 0 else body[value:stop] for n, wire, value, stop in parts}


async def test_what_is_taken_is_answered_with_an_empty_message() -> None:
    site = Site()
    answer = await site.post(GOOD)
    assert (answer.status_code, answer.json()) == (200, {})
    assert site.receiver.counters.requests == {200: 1}
    assert site.receiver.counters.samples == 1


async def test_what_is_refused_of_a_request_is_told_as_a_partial_success() -> None:
    protobuf = await Site().post(gzip.compress(MIXED), PYTHON)
    in_json = await Site().post(MIXED_JSON)
    assert protobuf.status_code == in_json.status_code == 200
    assert protobuf.headers["content-type"] == "application/x-protobuf"
    (told,) = _fields(protobuf.content).values()
    assert isinstance(told, bytes)
    rejected, message = _fields(told).values()
    assert in_json.json() == {
        "partialSuccess": {"rejectedDataPoints": "8", "errorMessage": message.decode()}  # type: ignore[union-attr]
    }
    assert rejected == 8
    assert b"8 of 28 samples refused (duplicate 1, invalid_labels 2, native_histogram" in told


async def test_delta_alone_is_refused_in_words_in_the_encoding_of_the_request() -> None:
    site = Site()
    answer = await site.post(DELTA)
    assert answer.status_code == 400
    words = answer.json()["message"]
    assert words.startswith(
        '2 of 2 samples refused (temporality 2); the first: metric "m": its tem'
    )
    assert "is delta; only cumulative is stored" in words
    assert site.receiver.counters.refused == {"temporality": 2}
    cut = await site.post(gzip.compress(MIXED[:-1]), PYTHON)
    assert cut.status_code == 400
    assert b"is cut off" in bytes(_fields(cut.content)[2])


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({**IN_JSON, "content-encoding": "zstd"}, 415, "zstd is not supported; send gzip"),
        ({"content-type": "text/plain"}, 415, "application/x-protobuf"),
        ({**IN_JSON, "origin": "http://127.0.0.1:4911"}, 415, "application/x-protobuf"),
        ({**IN_JSON, "origin": "http://evil.example"}, 403, "another origin"),
        ({**IN_JSON, "host": "evil.example"}, 403, "evil.example"),
    ],
)
async def test_who_may_not_send_hears_why(
    headers: Mapping[str, str], status: int, words: str
) -> None:
    site = Site()
    answer = await site.post(GOOD, headers)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert site.receiver.counters.requests == {status: 1}
    assert not site.receiver.counters.samples


async def test_the_role_is_that_of_remote_write() -> None:
    site = Site()
    token = {"authorization": "Bearer reader"}
    refused = await site.post(GOOD, {**IN_JSON, **token}, reader="read", writer="respond")
    taken = await site.post(
        GOOD, {**IN_JSON, "authorization": "Bearer writer"}, reader="read", writer="respond"
    )
    assert (refused.status_code, taken.status_code) == (403, 200)
    assert "respond" in refused.text


class _Behind(Store):
    """One whose disk does not keep up."""

    def write_refs(self, epoch: int, refs: Ints, times: Ints, values: Floats, now_ms: int) -> None:
        raise Backlogged("8,000,000 late samples wait")


async def test_a_store_that_cannot_take_more_asks_for_it_again() -> None:
    answer = await Site(_Behind()).post(GOOD)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"message": "8,000,000 late samples wait"}
