"""The app: errors in the words of the part of the tree in which they happen."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.api_client import api_client
from support.served import served
from tocsin_alerting.api.http.envelope import HTTP_STATUS, ApiError
from tocsin_alerting.api.http.server import server
from tocsin_alerting.http import httpx
from tocsin_exporter.connections import Connections


async def _well(request: Request) -> Response:
    return PlainTextResponse("well")


async def _broken(request: Request) -> Response:
    raise RuntimeError("secret detail")


async def _refused(request: Request) -> Response:
    raise ApiError(request.query_params["type"], "because")


ROUTES = [
    Route("/api/v1/well", _well),
    Route("/api/v1/change", _well, methods=["POST"]),
    Route("/api/v1/broken", _broken),
    Route("/api/v1/refused", _refused),
    Route("/well", _well),
]


async def test_an_address_that_is_not_there() -> None:
    async with api_client(ROUTES) as client:
        answer = await client.get("/api/v1/nothing")
        assert answer.status_code == 404
        assert answer.json() == {
            "status": "error",
            "errorType": "not_found",
            "error": "not found: /api/v1/nothing",
        }
        answer = await client.get("/nothing")
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (
            404,
            "text/plain",
        )


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/well", "GET, HEAD"),
        ("POST", "/api/v1/well", "GET, HEAD"),
        ("GET", "/api/v1/change", "POST"),
        ("PUT", "/api/v1/change", "POST"),
    ],
)
async def test_a_method_that_does_nothing_there(method: str, path: str, allowed: str) -> None:
    async with api_client(ROUTES) as client:
        answer = await client.request(method, path)
        assert answer.status_code == 405
        assert {*answer.headers["allow"].split(", ")} == {*allowed.split(", ")}
        assert answer.json()["errorType"] == "method_not_allowed"
        assert answer.json()["error"] == f"{path} does not support {method}"
        assert (await client.delete("/well")).headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(("type", "status"), HTTP_STATUS.items())
async def test_each_kind_of_error_has_its_status(type: str, status: int) -> None:
    async with api_client(ROUTES) as client:
        answer = await client.get("/api/v1/refused", params={"type": type})
    assert answer.status_code == status
    assert answer.json() == {"status": "error", "errorType": type, "error": "because"}


async def test_a_fault_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with served(ROUTES) as url, httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/api/v1/broken")
    assert answer.status_code == 500
    assert answer.json()["errorType"] == "internal"
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text


async def test_the_server_does_not_say_what_it_is_made_of() -> None:
    async with served(ROUTES) as url, httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/well")
    assert answer.text == "well"
    assert "server" not in answer.headers


async def test_writes_and_people_wait_for_no_reader() -> None:
    """Hundreds of readers in each turn of the loop delayed a page by seconds."""
    begun: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(f"{scope['method']} {scope['path']}")

    reads = [("GET", "/api/v1/rules"), ("POST", "/api/v1/query"), ("GET", "/api/v1/incidents/1")]
    first = [
        ("POST", "/api/v1/write"),
        ("POST", "/api/v1/otlp/v1/metrics"),
        ("POST", "/api/v1/incidents/1/ack"),
        ("POST", "/api/v1/engines/a:1/forget"),
        ("GET", "/-/healthy"),
    ]
    served_app: Any = server(app, Connections()).config.app
    asked = [{"type": "http", "method": m, "path": p} for m, p in [*reads * 100, *first]]
    await asyncio.gather(*(served_app(scope, None, None) for scope in asked))
    assert len(begun) == len(asked)
    assert max(begun.index(f"{method} {path}") for method, path in first) < 30
