"""`POST /api/v1/write`: what a sender is told, and who may send."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.api_client import api_client
from support.numbered_store import NumberedStore
from support.write_requests import Series, body, plain, plain_v2
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.prometheus.write import BODIES, MAX_BODY_BYTES, RemoteWriteEndpoint, routes
from tocsin_alerting.http import httpx
from tocsin_alerting.remote_write.receiver import Receiver
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.snapshot import Labels

NOW = 1_790_000_000_000
# What Prometheus 2.42, vmagent 1.79 and OpenTelemetry's exporter send.
PROMETHEUS = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
    "user-agent": "Prometheus/2.42.0",
}
GOOD = body(plain([Series([(b"__name__", b"m"), (b"job", b"j")], [(NOW, 1), (NOW + 1, 2)])]))
BAD = body(plain([Series([(b"a", b"b")], [(NOW, 1)]), Series([(b"__name__", b"m")], [(NOW, 1)])]))


class Site:
    """One agent's write route; `store` has what was taken."""

    def __init__(
        self,
        token: str | None = None,
        waiting_bytes: int = 10**9,
        store: NumberedStore | None = None,
        body_seconds: float = 60.0,
    ) -> None:
        self.store = store or NumberedStore()
        self.receiver = Receiver(self.store)
        self.executor = ThreadPoolExecutor(1)
        self.intake = RemoteWriteEndpoint(
            self.receiver, self.executor, lambda: NOW, waiting_bytes, body_seconds
        )
        self.guard, self.token = new_guard(bodies=BODIES), token

    async def post(
        self,
        content: bytes | AsyncIterator[bytes],
        headers: Mapping[str, str] = PROMETHEUS,
        address: str = "127.0.0.1",
    ) -> httpx.Response:
        served = routes(self.intake, self.guard)
        async with api_client(served, address, token=self.token) as client:
            return await client.post("/api/v1/write", content=content, headers=headers)


async def test_samples_are_taken_and_nothing_is_said() -> None:
    site = Site()
    answer = await site.post(GOOD)
    assert (answer.status_code, answer.text) == (204, "")
    assert [row[1:] for row in site.store.taken()] == [(NOW, 1), (NOW + 1, 2)]
    assert site.receiver.counters.requests == {204: 1}
    assert site.receiver.counters.samples == 2


async def test_what_was_refused_is_named_in_one_line_and_the_rest_is_kept() -> None:
    site = Site()
    answer = await site.post(BAD)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == (
        '1 of 2 samples refused (invalid_labels 1); the first: {a="b"}: missing __name__\n'
    )
    assert len(site.store.taken()) == 1


@pytest.mark.parametrize("missing", ["content-encoding", "x-prometheus-remote-write-version"])
async def test_a_request_in_snappy_need_not_say_so(missing: str) -> None:
    headers = {name: value for name, value in PROMETHEUS.items() if name != missing}
    assert (await Site().post(GOOD, headers)).status_code == 204


async def test_version_2_is_told_how_much_was_written() -> None:
    kind = {"content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}
    good = Series([(b"__name__", b"m"), (b"job", b"j")], [(NOW, 1), (NOW + 1, 2)], histograms=1)
    whole = body(plain_v2([Series(good.labels, good.samples)]))
    answers = [
        await Site().post(content, {**PROMETHEUS, **kind})
        for content in (whole, body(plain_v2([good])))
    ]
    assert [one.status_code for one in answers] == [204, 400]
    for answer in answers:
        written = {
            name.split("-")[4]: count
            for name, count in answer.headers.items()
            if name.endswith("-written")
        }
        assert written == {"samples": "2", "histograms": "0", "exemplars": "0"}
    assert "m{job=" in answers[1].text and "native histograms are not stored" in answers[1].text


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"content-encoding": "zstd"}, "zstd is not supported; send remote write"),
        ({"content-encoding": "gzip"}, "gzip is not supported"),
        ({"content-encoding": "snappy, gzip"}, "snappy, gzip is not supported"),
        ({"content-type": "application/json"}, "Content-Type application/x-protobuf"),
        ({"content-type": "text/plain"}, "Content-Type application/x-protobuf"),
        ({"content-type": ""}, "Content-Type application/x-protobuf"),
        (
            {"content-type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"},
            "io.prometheus.write.v3.Request is not supported; send remote write: application/x-p",
        ),
    ],
)
async def test_what_is_not_understood_is_said_with_what_is(
    headers: Mapping[str, str], words: str
) -> None:
    site = Site()
    answer = await site.post(GOOD, {**PROMETHEUS, **headers})
    assert answer.status_code == 415
    assert words in answer.text
    assert site.store.taken() == []
    assert site.receiver.counters.requests == {415: 1}


@pytest.mark.parametrize("more", [";proto=prometheus.WriteRequest", "; charset=utf-8", ";"])
async def test_parameters_that_change_nothing(more: str) -> None:
    kind = {"content-type": f"application/x-protobuf{more}", "content-encoding": "Snappy"}
    assert (await Site().post(GOOD, {**PROMETHEUS, **kind})).status_code == 204


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the body is empty"),
        (b"not snappy at all", "not in snappy's block format"),
        (b"\xff" * 20, "longer than 10 bytes"),
        (GOOD[:-1], "not in snappy's block format"),
        (body(b"\x0a\x05\x0a"), "cut off"),
    ],
)
async def test_a_broken_body_is_refused_in_words(content: bytes, words: str) -> None:
    answer = await Site().post(content)
    assert answer.status_code == 400
    assert words in answer.text


async def test_a_body_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    answer = await Site().post(b"\xff\xff\xff\xff\x0f" + bytes(100))
    assert answer.status_code == 413
    assert "at most 32 MiB" in answer.text


async def _pieces(piece: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield piece


async def test_a_body_without_end_is_not_read_to_it() -> None:
    site = Site()
    answer = await site.post(_pieces(bytes(1 << 20), 100))
    assert answer.status_code == 413
    assert f"longer than {MAX_BODY_BYTES >> 20} MiB" in answer.text


async def test_a_body_that_does_not_come_holds_up_nobody_for_long() -> None:
    site = Site(waiting_bytes=len(GOOD) + 10, body_seconds=0.05)

    async def stalled() -> AsyncIterator[bytes]:
        yield GOOD[:10]
        await asyncio.Event().wait()

    answer = await site.post(stalled())
    assert (answer.status_code, answer.text) == (
        503,
        "request body not received within 0.05 s; send it again\n",
    )
    assert (await site.post(GOOD)).status_code == 204


async def test_more_than_may_wait_is_sent_again_later() -> None:
    site = Site(waiting_bytes=len(GOOD) * 2 - 1)
    held = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield GOOD[:10]
        await held.wait()
        yield GOOD[10:]

    first = asyncio.create_task(site.post(slow()))
    await asyncio.sleep(0.01)
    filler = await site.post(b"x" * (2 * len(GOOD) - 10))
    assert (filler.status_code, filler.text) == (
        503,
        "too many requests are waiting; send it again\n",
    )
    held.set()
    assert (await first).status_code == 204
    assert (await site.post(GOOD)).status_code == 204  # all the room is free again


async def test_another_machine_needs_the_token() -> None:
    site = Site("hunter2")
    assert (await site.post(GOOD, address="10.0.0.7")).status_code == 401
    wrong = {**PROMETHEUS, "authorization": "Bearer hunter"}
    refused = await site.post(GOOD, wrong, "10.0.0.7")
    assert refused.status_code == 401
    assert "hunter2" not in refused.text
    right = {**PROMETHEUS, "authorization": "Bearer hunter2"}
    assert (await site.post(GOOD, right, "10.0.0.7")).status_code == 204
    assert site.receiver.counters.requests == {401: 2, 204: 1}


async def test_a_page_of_another_origin_may_not_send() -> None:
    answer = await Site().post(GOOD, {**PROMETHEUS, "origin": "http://evil.example"})
    assert answer.status_code == 403


class Broken(NumberedStore):
    def register(self, series: Sequence[Labels], sender: Sender = UNKNOWN) -> tuple[int, Ints]:
        raise MemoryError


async def test_a_fault_is_no_answer_that_makes_a_sender_drop_its_samples() -> None:
    site = Site(store=Broken())
    assert (await site.post(GOOD)).status_code == 500
    assert site.receiver.counters.requests == {500: 1}


async def test_a_sender_is_an_address_and_a_product_without_its_version() -> None:
    site, headers = Site(token="t"), {**PROMETHEUS, "authorization": "Bearer t"}
    await site.post(GOOD, headers)
    await site.post(BAD, {**headers, "user-agent": "vmagent-1.79"}, "10.0.0.7")
    other = body(plain([Series([(b"__name__", b"n")], [(NOW, 1)])]))
    await site.post(other, {**headers, "user-agent": "\u001b[31m"}, "2001:db8::7")
    assert site.store.senders == [
        Sender("127.0.0.1", "Prometheus"),
        Sender("10.0.0.7", "vmagent-1.79"),
        Sender("2001:db8::", ""),
    ]
