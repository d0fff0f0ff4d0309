"""Who may read from another page, and what other methods are told."""

import asyncio
import gzip

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.api_client import api_client
from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.get_route import SHARED_SECONDS, get_route

ORIGIN = {"origin": "https://page.example"}


async def _fine(request: Request) -> Response:
    return PlainTextResponse("fine")


async def _refused(request: Request) -> Response:
    raise ApiError("bad_data", "no")


async def _closed(request: Request) -> Response:
    return PlainTextResponse("for our own pages")


async def _long(request: Request) -> Response:
    return PlainTextResponse("long " * 1000)


ROUTES = [
    get_route("/api/v1/long", _long),
    get_route("/api/v1/open", _fine, any_origin=True),
    get_route("/api/v1/form", _fine, "POST"),
    get_route("/api/v1/refused", _refused, any_origin=True),
    get_route("/api/v1/settings", _closed),
    Route("/api/v1/closed", _closed),
]


@pytest.mark.parametrize(("path", "status"), [("open", 200), ("refused", 400)])
async def test_any_page_may_read_samples_and_errors(path: str, status: int) -> None:
    async with api_client(ROUTES) as client:
        answer = await client.get(f"/api/v1/{path}", headers=ORIGIN)
        own = await client.get(f"/api/v1/{path}")
    assert (answer.status_code, own.status_code) == (status, status)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in own.headers
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", ["closed", "settings"])
async def test_what_is_not_public_is_closed_to_other_pages(path: str) -> None:
    async with api_client(ROUTES) as client:
        answer = await client.get(f"/api/v1/{path}", headers=ORIGIN)
        asked = await client.options(f"/api/v1/{path}", headers=ORIGIN)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize(
    ("path", "allowed"), [("open", "GET, OPTIONS"), ("form", "GET, OPTIONS, POST")]
)
async def test_other_methods_are_told_what_there_is(path: str, allowed: str) -> None:
    async with api_client(ROUTES) as client:
        answer = await client.put(f"/api/v1/{path}")
        head = await client.head(f"/api/v1/{path}")
        options = await client.options(f"/api/v1/{path}")
    assert (answer.status_code, head.status_code, options.status_code) == (405, 405, 204)
    assert answer.headers["allow"] == head.headers["allow"] == allowed
    assert answer.json() == {
        "status": "error",
        "errorType": "method_not_allowed",
        "error": f"/api/v1/{path} does not support PUT; use {allowed}",
    }


@pytest.mark.parametrize(
    ("path", "accepted", "coding"),
    [
        ("long", "gzip", "gzip"),
        ("long", "deflate, gzip;q=0.5", "gzip"),
        ("long", "gzip;q=0", None),
        ("long", "identity", None),
        ("open", "gzip", None),
    ],
)
async def test_what_is_worth_it_is_compressed_for_who_takes_it(
    path: str, accepted: str, coding: str | None
) -> None:
    async with api_client(ROUTES) as client:
        headers = {"accept-encoding": accepted}
        async with client.stream("GET", f"/api/v1/{path}", headers=headers) as answer:
            raw = b"".join([piece async for piece in answer.aiter_raw()])
        whole = (await client.get(f"/api/v1/{path}", headers=headers)).text
    assert answer.headers.get("content-encoding") == coding
    assert int(answer.headers["content-length"]) == len(raw)
    assert (gzip.decompress(raw) if coding else raw).decode() == whole


class Costly:
    """An answer that somebody has to make, and a clock; it is made while `free` is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        self.free = asyncio.Event()
        self.free.set()
        self.routes = [get_route("/api/v1/costly", self._answer, shared_by=lambda: self.now)]

    async def _answer(self, request: Request) -> Response:
        self.made += 1
        await self.free.wait()
        if request.query_params.get("bad"):
            raise ApiError("bad_data", "no")
        return PlainTextResponse(f"number {self.made} " * 200)


async def test_who_asks_at_once_shares_an_answer_and_nobody_later() -> None:
    costly = Costly()
    async with api_client(costly.routes) as client:
        answers = [await client.get("/api/v1/costly") for _ in range(5)]
        assert {one.text[:8] for one in answers} == {"number 1"}
        costly.now += SHARED_SECONDS / 2
        assert (await client.get("/api/v1/costly")).text == answers[0].text
        costly.now += SHARED_SECONDS / 2
        assert (await client.get("/api/v1/costly")).text.startswith("number 2")


async def test_only_the_same_question_is_shared() -> None:
    costly = Costly()
    plain = {"accept-encoding": "identity"}
    async with api_client(costly.routes) as client:
        for number, query in enumerate(("", "?a=1", "?a=2", "?a=3", "?a=4"), 1):
            for _ in range(2):
                answer = await client.get(f"/api/v1/costly{query}", headers=plain)
                assert answer.text.startswith(f"number {number} ")
        packed = await client.get("/api/v1/costly?a=4", headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        again = await client.get("/api/v1/costly?a=4", headers=plain)
        assert "content-encoding" not in again.headers and again.text == answer.text
        refused = [await client.get("/api/v1/costly?bad=1") for _ in range(2)]
    assert [one.status_code for one in refused] == [400, 400]
    assert costly.made == 7


async def test_who_goes_takes_the_answer_from_no_other() -> None:
    costly = Costly()
    costly.free.clear()
    async with api_client(costly.routes) as client:
        first, second = (asyncio.create_task(client.get("/api/v1/costly")) for _ in range(2))
        while not costly.made:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        costly.free.set()
        assert (await second).text.startswith("number 1")
