"""Bodies of answers: whatever comes, a bound on bytes before and after unpacking, and on pieces."""

import ast
import asyncio
import errno
import gzip
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import pytest

from support.broken_server import broken_server
from tocsin_exporter.http import (
    BadAnswer,
    TooLarge,
    error_text,
    httpx,
    looking_up,
    own_shortage,
    read_text,
    read_text_now,
)
from tocsin_exporter.lookup import Lookup

ROOT = Path(__file__).parents[2]
MOST = 1 << 20


async def pieces(given: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def answer(given: Iterable[bytes], **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, headers=named, content=pieces(given))


def endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


async def lag(work: Callable[[], object]) -> float:
    """The longest time in seconds for which the loop did not get a turn during `work`."""
    longest, done = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not done.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        result = work()
        if asyncio.iscoroutine(result):
            await result
    finally:
        done.set()
        await watcher
    return longest


@pytest.mark.parametrize(
    "way", ["", "identity", "gzip", "x-gzip", "deflate", "GZIP", "identity, gzip"]
)
async def test_a_body_is_read_as_it_is_packed(way: str) -> None:
    text = "grüße\n" * 50_000
    pack: Callable[[bytes], bytes] = gzip.compress
    if way in ("", "identity", "deflate"):
        pack = zlib.compress if way == "deflate" else bytes
    packed = pack(text.encode())
    split = [packed[at : at + 1000] for at in range(0, len(packed), 1000)]
    assert await read_text(answer(split, content_encoding=way), MOST) == text


async def test_what_is_no_utf8_is_replaced_across_pieces_too() -> None:
    assert await read_text(answer([b"a\xc3", b"\xa4\xff", b"\xe2\x82"]), MOST) == "aä\ufffd\ufffd"


@pytest.mark.parametrize(
    ("given", "headers"),
    [
        (endless(b"x" * 1000), {}),
        (endless(b"x"), {}),
        ([gzip.compress(b"x" * (MOST + 1))], {"content_encoding": "gzip"}),
        ([], {"content_length": str(MOST + 1)}),
        ([], {"content_length": "9" * 5000}),
    ],
)
async def test_a_body_without_end_is_refused(
    given: Iterable[bytes], headers: dict[str, str]
) -> None:
    with pytest.raises(TooLarge):
        await read_text(answer(given, **headers), MOST)


@pytest.mark.parametrize("way", ["gzip, gzip", "gzip,gzip,gzip", "br", "zstd", "deflate, gzip"])
async def test_what_is_packed_twice_or_in_another_way_is_refused(way: str) -> None:
    body = gzip.compress(gzip.compress(gzip.compress(b"a 1\n")))
    with pytest.raises(BadAnswer, match="did not ask for"):
        await read_text(answer([body], content_encoding=way), MOST)


@pytest.mark.parametrize(("way", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_what_ends_too_early_is_refused(
    way: str, pack: Callable[[bytes], bytes], step: int
) -> None:
    packed = pack(b"requests_total 123456\n")
    for end in (1, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        given = [packed[at : min(at + step, end)] for at in range(0, end, step)]
        with pytest.raises(BadAnswer, match="ends too early"):
            await read_text(answer(given, content_encoding=way), MOST)
        late = httpx.Response(200, headers={"content-encoding": way}, content=iter(given))
        with pytest.raises(BadAnswer, match="ends too early"):
            read_text_now(late, MOST, 9.0, lambda: 0.0)


@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_several_streams_of_gzip_are_one_body(step: int) -> None:
    packed = b"".join(gzip.compress(part) for part in (b"a 1\n", b"", b"b 2\n"))
    for rest in (b"", b"\0\0\0", b"\x1f", b"\x1fx"):
        whole = packed + rest
        given = [whole[at : at + step] for at in range(0, len(whole), step)]
        assert await read_text(answer(given, content_encoding="gzip"), MOST) == "a 1\nb 2\n"
    with pytest.raises(BadAnswer, match="ends too early"):
        await read_text(answer([packed[:-1]], content_encoding="gzip"), MOST)


async def test_streams_of_gzip_without_end_are_refused() -> None:
    with pytest.raises(TooLarge, match="too many pieces"):
        await read_text(answer([gzip.compress(b"") * 50_000], content_encoding="gzip"), MOST)


async def test_a_body_of_nothing_is_nothing_however_it_is_packed() -> None:
    assert await read_text(answer([], content_encoding="gzip"), MOST) == ""


async def test_what_is_not_packed_as_it_says_is_refused() -> None:
    with pytest.raises(BadAnswer, match="not packed as it says"):
        await read_text(answer([b"a 1\n"], content_encoding="gzip"), MOST)


async def test_the_beginning_is_enough_for_who_wants_no_more() -> None:
    assert await read_text(answer(endless(b"ab")), 5, cut=True) == "ababa"
    bomb = gzip.compress(b"x" * (64 << 20))
    assert await read_text(answer([bomb], content_encoding="gzip"), 9, cut=True) == "x" * 9


async def test_a_bomb_and_a_million_pieces_leave_the_loop_to_others() -> None:
    bomb = gzip.compress(b"x" * (64 << 20))

    async def read(given: Iterable[bytes], **headers: str) -> None:
        with pytest.raises(TooLarge):
            await read_text(answer(given, **headers), 8 << 20)

    assert await lag(lambda: read([bomb], content_encoding="gzip")) < 0.25
    assert await lag(lambda: read(endless(b"\xff"))) < 0.25
    assert await lag(lambda: read([b"\xff" * (9 << 20)])) < 0.25


async def test_a_real_server_that_sends_byte_by_byte_leaves_the_loop_to_others() -> None:
    async def bytewise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n" * 5000)
            await writer.drain()

    async def read(port: int) -> None:
        async with httpx.AsyncClient(timeout=None) as client:
            with pytest.raises(TooLarge):
                async with client.stream("GET", f"http://127.0.0.1:{port}/") as response:
                    await read_text(response, MOST)

    async with broken_server(bytewise) as port:
        assert await lag(lambda: read(port)) < 0.5


def test_who_waits_for_nothing_else_is_bound_as_well() -> None:
    ticks = iter(range(1000))
    late = httpx.Response(200, content=iter([b"x"] * 100))
    with pytest.raises(TimeoutError, match="has not ended after 9 s"):
        read_text_now(late, MOST, 9.0, lambda: float(next(ticks)))
    with pytest.raises(TooLarge):
        read_text_now(httpx.Response(200, content=endless(b"x" * 1000)), MOST, 9.0, lambda: 0.0)
    whole = httpx.Response(200, content=iter([b"a", b"b"]))
    assert read_text_now(whole, MOST, 9.0, lambda: 0.0) == "ab"


def caused(error: Exception, by: BaseException) -> Exception:
    error.__cause__ = by
    return error


FULL, GONE = OSError(errno.EMFILE, "x"), ConnectionRefusedError(errno.ECONNREFUSED, "x")
EITHER = [ExceptionGroup("either", [FULL, FULL]), ExceptionGroup("either", [FULL, GONE])]


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (MemoryError(), "MemoryError"),
        (caused(httpx.ConnectError("all failed"), caused(OSError("all"), FULL)), "open files"),
        (caused(httpx.ConnectError("all failed"), caused(OSError("all"), EITHER[0])), "open files"),
        (caused(httpx.ConnectError("all failed"), caused(OSError("all"), EITHER[1])), None),
        (caused(httpx.ConnectError("all failed"), GONE), None),
        (caused(httpx.ConnectError("x"), socket.gaierror(socket.EAI_MEMORY, "no memory")), "no m"),
        (caused(httpx.ConnectError("x"), socket.gaierror(socket.EAI_NONAME, "unknown")), None),
        (OSError(errno.EBUSY, "a.example cannot be looked up: why"), "looked up: why"),
        (httpx.ReadError("x"), None),
        (TimeoutError(), None),
    ],
)
def test_what_we_lack_is_told_from_what_others_did(error: Exception, lack: str | None) -> None:
    said = own_shortage(error)
    assert lack in said if lack else said == ""


READERS = ("exporter/tocsin_exporter/http.py",)
BODY = {"aread", "aiter_raw", "aiter_bytes", "aiter_text", "aiter_lines", "iter_raw", "iter_bytes",
        "iter_text", "iter_lines"}  # fmt: skip
VERBS = {"get", "post", "put", "patch", "delete", "head", "options", "request"}
OTHER_CLIENTS = {"urllib.request", "http.client", "requests", "aiohttp", "httpx", "urllib3"}


def product() -> Iterator[tuple[str, ast.Module]]:
    for top in ("exporter", "alerting", "inference"):
        for file in sorted((ROOT / top).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text())


def _imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _named(tree: ast.Module) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _reads_a_whole_answer(node: ast.AST) -> bool:
    """`client.get(...)`, `self._client.post(...)`, or `.send(...)` without `stream=True`: whatever
    the body is, the client reads all of it."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    receiver = ast.unparse(node.func.value).rpartition(".")[2].lstrip("_")
    if not receiver.endswith("client"):
        return receiver == "httpx" and node.func.attr in VERBS | {"stream"}
    streams = any(one.arg == "stream" for one in node.keywords)
    return node.func.attr in VERBS or (node.func.attr == "send" and not streams)


def test_no_other_place_reads_the_body_of_an_answer() -> None:
    """Each client of the product streams, and what it streams is read by one helper."""
    wrong: list[str] = []
    clients: set[str] = set()
    for name, tree in product():
        imported = _imported(tree)
        if "httpx2" in imported:
            clients.add(name)
        wrong += [f"{name}: imports {one}" for one in imported & OTHER_CLIENTS]
        if name in READERS:
            continue
        has_client = bool({"httpx.AsyncClient", "httpx.Client"} & _named(tree))
        wrong += [
            f"{name}:{node.lineno}: {ast.unparse(node)[:60]}"
            for node in ast.walk(tree)
            if (has_client and isinstance(node, ast.expr) and _reads_a_whole_answer(node))
            or (isinstance(node, ast.Attribute) and node.attr in BODY)
        ]
    assert wrong == []
    assert clients == set(READERS)


@pytest.mark.parametrize(
    "code",
    [
        "client.get(url)",
        "self._client.post(u)",
        "client.send(r)",
        "httpx.get(u)",
        "http_client.request(u)",
    ],
)
def test_what_would_read_a_whole_answer_is_seen(code: str) -> None:
    assert any(_reads_a_whole_answer(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize("code", ["client.stream(m, u)", "client.send(r, stream=True)", "d.get(1)"])
def test_what_streams_is_not(code: str) -> None:
    assert not any(_reads_a_whole_answer(node) for node in ast.walk(ast.parse(code)))


async def test_a_refused_connection_is_called_so_by_every_way_to_it(unused_tcp_port: int) -> None:
    errors = list[BaseException]()
    with pytest.raises(OSError) as ours:
        await Lookup("test").connect("127.0.0.1", unused_tcp_port)
    async with looking_up(httpx.AsyncClient(trust_env=False), Lookup("test")) as client:
        with pytest.raises(httpx.ConnectError) as asynchronous:
            await client.get(f"http://127.0.0.1:{unused_tcp_port}/")
    with pytest.raises(httpx.ConnectError) as blocking:
        httpx.get(f"http://127.0.0.1:{unused_tcp_port}/", trust_env=False)
    errors += [ours.value, asynchronous.value, blocking.value]
    assert [error_text(error) for error in errors] == ["connection refused"] * 3


def test_what_the_system_says_comes_without_its_number_and_the_rest_as_it_is() -> None:
    call = "Connect call failed ('10.0.0.9', 1)"
    texts = {
        OSError(errno.EHOSTUNREACH, call): "no route to host",
        OSError(errno.ETIMEDOUT, call): "connection timed out",
        OSError(errno.ENOENT, "No such file or directory", "/s"): "no such file or directory: '/s'",
        socket.gaierror(
            socket.EAI_NONAME, "Name or service not known"
        ): "name or service not known",
        OSError("no address answers"): "no address answers",
        httpx.ReadError(""): "ReadError",
    }
    assert {error: error_text(error) for error in texts} == texts
