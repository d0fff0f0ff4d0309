"""One query's turn, driven as a server drives it: pieces, backpressure, ends, places."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tocsin_alerting.api.http.envelope import HTTP_STATUS, ApiError
from tocsin_alerting.api.prometheus.encoding import PIECE_BYTES, ResponseBody, query_body
from tocsin_alerting.api.prometheus.query_gate import QueryGate
from tocsin_alerting.api.prometheus.query_response import (
    QueryContext,
    QueryLimits,
    QueryResponse,
    QueryWork,
)
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.promql.result import InstantVector, Matrix, Result, ScalarValue, Track
from tocsin_alerting.tsdb.store import Store


@pytest.fixture
async def queries() -> AsyncIterator[QueryContext]:
    store, limits = Store(), QueryLimits(at_once=1)
    with ThreadPoolExecutor(1) as evaluating, ThreadPoolExecutor(1) as sending:
        places, now = QueryGate(1, 1), time.monotonic
        threads = evaluating, sending
        yield QueryContext(store, QueryEngine(store), *threads, lambda: 0, now, limits, places)


class Client:
    """Takes what is sent; goes away when it is told to."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.left = asyncio.Event()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        await asyncio.sleep(0)

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.sent)


class Deaf(Client):
    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message.get("more_body"):
            await asyncio.Future()


async def ask(queries: QueryContext, work: QueryWork, timeout_ms: int | None = None) -> Client:
    client = Client()
    await QueryResponse(queries, work, timeout_ms)({}, client.receive, client.send)
    return client


def track(points: int) -> Track:
    return Track((("n", "1"),), np.arange(points) * 1000, np.full(points, 0.5))


async def test_a_small_answer_is_sent_whole_with_its_length(queries: QueryContext) -> None:
    result = Result(Matrix((track(1),)), warnings=("w",))
    client = await ask(queries, lambda budget: query_body(result))
    assert len(client.sent) == 2
    assert dict(client.sent[0]["headers"])[b"content-length"] == str(len(client.body)).encode()
    values = [{"metric": {"n": "1"}, "values": [[0, "0.5"]]}]
    data = {"resultType": "matrix", "result": values}
    assert json.loads(client.body) == {"status": "success", "data": data, "warnings": ["w"]}


def _no_memory(_: Budget) -> ResponseBody:
    raise MemoryError


async def test_an_answer_without_memory_is_refused_in_words(queries: QueryContext) -> None:
    with pytest.raises(ApiError, match="^no memory is left to answer this query: ask for") as found:
        await ask(queries, _no_memory)
    assert HTTP_STATUS[found.value.type] == 422


async def test_memory_that_ends_within_an_answer_cuts_it(queries: QueryContext) -> None:
    def pieces() -> Iterator[bytes]:
        yield from [b"x" * 10, b"y" * 10]
        raise MemoryError

    client = await ask(queries, lambda budget: ResponseBody(pieces()))
    assert client.body == b"x" * 10 + b"y" * 10
    assert client.sent[-1]["more_body"]


async def test_a_large_answer_comes_in_pieces_and_is_one_document(queries: QueryContext) -> None:
    many = Result(Matrix(tuple(track(11_000) for _ in range(20))))
    client = await ask(queries, lambda budget: query_body(many))
    pieces = [one["body"] for one in client.sent[1:] if one["body"]]
    assert len(pieces) > 3
    assert all(len(piece) >= PIECE_BYTES for piece in pieces[:-1])
    found = json.loads(client.body)["data"]["result"]
    assert [len(one["values"]) for one in found] == [11_000] * 20


@pytest.mark.parametrize("value", [ScalarValue(1500, 2.0), InstantVector(1500, (), np.empty(0))])
def test_scalars_and_empty_vectors_are_documents_too(value: Any) -> None:
    data = json.loads(b"".join(query_body(Result(value))))["data"]
    assert data["result"] in ([1.5, "2"], [])


async def test_a_client_that_goes_ends_the_work_and_frees_its_place(queries: QueryContext) -> None:
    client = Client()
    asyncio.get_running_loop().call_later(0.1, client.left.set)
    await asyncio.wait_for(QueryResponse(queries, slow(), None)({}, client.receive, client.send), 5)
    assert not queries.gate.is_full
    await asyncio.wait_for(ask(queries, lambda budget: ResponseBody([b"next"])), 5)


async def test_a_client_that_has_gone_before_its_turn_begins_nothing_long(
    queries: QueryContext,
) -> None:
    client = Client()
    client.left.set()
    await asyncio.wait_for(QueryResponse(queries, slow(), None)({}, client.receive, client.send), 5)
    assert client.sent == [] and not queries.gate.is_full


async def test_nobody_is_watched_after_the_answer(queries: QueryContext) -> None:
    before, free = asyncio.all_tasks(), threading.Event()

    class Watched(Client):
        async def receive(self) -> Any:
            free.set()
            return await super().receive()

    def work(budget: Budget) -> ResponseBody:
        free.wait(5)
        return ResponseBody([b"1"])

    client = Watched()
    await QueryResponse(queries, work)({}, client.receive, client.send)
    assert client.body == b"1"
    ended = asyncio.all_tasks() - before
    await asyncio.wait_for(asyncio.gather(*ended, return_exceptions=True), 5)


def slow() -> QueryWork:
    def work(budget: Budget) -> ResponseBody:
        while True:
            time.sleep(0.01)
            budget.spend(0)

    return work


async def test_a_reader_that_is_slow_is_cut_off_in_time(queries: QueryContext) -> None:
    class Slow(Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            await asyncio.sleep(3600 if "body" in message else 0)

    client = Slow()
    endless = [b"x" * PIECE_BYTES] * 3
    queries = replace(queries, limits=replace(queries.limits, sending_ms=100))
    await asyncio.wait_for(
        QueryResponse(queries, lambda budget: ResponseBody(endless))(
            {}, client.receive, client.send
        ),
        5,
    )
    assert client.sent[-1]["more_body"] is True
    assert not queries.gate.is_full


async def test_a_reader_that_is_a_little_slow_each_time_is_cut_off_too(
    queries: QueryContext,
) -> None:
    class Dawdling(Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            await asyncio.sleep(0.05 if "body" in message else 0)

    client = Dawdling()
    queries = replace(queries, limits=replace(queries.limits, sending_ms=400))
    many = [b"x" * PIECE_BYTES] * 60
    response = QueryResponse(queries, lambda budget: ResponseBody(many))
    await asyncio.wait_for(response({}, client.receive, client.send), 30)
    assert client.sent[-1]["more_body"] is True and len(client.sent) < 20


async def test_what_was_evaluated_in_time_is_sent_whole_without_a_place(
    queries: QueryContext,
) -> None:
    """The time is over when its first piece has been read: the answer goes on, others may run."""

    class Reader(Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message.get("more_body"):
                await asyncio.sleep(0.2)

    client, pieces = Reader(), [b"x" * PIECE_BYTES] * 4
    turn = QueryResponse(queries, lambda budget: ResponseBody(pieces), 100)(
        {}, client.receive, client.send
    )
    asked = asyncio.create_task(turn)
    while len(client.sent) < 2:
        await asyncio.sleep(0)
    quick = await asyncio.wait_for(ask(queries, lambda budget: ResponseBody([b"next"])), 5)
    assert quick.body == b"next"
    assert not asked.done()
    await asyncio.wait_for(asked, 5)
    assert client.body == b"".join(pieces)
    assert client.sent[-1]["more_body"] is False


async def test_time_that_runs_out_before_a_thread_is_free_was_spent_waiting(
    queries: QueryContext,
) -> None:
    free = threading.Event()
    queries.evaluating.submit(free.wait)
    try:
        with pytest.raises(ApiError, match="query timed out in query queue"):
            await ask(queries, lambda budget: ResponseBody([b"1"]), 50)
    finally:
        free.set()


async def test_time_runs_out(queries: QueryContext) -> None:
    with pytest.raises(ApiError, match="query timed out in expression evaluation"):
        await ask(queries, slow(), 50)
    assert not queries.gate.is_full


async def test_who_does_not_read_holds_no_other_query_up(queries: QueryContext) -> None:
    """Answers that nobody reads, where one query may run: others are answered at once, and all of
    them are still there to be read."""
    many = Result(Matrix(tuple(track(11_000) for _ in range(20))))
    queries = replace(queries, gate=QueryGate(1, 20))

    deaf = [Deaf() for _ in range(12)]
    turns = [
        asyncio.create_task(
            QueryResponse(queries, lambda budget: query_body(many))({}, one.receive, one.send)
        )
        for one in deaf
    ]
    async with asyncio.timeout(20):
        quick = await ask(queries, lambda budget: query_body(Result(Matrix((track(1),)))))
        assert b"success" in quick.body
    assert not any(turn.done() for turn in turns)
    for turn in turns:
        turn.cancel()


async def test_what_an_answer_holds_counts_while_its_client_does_not_read(
    queries: QueryContext,
) -> None:
    """Two of half the bytes fit; of three, one is cut without an end of its body."""
    queries = replace(queries, gate=QueryGate(1, 9, sending=60 * PIECE_BYTES))
    body = ResponseBody([b"x" * PIECE_BYTES] * 3, lambda: 27 * PIECE_BYTES)
    deaf = [Deaf() for _ in range(3)]
    turns = [
        asyncio.create_task(QueryResponse(queries, lambda _: body)({}, one.receive, one.send))
        for one in deaf
    ]
    async with asyncio.timeout(10):
        done, left = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
    assert done == {turns[0]} and len(left) == 2
    assert all(one.get("more_body") for one in deaf[0].sent[1:])
    for turn in turns:
        turn.cancel()


async def test_a_reader_of_many_pieces_has_no_place_for_long(queries: QueryContext) -> None:
    """It takes each of them quickly, and all of them slowly."""

    class Steady(Client):
        async def send(self, message: Any) -> None:
            self.sent.append(message)
            await asyncio.sleep(0.01)

    reader, pieces = Steady(), [b"x" * PIECE_BYTES] * 500
    turn = QueryResponse(queries, lambda budget: ResponseBody(pieces))(
        {}, reader.receive, reader.send
    )
    asked = asyncio.create_task(turn)
    while len(reader.sent) < 2:
        await asyncio.sleep(0)
    quick = await asyncio.wait_for(ask(queries, lambda budget: ResponseBody([b"next"])), 20)
    assert quick.body == b"next" and not asked.done()
    asked.cancel()


async def test_who_waits_for_us_is_not_slow(queries: QueryContext) -> None:
    """Its next piece is still made while another reads nothing: the other one makes room."""
    free, begun = threading.Event(), threading.Event()

    def long_in_the_making() -> Iterator[bytes]:
        yield from [b"x" * PIECE_BYTES] * 2
        begun.set()
        free.wait(20)
        yield b"end"

    reader, deaf = Client(), Deaf()
    queries = replace(queries, gate=QueryGate(1, 9, sending=1))
    first = QueryResponse(queries, lambda _: ResponseBody(long_in_the_making()))(
        {}, reader.receive, reader.send
    )
    asked = asyncio.create_task(first)
    try:
        while not begun.is_set():
            await asyncio.sleep(0.01)
        endless = ResponseBody([b"x" * PIECE_BYTES] * 3)
        await asyncio.wait_for(
            QueryResponse(queries, lambda _: endless)({}, deaf.receive, deaf.send), 10
        )
    finally:
        free.set()
    await asyncio.wait_for(asked, 10)
    assert reader.body == b"x" * PIECE_BYTES * 2 + b"end"


async def test_who_reads_waits_for_no_evaluation(queries: QueryContext) -> None:
    """Its pieces were made in the threads of queries, behind those that came after it."""
    free, begun = threading.Event(), threading.Event()

    def long(_: Budget) -> ResponseBody:
        begun.set()
        free.wait(20)
        return ResponseBody([b"late"])

    class Late(Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            while message.get("more_body") and not begun.is_set():
                await asyncio.sleep(0.01)

    reader, pieces = Late(), [b"x" * PIECE_BYTES] * 20
    turn = QueryResponse(queries, lambda _: ResponseBody(pieces))({}, reader.receive, reader.send)
    asked = asyncio.create_task(turn)
    while len(reader.sent) < 2:
        await asyncio.sleep(0)
    other = asyncio.create_task(ask(queries, long))
    try:
        await asyncio.wait_for(asked, 10)
        assert reader.body == b"".join(pieces) and not other.done()
    finally:
        free.set()
    assert (await other).body == b"late"


async def test_the_time_to_make_a_piece_is_not_its_clients(queries: QueryContext) -> None:
    def slowly() -> Iterator[bytes]:
        yield from [b"x" * PIECE_BYTES] * 2
        time.sleep(1)
        yield b"x" * PIECE_BYTES

    queries = replace(queries, limits=replace(queries.limits, sending_ms=500))
    client = await ask(queries, lambda _: ResponseBody(slowly()))
    assert client.body == b"x" * PIECE_BYTES * 3 and not client.sent[-1]["more_body"]


async def test_steady_readers_of_large_answers_hold_no_query_up(queries: QueryContext) -> None:
    """One has the room, the other the place, and neither is ever slow."""

    class Steady(Client):
        async def send(self, message: Any) -> None:
            self.sent.append(message)
            await asyncio.sleep(0.2)

    queries = replace(queries, gate=QueryGate(1, 9, sending=100))
    readers, body = [Steady(), Steady()], ResponseBody([b"x" * PIECE_BYTES] * 500, lambda: 100)
    turns = [
        asyncio.create_task(QueryResponse(queries, lambda _: body)({}, one.receive, one.send))
        for one in readers
    ]
    while any(len(one.sent) < 2 for one in readers):
        await asyncio.sleep(0.01)
    quick = await asyncio.wait_for(ask(queries, lambda _: ResponseBody([b"next"])), 15)
    assert quick.body == b"next"
    for turn in turns:
        turn.cancel()
