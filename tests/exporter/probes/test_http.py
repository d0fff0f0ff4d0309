"""HTTP probes where blackbox_exporter is no guide: hostile servers, credentials, our own lacks."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import re2

from tocsin_exporter.probes.addresses import Resolver
from tocsin_exporter.probes.findings import ProbeFailed
from tocsin_exporter.probes.http_body import MOST_KEPT, CountedBody
from tocsin_exporter.probes.modules import HttpProbe, ProbeLogin, ProbeModule
from tocsin_exporter.probes.prober import ProbeResult, run_probe


@asynccontextmanager
async def serving(answer: bytes, seen: list[bytes]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            if not answer:
                await reader.read()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def probed(url: str, probe: HttpProbe, seconds: float = 5) -> ProbeResult:
    return await run_probe(url, ProbeModule("m", probe), seconds, Resolver(), time.monotonic)


def value(result: ProbeResult, name: str) -> float:
    (found,) = (s.value for s in result.samples if s.family.name == name)
    return found


async def test_one_that_hangs_ends_with_what_was_found() -> None:
    async with serving(b"", []) as port:
        result = await probed(f"http://127.0.0.1:{port}/", HttpProbe(), 0.2)
    assert not result.success and value(result, "probe_ip_protocol") == 4
    assert 0.2 <= value(result, "probe_duration_seconds") < 2
    assert "no result within 0.2 s" in result.lines[-1]


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_bomb_that_is_only_counted_takes_no_memory_and_one_that_is_matched_fails() -> None:
    bomb = gzip.compress(bytes(MOST_KEPT + 1))
    body = CountedBody(HttpProbe(compression="gzip"), keep=False)
    await body.read(pieces(bomb[:9], bomb[9:]))
    assert body.count == MOST_KEPT + 1 and not body.kept
    body = CountedBody(HttpProbe(compression="gzip"), keep=True)
    with pytest.raises(ProbeFailed, match="larger than 16 MiB"):
        await body.read(pieces(bomb))


async def test_a_packed_body_that_is_cut_off_fails() -> None:
    packed = gzip.compress(b"it is well")
    with pytest.raises(ProbeFailed, match="not whole"):
        await CountedBody(HttpProbe(compression="gzip"), keep=False).read(pieces(packed[:-4]))


async def test_credentials_stay_with_their_host() -> None:
    login = ProbeLogin("Bearer", secret="hunter2")
    seen: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen) as port:
        location = f"http://localhost:{port}/there"
        answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        async with serving(answer.encode(), seen) as first:
            result = await probed(f"http://127.0.0.1:{first}/", HttpProbe(login=login))
    assert result.success
    assert b"Bearer hunter2" in seen[0] and b"hunter2" not in seen[1]
    assert f"host: localhost:{port}".encode() in seen[1].lower()
    assert "hunter2" not in repr(login) + "".join(result.lines)


async def test_the_user_of_a_url_is_sent_and_not_shown_to_others() -> None:
    seen: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen) as port:
        await probed(f"http://u:p@127.0.0.1:{port}/", HttpProbe())
    assert b"authorization: basic dtpw" in seen[0].lower()


async def test_words_of_a_server_are_cut_in_the_log() -> None:
    location = "http://127.0.0.1:1/" + "a\x07" * 2000
    answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer.encode(), []) as port:
        result = await probed(f"http://127.0.0.1:{port}/", HttpProbe())
    assert max(map(len, result.lines)) <= 500 and all(map(str.isprintable, result.lines))


async def test_a_body_file_is_sent(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("body") / "body"
    file.write_text("all is well")
    seen: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen) as port:
        sent = HttpProbe(method="POST", body_file=file)
        assert (await probed(f"http://127.0.0.1:{port}/", sent)).success
        missing = HttpProbe(body_file=file.with_name("none"))
        result = await probed(f"http://127.0.0.1:{port}/", missing)
    assert b"content-length: 11" in seen[0].lower()
    assert not result.success and "cannot read" in result.lines[-1]


async def test_a_header_from_a_file_is_read_at_each_probe(tmp_path: Path) -> None:
    file, seen = tmp_path / "key", list[bytes]()
    probe = HttpProbe(header_files=(("X-Key", file),))
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen) as port:
        for key in ("one", "two"):
            file.write_text(f"{key}\n")
            assert (await probed(f"http://127.0.0.1:{port}/", probe)).success
    assert [b"x-key: one\r\n" in seen[0].lower(), b"x-key: two\r\n" in seen[1].lower()] == [1, 1]


@pytest.mark.parametrize(
    "target",
    ["xn--", "http://[", "http://a:b", "http://", "a" * 300, "x yxn--", "%00", "http://:80"],
)
async def test_what_is_no_url_is_said_in_words(target: str) -> None:
    result = await probed(target, HttpProbe())
    assert not result.success
    assert result.why.startswith(("target is ", "probe ")) or "has no address" in result.why


async def test_a_redirect_to_what_is_no_url_is_said_in_words() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://a:b/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer, []) as port:
        result = await probed(f"http://127.0.0.1:{port}/", HttpProbe())
    assert result.why == "Location is no URL: http://a:b/"


async def test_a_slow_expression_costs_no_other() -> None:
    """RE2 takes time in proportion to the body, whatever the expression."""
    text = b"a" * 100_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + text
    async with serving(answer, []) as port:
        probe = HttpProbe(fail_if_body_matches=(re2.compile("(a*)*b"),))
        result = await probed(f"http://127.0.0.1:{port}/", probe)
    assert result.success and value(result, "probe_duration_seconds") < 2


async def test_secrets_of_the_first_host_are_told_to_no_other() -> None:
    seen: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen) as other:
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://localhost:{other}/\r\n"
        async with serving(f"{moved}Content-Length: 0\r\n\r\n".encode(), seen) as port:
            headers = {"X-Api-Key": "s1", "X-Own": "s2", "X-Plain": "kept"}
            probe = HttpProbe(headers=headers, secret_headers=frozenset({"x-own"}))
            result = await probed(f"http://127.0.0.1:{port}/", probe)
    assert result.success and all(text in seen[0] for text in (b"s1", b"s2", b"kept"))
    assert b"kept" in seen[1] and b"s1" not in seen[1] and b"s2" not in seen[1]


async def test_a_time_that_is_none_fails_no_service() -> None:
    modified = "Last-Modified: Mon, 01 Jan 2020 00:00:00 +" + "9" * 4000
    answer = f"HTTP/1.1 200 OK\r\n{modified}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serving(answer, []) as port:
        result = await probed(f"http://127.0.0.1:{port}/", HttpProbe())
    assert result.success, result.why


@pytest.mark.parametrize(
    ("coding", "parts"),
    [("gzip", [gzip.compress(bytes(32 << 20))]), ("", [b"x"] * 512), ("br", [b"x"] * 512)],
    ids=["bomb", "chunks of a byte", "packed chunks"],
)
async def test_a_body_leaves_turns_to_other_probes(coding: str, parts: list[bytes]) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    going = asyncio.create_task(other())
    with suppress(ProbeFailed):
        await CountedBody(HttpProbe(compression=coding), keep=False).read(pieces(*parts))
    going.cancel()
    assert turns > 16
