"""Which scraper gets which format: the headers are those that they really send."""

import asyncio
import gc
import threading
import weakref

import pytest

from support.exhausted import no_threads
from tocsin_exporter.negotiation import Compression, accepts_gzip, compressed, negotiate

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OM1 = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OM0 = "application/openmetrics-text; version=0.0.1; charset=utf-8"

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
        (PROMETHEUS_2_42, OM1),
        (PROMETHEUS_3, OM1),
        (PROTOBUF_FIRST, TEXT),
        ("application/openmetrics-text", OM1),
        ("application/openmetrics-text; version=0.0.1", OM0),
        ('application/openmetrics-text; version="1.0.0"', OM1),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;version=2.0.0,application/openmetrics-text;q=0.3", OM1),
        ("text/plain;version=1.0.0;q=0.9,application/openmetrics-text;q=0.2", OM1),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.4", TEXT),
        ("application/openmetrics-text;q=0,*/*;q=0.1", TEXT),
        ("text/plain,application/openmetrics-text", TEXT),
        ("application/openmetrics-text,text/plain", OM1),
        ("application/openmetrics-text;q=high,text/plain;q=0.1", TEXT),
        ("application/json", TEXT),
        (",;,=;q", TEXT),
    ],
)
def test_the_format_for_an_accept_header(accept: str, content_type: str) -> None:
    answer = negotiate(accept)
    assert answer.content_type == content_type
    assert answer.format == ("text" if content_type == TEXT else "openmetrics")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("deflate;q=1.0, *;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("GZIP", True),
    ],
)
def test_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


async def test_many_answers_to_compress_keep_no_other_thread_busy() -> None:
    free = threading.Event()

    def packed() -> bytes:
        free.wait()
        return b"packed"

    waiting = [asyncio.create_task(compressed(packed)) for _ in range(200)]
    await asyncio.sleep(0)
    assert await asyncio.to_thread(lambda: "else") == "else"
    free.set()
    answers = await asyncio.gather(*waiting)
    assert set(answers) == {b"packed", None}  # the others go out as they are
    assert await compressed(packed) == b"packed"


async def test_answers_that_wait_to_be_compressed_have_a_bound() -> None:
    free, compression = threading.Event(), Compression(threads=1, most=3)
    waiting = [
        asyncio.create_task(compression.compressed(lambda: bytes(free.wait()))) for _ in range(3)
    ]
    await asyncio.sleep(0)
    assert await compression.compressed(bytes) is None
    waiting[2].cancel()
    await asyncio.wait({waiting[2]})
    late = asyncio.create_task(compression.compressed(lambda: b"late"))
    free.set()
    assert await late == b"late"
    await asyncio.gather(*waiting[:2])


async def test_without_a_thread_an_answer_goes_out_as_it_is() -> None:
    compression = Compression()
    with no_threads():
        assert await compression.compressed(lambda: b"packed") is None
    assert await compression.compressed(lambda: b"packed") == b"packed"


class Body(bytearray):
    """A page, of which a test can ask whether anybody has it still."""

    def packed(self) -> bytes:
        return b"packed"


async def test_an_answer_that_went_out_as_it_is_is_kept_by_nobody() -> None:
    compression, body = Compression(), Body(1000)
    kept = weakref.ref(body)
    with no_threads():
        assert await compression.compressed(body.packed) is None
    del body
    gc.collect()
    assert kept() is None


async def test_where_there_is_room_for_one_thread_it_compresses_all() -> None:
    compression = Compression()
    assert await compression.compressed(lambda: b"packed") == b"packed"
    with no_threads():
        assert await compression.compressed(lambda: b"packed") == b"packed"
