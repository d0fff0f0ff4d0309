"""What an engine answers, and which state that is: each row of the table in docs/engines.md."""

import asyncio
import errno
import gzip
import json
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from exporter.collectors.test_engine import (
    MODELS,
    REFUSED,
    SGLANG,
    VLLM,
    Handler,
    Pages,
    engine,
    pages,
    raw,
    served,
    value,
)
from support.exhausted import no_descriptors
from tocsin_exporter.collectors.collector import CollectorError, Partial, Unread
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.collectors.engine_answers import METRICS_PATHS
from tocsin_exporter.collectors.engine_page import OriginalPage
from tocsin_exporter.engine_access import MOST_BYTES, EngineAccess
from tocsin_exporter.http import httpx
from tocsin_exporter.snapshot import Sample, Source

WEB = "<!DOCTYPE html><html><title>Welcome</title></html>"
OTHER = "up_time 1\n"
WELL: Pages = {"/health": (200, '{"status":"ok"}')}
LISTED: Pages = {"/v1/models": (200, MODELS)}
PROOFS = {"models": LISTED, "refused models": {"/v1/models": (401, REFUSED)}}


async def said(collector: EngineCollector) -> Sequence[Sample]:
    try:
        return await collector.collect()
    except CollectorError as error:
        return error.samples


def state(samples: Sequence[Sample]) -> str:
    """`up`, `down`, or why it is up without its metrics."""
    if not value(samples, "llm_engine_up"):
        return "down"
    refused = value(samples, "llm_engine_metrics_refused")
    unknown = value(samples, "llm_engine_metrics_unknown")
    return f"refused {refused:g}" if refused else "unknown" if unknown else "up"


async def configured(answers: Pages) -> str:
    async with served(pages(answers)) as url, engine(url) as collector:
        return state(await said(collector))


async def replaced(answers: Pages) -> str:
    """The state when it answers so where vLLM was before."""
    present: Pages = {"/metrics": (200, VLLM), "/health": (200, "")}
    async with served(pages(present)) as url, engine(url) as collector:
        assert state(await said(collector)) == "up"
        present.clear()
        present.update(answers)
        return state(await said(collector))


async def remembered(answers: Pages) -> str:
    async with served(pages(answers)) as url:
        collector = EngineCollector(replace(EngineAccess.of(url), expected=True), lambda: 0.0)
        try:
            return state(await said(collector))
        finally:
            await collector.aclose()


async def kept_before(answers: Pages) -> str:
    """Configured, and the store has its page from before the agent's restart."""
    async with served(pages(answers)) as url:
        access = EngineAccess.of(url)
        original = OriginalPage(access.target)
        original.resume({Source("vllm", access.target): 1}.get)
        collector = EngineCollector(access, lambda: 0.0, original=original)
        try:
            return state(await said(collector))
        finally:
            await collector.aclose()


def everywhere(status: int, body: str) -> Pages:
    paths = ("/metrics", "/prometheus/metrics", "/health", "/v1/models", "/version")
    return dict.fromkeys(paths, (status, body))


STRANGERS: dict[str, Pages] = {
    "a web site": everywhere(200, WEB),
    "a web site with a mark before it": everywhere(200, "\ufeff\n" + WEB),
    "a web site whose health is well": {**everywhere(200, WEB), **WELL},
    "one answer to everything": everywhere(200, "hello"),
    "JSON to everything": everywhere(200, '{"status":"ok"}'),
    "nothing to everything": everywhere(200, ""),
    "a proxy without its engine": everywhere(502, WEB),
    "a proxy in maintenance": everywhere(503, WEB),
    "a web server without pages": everywhere(404, WEB),
    "a web server that wants a password": everywhere(401, WEB),
    "junk": {"/metrics": (200, "\x00\x01")},
}
# Where an engine was before, these are no engine either; where none was, somebody says it is one.
DOUBTFUL: dict[str, tuple[Pages, str]] = {
    "other metrics": ({"/metrics": (200, OTHER)}, "unknown"),
    "other metrics and health": ({"/metrics": (200, OTHER), **WELL}, "unknown"),
    "JSON and health": ({"/metrics": (200, "[]"), **WELL}, "unknown"),
    "no page and health": ({"/metrics": (404, ""), **WELL}, "refused 404"),
}


@pytest.mark.parametrize("answers", STRANGERS.values(), ids=STRANGERS)
async def test_what_is_no_engine_is_down(answers: Pages) -> None:
    assert await configured(answers) == "down"
    assert await replaced(answers) == "down"
    assert await remembered(answers) == "down"


@pytest.mark.parametrize(("answers", "alone"), DOUBTFUL.values(), ids=DOUBTFUL)
async def test_a_health_page_proves_nothing_where_an_engine_was(answers: Pages, alone: str) -> None:
    assert await configured(answers) == alone
    assert await replaced(answers) == "down"
    assert await remembered(answers) == "down"
    assert await kept_before(answers) == "down"


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS)
@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ((200, WEB), "unknown"),
        ((200, OTHER), "unknown"),
        ((200, "[]"), "unknown"),
        ((200, ""), "unknown"),
        ((401, WEB), "refused 401"),
        ((404, WEB), "refused 404"),
        ((502, WEB), "refused 502"),
        ((503, "busy"), "refused 503"),
    ],
)
async def test_a_healthy_engine_is_never_down(
    page: tuple[int, str], expected: str, proof: Pages
) -> None:
    answers = {"/metrics": page, "/prometheus/metrics": page, **proof}
    for how in (configured, replaced, remembered, kept_before):
        assert await how(answers) == expected


@pytest.mark.parametrize("page", [(401, WEB), (403, ""), (400, "")])
async def test_behind_a_login_a_health_page_is_enough(page: tuple[int, str]) -> None:
    answers = {"/metrics": page, "/prometheus/metrics": page, "/v1/models": (401, WEB), **WELL}
    for how in (configured, replaced, remembered):
        assert await how(answers) == f"refused {page[0]}"


async def test_a_proxy_that_fails_for_a_moment_is_down_for_that_moment() -> None:
    answers: Pages = {"/metrics": (200, VLLM), "/health": (200, "")}
    async with served(pages(answers)) as url, engine(url) as collector:
        states = [state(await said(collector))]
        good = dict(answers)
        for now in (everywhere(502, WEB), good):
            answers.clear()
            answers.update(now)
            states.append(state(await said(collector)))
    assert states == ["up", "down", "up"]


def engine_with(odd: dict[str, bytes], answers: Pages) -> Handler:
    """`odd` maps a path to the raw bytes of its answer; with `...` at their end they go on, after
    RESET the connection is reset."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            while (await reader.readline()).strip():
                pass
            path = request.split()[1].decode()
            if path not in odd:
                status, body = answers.get(path, (404, ""))
                head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body.encode())}\r\n\r\n"
                writer.write((head + body).encode())
                await writer.drain()
                continue
            sent, reset, _ = odd[path].partition(RESET)
            sent, endless, _ = sent.partition(b"...")
            writer.write(sent)
            if reset:
                await asyncio.sleep(0.05)  # what was sent is read before
                lingering = writer.get_extra_info("socket")
                lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            while endless:
                writer.write(b"x" * 65536)
                await writer.drain()
            return

    return handle


RESET = b"reset"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n..."
BOMB = gzip.compress(gzip.compress(b"x" * 1000))
NESTED = (
    f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n"
).encode() + BOMB
HANGING = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"


@pytest.mark.parametrize("path", ["/health", "/version", "/v1/models"])
@pytest.mark.parametrize("odd", [ENDLESS, NESTED], ids=["endless", "packed twice"])
async def test_what_stands_beside_the_metrics_does_not_cost_them(path: str, odd: bytes) -> None:
    page = VLLM.replace('model_name="qwen"', 'other="x"')  # so that its list of models is asked
    answers: Pages = {"/metrics": (200, page), "/health": (200, "")}
    async with served(engine_with({path: odd}, answers)) as url, engine(url) as collector:
        for _ in range(2):
            assert state(await said(collector)) == "up"


@pytest.mark.parametrize("odd", [ENDLESS, NESTED], ids=["endless", "packed twice"])
async def test_a_page_that_cannot_be_read_is_said_of_an_engine_and_of_nobody_else(
    odd: bytes,
) -> None:
    for answers, expected in ((LISTED, "unknown"), ({}, "down")):
        async with served(engine_with({"/metrics": odd}, answers)) as url, engine(url) as one:
            assert state(await said(one)) == expected


def packed(text: str, whole: int | None = None, status: int = 200) -> bytes:
    """An answer in gzip, of which the last bytes beyond `whole` are missing."""
    head = f"HTTP/1.0 {status} X\r\nContent-Encoding: gzip\r\n\r\n"
    return head.encode() + gzip.compress(text.encode(), 0)[:whole]


def plain(text: str) -> bytes:
    return f"HTTP/1.0 200 X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


LONG = "up_time 1\n" * (MOST_BYTES // 9)
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "somebody else's, too large": (packed(LONG), "down"),
    "somebody else's, without end": (ENDLESS, "down"),
    "packed twice": (NESTED, "down"),
    "a web site, cut off": (packed(WEB * 9, 200), "down"),
    "JSON, cut off": (packed(json.dumps(["up"] * 99), 200), "down"),
    "a web site that lists an engine's metrics": (packed(f"<pre>\n{VLLM}", 900), "down"),
    "a proxy's refusal, cut off": (packed("busy " * 99, 200, status=503), "down"),
    "a proxy's refusal, packed twice": (NESTED.replace(b"200", b"502"), "down"),
    "an engine's, too large": (packed(VLLM + LONG), "unknown"),
    "an engine's, announced as too large": (plain(VLLM + LONG), "unknown"),
    "somebody else's, announced as too large": (plain(LONG), "down"),
    "an engine's, cut off": (packed(VLLM, 900), "unknown"),
    "cut off before the engine's first line": (packed(f"{OTHER}{VLLM}", 25), "unknown"),
}


@pytest.mark.parametrize(("page", "expected"), UNREADABLE.values(), ids=UNREADABLE)
async def test_what_cannot_be_read_is_an_engines_if_its_beginning_is(
    page: bytes, expected: str
) -> None:
    odd: dict[str, bytes] = {}
    answers: Pages = {"/metrics": (200, VLLM)}
    async with served(engine_with(odd, answers)) as url, engine(url, 30) as collector:
        assert state(await said(collector)) == "up"
        odd["/metrics"] = page
        assert state(await said(collector)) == expected
        answers["/health"] = (503, "the engine is dead")
        assert state(await said(collector)) == "down"


@pytest.mark.parametrize(
    ("page", "expected"),
    [(packed(LONG), "down"), (packed(VLLM, 12), "down"), (packed(VLLM, 900), "unknown")],
    ids=["somebody else's, too large", "nobody's, cut off", "an engine's, cut off"],
)
async def test_what_cannot_be_read_where_no_engine_was_is_none_unless_it_shows(
    page: bytes, expected: str
) -> None:
    async with served(engine_with({"/metrics": page}, {})) as url, engine(url, 30) as collector:
        assert state(await said(collector)) == expected


async def test_a_refusal_that_cannot_be_read_is_one_all_the_same() -> None:
    odd = {"/metrics": packed("no key", 20, status=401)}
    async with served(engine_with(odd, {**LISTED})) as url, engine(url) as collector:
        assert state(await said(collector)) == "refused 401"


@pytest.mark.parametrize("other", [401, 500])
async def test_an_engines_own_page_counts_more_than_what_another_path_answers(other: int) -> None:
    answers: Pages = {"/prometheus/metrics": (other, WEB)}
    async with served(engine_with({"/metrics": packed(VLLM, 900)}, answers)) as url:
        async with engine(url) as collector:
            assert state(await said(collector)) == "unknown"


ANNOUNCED = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN_OFF = {
    "hung up": b"",
    "reset": RESET,
    "reset after its head": ANNOUNCED + RESET,
    "reset in other metrics": ANNOUNCED + OTHER.encode() + RESET,
    "shorter than announced": ANNOUNCED + OTHER.encode(),
    "a chunk that is cut": CHUNKED + b"ff\r\n" + OTHER.encode(),
    "no HTTP": b"SSH-2.0-OpenSSH_9\r\n",
}
HEALTHY: Pages = {**LISTED, "/health": (200, "")}


async def after(odd: dict[str, bytes], answers: Pages, how: str) -> str:
    """The state by such answers where vLLM was before in this run, is expected, or neither."""
    now, well = dict[str, bytes](), dict(answers) | {"/metrics": (200, VLLM), "/health": (200, "")}
    async with served(engine_with(now, well)) as url:
        access = replace(EngineAccess.of(url), expected=how == "expected")
        collector = EngineCollector(access, lambda: 0.0)
        if how == "was here":
            assert state(await said(collector)) == "up"
        well.clear()
        well |= answers
        now |= odd
        samples = await said(collector)
        await collector.aclose()
    return state(samples)


@pytest.mark.parametrize("broken", BROKEN_OFF.values(), ids=BROKEN_OFF)
async def test_a_page_that_breaks_off_is_no_end_of_an_engine_that_shows_itself(
    broken: bytes,
) -> None:
    odd = {"/metrics": broken}
    for how in ("was here", "expected", "configured"):
        assert await after(odd, HEALTHY, how) == "unknown"
        assert await after(odd, {**LISTED, "/health": (503, "")}, how) == "down"
        assert await after(odd, {}, how) == "down"
    assert await after(odd, WELL, "configured") == "unknown"
    for how in ("was here", "expected"):
        assert await after(odd, WELL, how) == "down"  # every web application has such a page


@pytest.mark.parametrize("broken", BROKEN_OFF.values(), ids=BROKEN_OFF)
async def test_where_all_answers_break_off_there_is_no_engine(broken: bytes) -> None:
    """As behind a proxy of ports that takes connections for an engine which is gone."""
    odd = dict.fromkeys(("/metrics", "/prometheus/metrics", "/health", "/v1/models"), broken)
    for how in ("was here", "expected", "configured"):
        assert await after(odd, {}, how) == "down"


@pytest.mark.parametrize("broken", BROKEN_OFF.values(), ids=BROKEN_OFF)
async def test_health_that_breaks_off_is_no_end_of_an_engine_whose_metrics_are_whole(
    broken: bytes,
) -> None:
    """A proxy that lets nothing but the metrics and the API through may answer nothing at all."""
    for how in ("was here", "expected", "configured"):
        assert await after({"/health": broken}, {"/metrics": (200, VLLM)}, how) == "up"


@pytest.mark.parametrize("end", [b"", RESET])
async def test_an_engines_own_page_that_breaks_off_is_its_own_unless_it_ends_with_it(
    end: bytes,
) -> None:
    odd = {"/metrics": ANNOUNCED + VLLM[:200].encode() + end}
    for how in ("was here", "expected", "configured"):
        assert await after(odd, {"/health": (200, "")}, how) == "unknown"
        assert await after({**odd, "/health": b""}, LISTED, how) == "down"


@pytest.mark.parametrize(("page", "expected"), [(VLLM[:200], "unknown"), (OTHER[:12], "down")])
async def test_health_that_hangs_is_the_end_of_nobody_whose_page_shows_an_engine(
    page: str, expected: str
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).split()[1] == b"/health":
            await asyncio.Event().wait()
        writer.write(packed(page)[:-9])

    async with served(handle) as url:
        collector = EngineCollector(replace(EngineAccess.of(url), expected=True), lambda: 0.0, 1.0)
        assert state(await said(collector)) == expected
        await collector.aclose()


async def test_what_we_lack_while_a_page_comes_is_no_end_of_its_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("no room") from OSError(errno.ENOBUFS, "no buffer space")

    access = EngineAccess.of("http://127.0.0.1:9")
    collector = EngineCollector(access, lambda: 0.0, transport=httpx.MockTransport(answer))
    with pytest.raises(Unread, match="cannot be scraped: No buffer space"):
        await collector.collect()
    await collector.aclose()


async def test_a_cut_page_that_shows_nobody_is_an_engines_only_while_somebody_answers() -> None:
    cut = {"/metrics": packed(f"{OTHER}{VLLM}", 25)}
    assert await after(cut, {}, "expected") == "unknown"
    for end in (b"", RESET):
        assert await after({**cut, "/health": end}, LISTED, "expected") == "down"
        assert await after({**cut, "/health": end}, LISTED, "was here") == "down"


async def test_an_engine_without_a_health_page_answers_something_else_while_it_lives() -> None:
    async with served(engine_with(odd := {}, {"/metrics": (200, SGLANG)})) as url:
        async with engine(url) as collector:
            states = [state(await said(collector))]
            odd["/metrics"] = packed(SGLANG, 12)
            states.append(state(await said(collector)))
            odd["/v1/models"] = b""
            states.append(state(await said(collector)))
    assert states == ["up", "unknown", "down"]


REFUSED_LIST: Pages = {"/metrics": (401, ""), "/v1/models": (401, REFUSED)}


@pytest.mark.parametrize("before", ["this run", "an earlier run", "never"])
@pytest.mark.parametrize("cut", [SGLANG.rstrip(), ""], ids=["in a line", "before the first"])
async def test_the_health_page_of_sglang_is_never_asked(cut: str, before: str) -> None:
    """It runs a generation, and fails under load."""
    if before == "never" and not cut:
        return  # nobody's page
    odd = {"/metrics": packed(SGLANG)} if before == "this run" else {}
    answers: Pages = {"/metrics": (200, "[]"), "/health": (503, "busy")}
    async with served(engine_with(odd, answers)) as url:
        access = EngineAccess.of(url)
        original = OriginalPage(access.target)
        if before == "an earlier run":
            original.resume({Source("sglang", access.target): 1}.get)
        collector = EngineCollector(access, lambda: 0.0, original=original)
        if before == "this run":
            assert state(await said(collector)) == "up"
        odd["/metrics"] = packed(cut, 700 if cut else 12)
        samples = await said(collector)
        assert state(samples) == "unknown"
        assert value(samples, "llm_engine_info", engine_type="sglang") == 1
        if before != "never":
            odd.clear()
            answers.update(REFUSED_LIST)
            assert state(await said(collector)) == "refused 401"
        await collector.aclose()


async def test_an_engine_without_a_type_has_one_that_says_so() -> None:
    async with served(engine_with({"/metrics": packed(VLLM, 12)}, {})) as url:
        access = replace(EngineAccess.of(url), expected=True)
        collector = EngineCollector(access, lambda: 0.0)
        samples = await said(collector)
        await collector.aclose()
    assert state(samples) == "unknown"
    assert value(samples, "llm_engine_info", engine_type="openai") == 1


async def test_nothing_but_endless_answers_is_down() -> None:
    odd = dict.fromkeys(("/metrics", "/prometheus/metrics", "/health", "/v1/models"), ENDLESS)
    async with served(engine_with(odd, {})) as url, engine(url) as collector:
        assert state(await said(collector)) == "down"


async def test_too_large_a_page_is_named() -> None:
    page = "vllm:x 1\n" * (MOST_BYTES // 8)
    async with served(pages({"/metrics": (200, page), **LISTED})) as url, engine(url) as one:
        with pytest.raises(Partial, match="cannot be read: its answer is larger than 8 MiB"):
            await one.collect()


async def test_a_page_that_takes_us_too_long_is_no_silence_of_the_engine() -> None:
    line = 'vllm:x%d{a="%d",b="%d",c="%d",d="%d",e="%d",f="%d"} 1\n'  # 8 MB in all
    page = "".join(line % ((i,) * 7) for i in range(100_000))
    async with served(pages({"/metrics": (200, page)})) as url, engine(url, 0.2) as collector:
        with pytest.raises(Partial, match=r"takes more than 0\.2 s to read") as late:
            await collector.collect()
    assert value(late.value.samples, "llm_engine_info", engine_type="vllm") == 1


@pytest.mark.parametrize(
    "handler", [raw(b""), raw(HANGING), raw(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 300_000)],
    ids=["hangs up", "half a page", "headers without end"],
)  # fmt: skip
async def test_no_whole_answer_is_down(handler: Handler) -> None:
    async with served(handler) as url, engine(url, 0.5) as collector:
        assert state(await said(collector)) == "down"


async def test_health_that_fails_is_down_whatever_the_models_say() -> None:
    assert await configured({"/metrics": (401, ""), **LISTED, "/health": (503, "")}) == "down"
    assert await configured({"/metrics": (200, VLLM), "/health": (500, "")}) == "down"


class Changing:
    """An engine whose `odd` pages never answer (None) until `release`, or are cut off ("")."""

    def __init__(self) -> None:
        self.odd: dict[str, str | None] = {}
        self.release = asyncio.Event()
        self.unanswered = 0  # requests that hang
        self._answer = engine_with({}, {"/metrics": (200, VLLM), "/health": (200, "")})

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.readuntil(b"\r\n\r\n")
        path = heard.split()[1].decode()
        if self.odd.get(path) is None and path in self.odd:
            self.unanswered += 1
            gone = asyncio.create_task(reader.read())
            released = asyncio.create_task(self.release.wait())
            await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
            self.unanswered -= 1
            released.cancel()
            if gone.done():
                return
        elif path in self.odd:
            writer.write((self.odd[path] or "").encode())
            return
        again = asyncio.StreamReader()
        again.feed_data(heard)
        again.feed_eof()
        await self._answer(again, writer)


async def turns(number: int = 200) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "odd",
    [{"/health": "", "/metrics": None}, {"/metrics": "not HTTP\r\n\r\n", "/health": None}],
    ids=["health fails", "metrics fail"],
)
async def test_no_request_outlives_its_reading(odd: dict[str, str | None]) -> None:
    server = Changing()
    async with served(server.handle) as url, engine(url, 2.0) as collector:
        assert state(await said(collector)) == "up"
        before = len(asyncio.all_tasks())
        server.odd = odd
        for _ in range(2):
            assert state(await said(collector)) == "down"
        await turns()
        assert server.unanswered == 0
        assert len(asyncio.all_tasks()) <= before + 1  # the server may be about to hang up


async def test_a_page_that_came_too_late_is_not_a_later_rounds() -> None:
    server = Changing()
    async with served(server.handle) as url:
        access = EngineAccess.of(url)
        original = OriginalPage(access.target)
        collector = EngineCollector(access, lambda: 1234.0, 5.0, original=original)
        oks = []
        rounds: list[dict[str, str | None]] = [{}, {"/metrics": None}, {"/metrics": ""}]
        for server.odd in rounds:
            reading = asyncio.create_task(said(collector))
            while server.unanswered < list(server.odd.values()).count(None):
                await turns(1)
            if server.unanswered:  # the page hangs until the scrape has no time left
                reading.cancel()
            await asyncio.wait({reading})
            snapshot = original.snapshot(1_000, 0.1)
            oks.append(snapshot is not None and snapshot.ok)
            server.release.set()
            await turns()
        await collector.aclose()
    assert oks == [True, False, False]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_without_a_descriptor_of_ours_nothing_is_known_of_an_engine(host: str) -> None:
    answers: Pages = {"/metrics": (200, VLLM), "/health": (200, "")}
    async with served(pages(answers)) as url:
        async with engine(url.replace("127.0.0.1", host)) as known:
            assert state(await said(known)) == "up"
            with (
                no_descriptors(),
                pytest.raises(Unread, match="scraped: Too many open files") as failed,
            ):
                await known.collect()
            assert failed.value.samples == ()
            assert state(await said(known)) == "up"


async def test_without_a_descriptor_for_the_pages_beside_it_nothing_is_known() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path in METRICS_PATHS:
            return httpx.Response(404, content=nothing())
        raise httpx.ConnectError("all attempts failed") from OSError(errno.EMFILE, "no more")

    access = EngineAccess.of("http://127.0.0.1:1")
    collector = EngineCollector(access, lambda: 1.0, transport=httpx.MockTransport(answer))
    with pytest.raises(Unread, match="Too many open files"):
        await collector.collect()


async def test_whose_port_it_is_is_asked_though_the_loops_own_threads_are_busy() -> None:
    answers: Pages = {"/metrics": (200, VLLM), "/health": (200, "")}
    busy, loop = threading.Event(), asyncio.get_running_loop()
    waiting = [loop.run_in_executor(None, busy.wait) for _ in range(200)]
    try:
        async with served(pages(answers)) as url:
            ours = replace(EngineAccess.of(url), owners=frozenset({os.getuid()}))
            collector = EngineCollector(ours, lambda: 1234.0, 5.0)
            assert state(await said(collector)) == "up"
            await collector.aclose()
    finally:
        busy.set()
        await asyncio.gather(*waiting)
