"""OTLP requests that OpenTelemetry's own classes wrote, in both encodings, and what is stored."""

import gzip
import json
import math
import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.numbered_store import NumberedStore
from tocsin_alerting.otlp.messages import read_message, unzipped
from tocsin_alerting.otlp.protobuf import MAX_PARTS, read_request
from tocsin_alerting.otlp.receiver import OtlpReceiver
from tocsin_alerting.otlp.translate import translate
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge
from tocsin_alerting.tsdb.head.remote_limits import SeriesLimits
from tocsin_alerting.tsdb.native_histograms import NativeHistograms
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.snapshot import Labels, Source

GOLDEN = Path(__file__).parents[2] / "golden"
PROTOBUF = (GOLDEN / "otlp_metrics.binpb").read_bytes()
JSON = (GOLDEN / "otlp_metrics.json").read_bytes()
NOW = 1_790_000_000_000
SHOP = '{job="shop/checkout",instance="a-1"'
LONG = ',big="2.5e+21",cpu_core="one;1",key_2nd="1e-7",key_hidden="true",raw="AP8="}'
STORED = {  # `{S` stands for SHOP
    "cpu_use_ratio{S" + LONG: 0.25,
    'cpu_use_ratio{S,cpu_core="2"}': math.nan,
    'temp_celsius{S,tree="{"a":0.5,"b":[1,"日",false]}"}': -40,
    "http_requests_total{S}": 7,
    "queue_size{S}": 3,
    "http_duration_seconds_sum{S}": 12.5,
    "http_duration_seconds_count{S}": 6,
    'http_duration_seconds_bucket{S,le="0.005"}': 1,
    'http_duration_seconds_bucket{S,le="2.5"}': 3,
    'http_duration_seconds_bucket{S,le="+Inf"}': 6,
    'http_duration_seconds_count{S,le="mine"}': 4,
    "gc_pause_milliseconds_sum{S}": 45.5,
    "gc_pause_milliseconds_count{S}": 9,
    'gc_pause_milliseconds{S,quantile="0.5"}': 4,
    'gc_pause_milliseconds{S,quantile="1"}': 9,
    'target_info{S,host_cpus="-8",host_name="box"}': 1,
    "alone{}": 1,
    'io_bytes_per_second_total{job="plain"}': 1.5,
}


def _shown(labels: Labels) -> str:
    """Job and instance first, so that a table of series is short."""
    pairs = dict(labels)
    name = pairs.pop("__name__")
    first = {key: pairs.pop(key) for key in ("job", "instance") if key in pairs}
    inside = ",".join(f'{key}="{value}"' for key, value in (first | pairs).items())
    return f"{name}{{{inside}}}".replace(SHOP, "{S")


def _stored(store: Store) -> dict[str, float]:
    """What an instant query of everything would see, in numbers."""
    newest = QueryEngine(store).newest(((),), NOW + 10)
    return dict(zip(map(_shown, newest.labels), newest.values.tolist(), strict=True))


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (PROTOBUF, {}),
        (gzip.compress(PROTOBUF), {"zipped": True}),
        (JSON, {"json": True}),
        (gzip.compress(JSON), {"json": True, "zipped": True}),
    ],
)
def test_what_opentelemetry_writes_is_stored_as_prometheus_3_stores_it(
    body: bytes, form: dict[str, Any]
) -> None:
    store = Store()
    receiver = OtlpReceiver(store)
    result = receiver.receive(body, NOW, **form)
    stored = _stored(store)
    assert {name: str(value) for name, value in stored.items()} == {
        name: str(float(value)) for name, value in STORED.items()
    }
    refused = {"temporality": 4, "native_histogram": 1, "invalid_labels": 2, "duplicate": 1}
    assert dict(result.refused) == dict(receiver.counters.refused) == refused
    assert result.first_refused == (
        'metric "delta.requests": its temporality is delta; only cumulative is stored: set the'
        " exporter's temporality preference to cumulative"
        " (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE)"
    )
    assert result.accepted == receiver.counters.samples == len(STORED) + 2  # stale, target_info


def test_who_asks_for_an_exponential_histogram_is_told_that_it_is_not_stored() -> None:
    store, natives = Store(), NativeHistograms()
    OtlpReceiver(store, natives).receive(PROTOBUF, NOW)
    with pytest.raises(QueryError, match='"exp_duration_seconds" comes as native histograms'):
        QueryEngine(store, natives=natives).evaluate("rate(exp_duration_seconds[5m])", NOW)


def test_a_source_is_a_job_and_an_instance_that_may_fall_silent() -> None:
    store = Store()
    OtlpReceiver(store).receive(PROTOBUF, NOW)
    shop = store.last_seen(Source("shop/checkout", "a-1"))
    assert shop is not None and shop.at_ms == NOW + 1
    assert {Source("plain", ""), Source("shop/checkout", "a-1")} <= store.sources().keys()


def test_a_point_without_a_value_ends_its_series_and_words_say_what_was_refused() -> None:
    store = Store(limits=SeriesLimits(per_source=16))
    receiver = OtlpReceiver(store)
    made = translate(read_message(PROTOBUF, False, False))
    (stale,) = (value for labels, _, value in made.samples if ("cpu_core", "3") in labels)
    assert struct.unpack("<q", struct.pack("<d", stale)) == (STALE_BITS,)
    assert receiver.receive(PROTOBUF, NOW).refused["per_source"] == 2
    only = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [_gauge("new", NOW)]}]}]})
    assert not receiver.receive(only.encode(), NOW, json=True).refused
    late = only.replace(str(NOW), str(NOW - 1))
    told = receiver.receive(late.encode(), NOW, json=True)
    words = "1 of 1 samples refused (out_of_order 1); the first: new{} at 17"
    assert told.message.startswith(words)


def _gauge(name: str, at_ms: int) -> Any:
    return {"name": name, "gauge": {"dataPoints": [{"timeUnixNano": f"{at_ms}000000", "asInt": 1}]}}


def test_what_is_known_by_its_epoch_is_registered_anew() -> None:
    store = NumberedStore()
    receiver = OtlpReceiver(store)
    assert receiver.receive(PROTOBUF, NOW).accepted
    store.renumber()
    assert receiver.receive(PROTOBUF, NOW).accepted


@pytest.mark.parametrize("number", [-1, 0, 1, 3, "AGGREGATION_TEMPORALITY_DELTA"])
def test_only_cumulative_is_cumulative(number: int | str) -> None:
    metric = {"name": "m", "sum": _gauge("", NOW)["gauge"] | {"aggregationTemporality": number}}
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    told = OtlpReceiver(Store()).receive(body, NOW, json=True)
    assert (told.accepted, dict(told.refused)) == (0, {"temporality": 1})


DEEP = '{"resourceMetrics":[{"resource":{"attributes":[{"key":"a","value":null}]}}]}'
NEST = '{"arrayValue":{"values":['


@pytest.mark.parametrize(
    ("body", "form", "words"),
    [
        (b"{", {"json": True}, "the body is not JSON"),
        (b"[]", {"json": True}, "the body is no JSON object"),
        (b'{"resourceMetrics":7}', {"json": True}, "no ExportMetricsServiceRequest"),
        (b'{"resourceMetrics":[{"resource":1}]}', {"json": True}, "no ExportMetricsServiceRequest"),
        (JSON.replace(b'"179', b'"-179'), {"json": True}, "is no number of 64 bits"),
        (JSON.replace(b'"179', b'"' + b"9" * 400), {"json": True}, "is no number of 64 bits"),
        (
            DEEP.replace("null", NEST * 40 + "]}}" * 40).encode(),
            {"json": True},
            "more than 32 deep",
        ),
        (PROTOBUF[:-1], {}, "is cut off"),
        (PROTOBUF.replace(b"checkout", b"check\xff\xfe\xff"), {}, "is not UTF-8"),
        (PROTOBUF, {"zipped": True}, "the body is not gzip"),
        (gzip.compress(PROTOBUF)[:-9], {"zipped": True}, "it is cut off"),
        (b'{"x":[' + b"{}," * MAX_PARTS * 3 + b"{}]}", {"json": True}, "too many parts"),
        (gzip.compress(bytes(33 << 20)), {"zipped": True}, "longer than 32 MiB unpacked"),
    ],
)
def test_what_is_no_request_is_refused_in_words(
    body: bytes, form: dict[str, Any], words: str
) -> None:
    store = Store()
    with pytest.raises((Malformed, RequestTooLarge), match=words):
        OtlpReceiver(store).receive(body, NOW, **form)
    assert not store.sources()


def test_a_request_has_only_so_many_parts() -> None:
    read_request(PROTOBUF, 250)
    with pytest.raises(RequestTooLarge, match="more than 100 data points, attributes and bu"):
        read_request(PROTOBUF, 100)


def test_garbage_ends_in_words_and_never_otherwise() -> None:
    random = Random(4)
    for _ in range(300):
        body = bytearray(random.choice((PROTOBUF, JSON)))
        json_form = body[:1] == b"{"
        for _ in range(random.randrange(1, 6)):
            at = random.randrange(len(body))
            body[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        try:
            OtlpReceiver(Store()).receive(bytes(body), NOW, json=json_form)
        except (Malformed, RequestTooLarge) as error:
            assert str(error)


def test_gzip_is_unpacked_as_far_as_it_may_be() -> None:
    assert unzipped(gzip.compress(b"x" * 100), 100) == b"x" * 100
    with pytest.raises(RequestTooLarge):
        unzipped(gzip.compress(b"x" * 101), 100)
