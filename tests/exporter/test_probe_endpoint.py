"""`/probe`: who may ask for what, and how long it may take."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tocsin_exporter.probe_endpoint import MOST_ASKED, ProbeEndpoint, ProbeTargets, probe_seconds
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import HttpProbe, ProbeModule, TcpProbe

CLOSED = "127.0.0.1:1"
MODULES = {
    "http_2xx": ProbeModule("http_2xx", HttpProbe(), 2),
    "hosted": ProbeModule("hosted", HttpProbe(headers={"host": "a.test"}), 2),
    "tcp": ProbeModule("tcp", TcpProbe(), 0.2, shown="prober: tcp\n"),
}


def refusal(request: Request) -> Response | None:
    return None if "x-role" in request.headers else PlainTextResponse("not you\n", 403)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    loop = ProbeLoop(time.monotonic)
    targets = ProbeTargets(MODULES, {(CLOSED, "tcp")})
    endpoint = ProbeEndpoint(loop, lambda: targets, refusal)
    app = Starlette(routes=[Route("/probe", endpoint.answer)])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://agent.test") as client:
        yield client
    loop.close(wait=5)


async def test_a_configured_target_is_for_everybody(client: httpx.AsyncClient) -> None:
    answer = await client.get("/probe", params={"target": CLOSED, "module": "tcp"})
    assert answer.status_code == 200 and "probe_success 0\n" in answer.text
    assert "# TYPE probe_success gauge\n" in answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    "query",
    [
        {"target": "127.0.0.1:2", "module": "tcp"},
        {"target": CLOSED},
        {"target": CLOSED, "module": "tcp", "debug": "true"},
        {"target": CLOSED, "module": "tcp", "hostname": "b.test"},
    ],
)
async def test_all_else_takes_a_role(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert (await client.get("/probe", params=query)).status_code == 403
    answer = await client.get("/probe", params=query, headers={"x-role": "respond"})
    assert answer.status_code == 200
    for header in ({"origin": "http://evil.test"}, {"sec-fetch-site": "cross-site"},
                   {"sec-fetch-site": "same-site"}):  # fmt: skip
        answer = await client.get("/probe", params=query, headers={"x-role": "r", **header})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"target": CLOSED, "module": "nope"}, 400, 'Unknown module "nope"'),
        ({"module": "tcp"}, 400, "Target parameter is missing"),
        ({"target": "a\nb", "module": "tcp"}, 400, "Target is too long"),
        ({"target": "a", "module": "hosted", "hostname": "b.test"}, 400, "another"),
    ],
)
async def test_what_is_wrong_is_said(
    client: httpx.AsyncClient, query: dict[str, str], status: int, words: str
) -> None:
    answer = await client.get("/probe", params=query, headers={"x-role": "respond"})
    assert answer.status_code == status and words in answer.text


@pytest.mark.parametrize("seconds", ["soon", "-1", "nan", "inf"])
async def test_a_timeout_that_is_none_is_500(client: httpx.AsyncClient, seconds: str) -> None:
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": seconds}
    query = {"target": CLOSED, "module": "tcp"}
    assert (await client.get("/probe", params=query, headers=headers)).status_code == 500


async def test_debug_has_log_metrics_and_module(client: httpx.AsyncClient) -> None:
    query = {"target": CLOSED, "module": "tcp", "debug": "true"}
    text = (await client.get("/probe", params=query, headers={"x-role": "respond"})).text
    assert "connection refused" in text and "probe_success 0" in text
    assert text.endswith("Module configuration:\nprober: tcp\n")


async def test_too_many_at_once_are_503(client: httpx.AsyncClient) -> None:
    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    query = {"target": f"http://127.0.0.1:{port}/"}
    headers = {"x-role": "r", "X-Prometheus-Scrape-Timeout-Seconds": "0.9"}
    asked = [client.get("/probe", params=query, headers=headers) for _ in range(MOST_ASKED + 3)]
    told = [answer.status_code for answer in await asyncio.gather(*asked)]
    server.close()
    assert sorted(told) == [200] * MOST_ASKED + [503] * 3


@pytest.mark.parametrize(
    ("asker", "own", "seconds"),
    [(10, 5, 5), (10, 0, 9.5), (0, 0, 119.5), (0, 5, 5), (5, 20, 4.5), (0.3, 5, 5), (0.3, 0, 0.5)],
)
def test_the_time_of_a_probe(asker: float, own: float, seconds: float) -> None:
    assert probe_seconds(asker, own) == seconds
