"""How an engine is reached: real servers that redirect, ask for keys, or speak TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from support.webhook_sink import Answer, WebhookSink
from tocsin_exporter.engine_access import BasicAuth, EngineAccess, EngineClient, Tls, place

OK = Answer(body=b"well")


@asynccontextmanager
async def client(access: EngineAccess) -> AsyncIterator[EngineClient]:
    asking = EngineClient(access)
    try:
        yield asking
    finally:
        await asking.aclose()


async def asked(access: EngineAccess, path: str = "/metrics") -> tuple[int, str]:
    async with client(access) as asking:
        reply = await asking.get(path, access.params)
    return reply.status, reply.text


def to(location: str, status: int = 307) -> Answer:
    return Answer(status, {"Location": location})


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("localhost:8000/a", "127.0.0.1:8000/a"),
        ("LocalHost.:8000", "127.0.0.1:8000"),
        ("127.1:8000", "127.0.0.1:8000"),
        ("0x7f000001:8000", "127.0.0.1:8000"),
        ("127.9.9.9:8000", "127.0.0.1:8000"),
        ("0.0.0.0:8000", "127.0.0.1:8000"),
        ("[::1]:8000/%61", "127.0.0.1:8000/a"),
        ("[0:0::1]:8000", "127.0.0.1:8000"),
        ("[::ffff:10.0.0.1]:8000", "10.0.0.1:8000"),
        ("10.1:8000", "10.0.0.1:8000"),
        ("[FE80::0:1]:8000", "fe80::1:8000"),
        ("[fe80::1%25eth0]:8000", "fe80::1%eth0:8000"),
        ("[fe80::1%eth0]:8000", "fe80::1%eth0:8000"),
        ("[fe80::1%25]:8000", "fe80::1%25:8000"),
        ("[::1%lo]:8000", "127.0.0.1:8000"),
        ("gpu7.lab.:8000", "gpu7.lab:8000"),
        ("localhost.lab:8000", "localhost.lab:8000"),
        ("a\0b:1", "a\0b:1"),
        ("nonsense", ":nonsense"),
    ],
)
def test_a_place_is_one_however_its_host_is_written(target: str, where: str) -> None:
    assert place(target) == where


@pytest.mark.parametrize(
    ("url", "plain", "target"),
    [
        ("http://h:8000", "http://h:8000", "h:8000"),
        ("http://H:8000/", "http://h:8000", "h:8000"),
        ("http://h", "http://h", "h:80"),
        ("https://h/", "https://h", "h:443"),
        ("http://h:8000/a/", "http://h:8000/a", "h:8000/a"),
        ("http://h:8000/a/metrics", "http://h:8000/a", "h:8000/a"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
        ("http://[fe80::1%25eth0]:8000", "http://[fe80::1%eth0]:8000", "[fe80::1%eth0]:8000"),
        ("http://[FE80::1%Eth0]:8000", "http://[fe80::1%Eth0]:8000", "[fe80::1%Eth0]:8000"),
        ("http://mon:s%40crt@h:8000?token=s%40crt", "http://h:8000", "h:8000"),
    ],
)
def test_the_target_is_host_port_and_path(url: str, plain: str, target: str) -> None:
    access = EngineAccess.of(url)
    assert (access.url, access.target) == (plain, target)
    assert "crt" not in repr(access) + repr(access.basic_auth)


@pytest.mark.parametrize("zone", ["%25lo", "%lo", f"%25{socket.if_nametoindex('lo')}"])
async def test_an_address_with_a_zone_is_reached_and_the_zone_stays_here(zone: str) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    try:
        server = await asyncio.start_server(answer, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    async with server:
        port = server.sockets[0].getsockname()[1]
        said = await asked(EngineAccess.of(f"http://[::1{zone}]:{port}"))
    assert said == (200, "ok")
    assert f"Host: [::1]:{port}\r\n".encode() in heads[0]


async def test_a_redirect_to_the_host_without_its_zone_is_followed_with_it() -> None:
    """Who makes a whole URL of the Host that it was asked for has never heard of the zone."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /metrics/ "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell")
        else:
            there = f"http://[::1]:{port}/metrics/".encode()
            writer.write(b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % there)
        writer.close()

    try:
        server = await asyncio.start_server(answer, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await asked(EngineAccess.of(f"http://[::1%25lo]:{port}")) == (200, "well")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_on_the_same_host_is_followed(status: int) -> None:
    async with WebhookSink(to("/metrics/", status), usual=OK) as sink:
        assert await asked(EngineAccess.of(f"http://127.0.0.1:{sink.port}?a=b")) == (200, "well")
    assert [request.path for request in sink.requests] == ["/metrics?a=b", "/metrics/?a=b"]


async def test_a_redirect_that_names_this_host_otherwise_is_followed() -> None:
    async with WebhookSink(usual=OK) as sink:
        sink.answers.append(to(f"http://localhost:{sink.port}/metrics/"))
        assert await asked(EngineAccess.of(f"http://127.0.0.1:{sink.port}")) == (200, "well")


async def test_a_redirect_away_is_not_followed_and_takes_no_key_along(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    async with WebhookSink(usual=OK) as other, WebhookSink(usual=to("/")) as sink:
        access = EngineAccess.of(f"http://127.0.0.1:{sink.port}")
        access = replace(access, bearer_token_file=tmp_path / "key")
        away = (f"127.0.0.1:{other.port}/", "example.com/", f"example.com:{sink.port}/x", "[")
        for place in away:
            sink.answers.append(to(f"http://{place}"))
            assert (await asked(access))[0] == 307
        assert len(sink.requests) == len(away)
        assert (await asked(access))[0] == 307  # for ever to itself
        assert len(sink.requests) < 14
    assert other.requests == []


async def test_keys_headers_and_parameters_are_sent(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    async with WebhookSink(usual=OK) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        access = replace(
            EngineAccess.of(url + "?token=t"),
            headers={"X-Team": "ml"},
            params=(("model", "a b"),),
            bearer_token_file=tmp_path / "key",
        )
        await asked(access)
        login = BasicAuth("mon", tmp_path / "key")
        await asked(replace(EngineAccess.of(url), basic_auth=login))
        await asked(EngineAccess.of(url.replace("http://", "http://mon:s3cret@")))
    assert sink.requests[0].path == "/metrics?token=t&model=a+b"
    sent = [request.headers.get("authorization") for request in sink.requests]
    assert sent == ["Bearer s3cret", "Basic bW9uOnMzY3JldA==", "Basic bW9uOnMzY3JldA=="]
    assert sink.requests[0].headers["x-team"] == "ml"


async def test_a_key_that_changed_is_read_again_when_the_old_one_is_refused(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    key.write_text("old")
    async with WebhookSink(OK, Answer(401), usual=OK) as sink:
        access = EngineAccess.of(f"http://127.0.0.1:{sink.port}")
        async with client(replace(access, bearer_token_file=key)) as asking:
            await asking.get("/metrics")
            key.write_text("new")
            await asking.get("/metrics")
            await asking.get("/metrics")
            key.unlink()
            sink.answers.append(Answer(403))
            await asking.get("/metrics")
            assert (await asking.get("/metrics")).ok  # without a key: no outage of the engine
    sent = [request.headers.get("authorization") for request in sink.requests]
    assert sent == ["Bearer old", "Bearer old", "Bearer new", "Bearer new", None]


async def test_tls_is_verified_by_the_authority_that_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("engine.example").configure_cert(server)
    async with WebhookSink(usual=OK, tls=server) as sink:
        access = EngineAccess.of(f"https://127.0.0.1:{sink.port}")
        named = Tls(ca_file=tmp_path / "ca.pem", server_name="engine.example")
        assert await asked(replace(access, tls=named)) == (200, "well")
        assert await asked(replace(access, tls=Tls(insecure_skip_verify=True))) == (200, "well")
        for wrong in (Tls(), replace(named, server_name="")):
            with pytest.raises(Exception, match="(?i)certificate"):
                await asked(replace(access, tls=wrong))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda at: {"bearer_token_file": at / "gone"}, "gone: No such file"),
        (lambda at: {"bearer_token_file": at / "empty"}, "must hold the secret"),
        (lambda at: {"basic_auth": BasicAuth("u", at / "gone")}, "gone: No such file"),
        (lambda at: {"tls": Tls(ca_file=at / "empty")}, "cannot use .*empty"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, broken: Callable[[Path], dict[str, object]], said: str
) -> None:
    (tmp_path / "empty").write_text("")
    access = replace(EngineAccess.of("https://h"), **broken(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        access.check()
