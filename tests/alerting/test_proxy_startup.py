"""`tocsin proxy` as a process: it listens, measures, logs, and ends what is under way."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx2
import pytest
import trustme

from support.proxied import Engine, EngineRequest, chunked
from tocsin_alerting.listeners import CannotStart, WrongUsage, bind_all, check_address
from tocsin_alerting.proxy_startup import checked
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.web_config import LiveWebConfig

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [
    b'data: {"model": "smol", "choices": [{"delta": {"content": "%d"}}]}\n\n' % n for n in range(3)
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def running(
    arguments: Sequence[str], url: str, context: ssl.SSLContext | bool = True
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx2.AsyncClient]]:
    program = "from tocsin_alerting.cli.tocsin import main; main()"
    command = (sys.executable, "-c", program, "proxy", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with httpx2.AsyncClient(base_url=url, verify=context, timeout=30) as client:
            async with asyncio.timeout(60):
                while not await answers(client):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def answers(client: httpx2.AsyncClient) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return bool((await client.get("/health")).status_code)
    return False


async def test_the_process_measures_logs_and_drains(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        if request.path == "/health":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        wire = chunked(EVENTS)
        writer.write(HEAD + wire[:60])
        await go.wait()
        writer.write(wire[60:])

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    web = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
    (tmp_path / "web.yml").write_text(web)
    (tmp_path / "proxy.yml").write_text(
        f"access_log: {{file: {tmp_path}/access.log}}\nlimits: {{drain: 5s}}\n"
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    engine = Engine(answer)
    upstream = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    port, pages = free_port(), free_port()
    arguments = (
        f"--upstream=http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}",
        f"--listen=127.0.0.1:{port}",
        f"--metrics.listen=127.0.0.1:{pages}",
        f"--config.file={tmp_path}/proxy.yml",
        f"--web.config.file={tmp_path}/web.yml",
        "--log.level=warn",
        "--log.format=json",
    )
    async with running(arguments, f"https://127.0.0.1:{port}", context) as (process, client):
        async with client.stream("POST", "/v1/completions", json={"prompt": "secret"}) as stream:
            page, counted = "", 'tocsin_proxy_requests_total{client="-",code="200"'
            async with httpx2.AsyncClient(timeout=30) as other, asyncio.timeout(60):
                while counted not in page:
                    page = (await other.get(f"http://127.0.0.1:{pages}/metrics")).text
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)  # what drains is seen to, and not ended
            go.set()
            assert b"".join([piece async for piece in stream.aiter_raw()]) == b"".join(EVENTS)
        await client.aclose()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    upstream.close()
    assert 'llm_num_requests_running{engine="proxy"' in page
    text = (tmp_path / "access.log").read_text()
    line = json.loads(text.splitlines()[-1])
    assert (line["path"], line["status"], line["generation_tokens"]) == (
        "/v1/completions",
        "success",
        3,
    )
    assert "secret" not in text


@pytest.mark.parametrize(
    ("upstream", "file", "words"),
    [
        (None, None, "give its URL: --upstream"),
        ("ftp://a", None, "--upstream: not a URL like"),
        ("http://a", Path("/none.yml"), "/none.yml:1:1: cannot read"),
    ],
)
def test_what_cannot_start_says_why(upstream: str | None, file: Path | None, words: str) -> None:
    with pytest.raises((CannotStart, InvalidDocument)) as raised:
        checked(upstream, file, LiveWebConfig())
    assert words in str(raised.value)


def test_an_address_that_is_none_is_named_by_its_flag() -> None:
    check_address(":4913", "--listen")
    with pytest.raises(WrongUsage, match="--metrics.listen: 'nowhere' is not HOST:PORT"):
        check_address("nowhere", "--metrics.listen")


def test_an_address_that_is_taken_is_named_by_its_flag() -> None:
    flags = ["--listen", "--metrics.listen"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(CannotStart, match="choose another with --metrics.listen"):
            bind_all(["127.0.0.1:0", taken], flags)
    free = f"127.0.0.1:{free_port()}"
    with pytest.raises(CannotStart, match="another flag has port .*another with --metrics.listen"):
        bind_all([free, free], flags)
