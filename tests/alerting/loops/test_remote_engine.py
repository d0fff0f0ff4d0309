"""Rules on an engine elsewhere: what it answers is known, and while it does not, nothing is."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from support.broken_server import Behaviour, broken_server, silence
from tocsin_alerting.loops.remote_engine import (
    CALM_SECONDS,
    PAUSE_SECONDS,
    QueryFailed,
    QueryRefused,
    RemoteEngine,
    read_answer,
)
from tocsin_alerting.promql.eval.limits import QueryTimeout
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.result import InstantVector, ScalarValue
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import labels
from tocsin_exporter.threads import Threads

VECTOR = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [
            {"metric": {"__name__": "m", "a": "x", "none": ""}, "value": [1.0, "1e3"]},
            {"metric": {}, "value": [1.0, "NaN"]},
            {"metric": {"h": "y"}, "histogram": [1.0, {"count": "1", "sum": "2"}]},
        ],
    },
}
SCALAR = {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "+Inf"]}}


def _read(status: int, body: object) -> object:
    text = body if isinstance(body, str) else json.dumps(body)
    return read_answer(status, text, 5000, EngineUnreachable).value


def test_a_vector_and_a_scalar_are_read_with_their_numbers() -> None:
    vector, scalar = _read(200, VECTOR), _read(200, SCALAR)
    assert isinstance(vector, InstantVector)
    assert vector.labels == (labels(__name__="m", a="x"), ())
    assert vector.values.tolist()[0] == 1000.0
    assert str(vector.values.tolist()[1]) == "nan"
    assert scalar == ScalarValue(5000, float("inf"))


def _error(kind: str) -> dict[str, str]:
    return {"status": "error", "errorType": kind, "error": f"it is {kind}"}


REFUSED = {
    "bad data": (400, _error("bad_data")),
    "no result": (422, _error("execution")),
    "VictoriaMetrics's words": (422, "cannot parse query"),
}
UNREACHABLE = {
    "a login": (401, "<html>"),
    "no tenant": (403, "no org id"),
    "no such path": (404, "404 page not found"),
    "too many": (429, _error("too_many_requests")),
    "a redirect": (302, ""),
    "a server that starts": (503, "Service Unavailable"),
    "a query that took too long there": (503, _error("timeout")),
    "a proxy": (502, "<html>Bad Gateway"),
    "somebody else": (200, "<html>welcome"),
    "another API": (200, {"ok": True}),
    "half of one": (200, {"status": "success", "data": {"resultType": "vector"}}),
    "a label that is no text": (
        200,
        {
            "status": "success",
            "data": {"resultType": "vector", "result": [{"metric": {"a": 1}, "value": [1, "1"]}]},
        },
    ),
    "a part of the data": (200, {**VECTOR, "isPartial": True}),
    "a part, as it is said elsewhere": (
        200,
        {"status": "success", "data": {**VECTOR["data"], "isPartial": True}},  # type: ignore[dict-item]
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_the_querys_fault(case: str) -> None:
    with pytest.raises(QueryRefused):
        _read(*REFUSED[case])


@pytest.mark.parametrize("case", UNREACHABLE)
def test_what_says_nothing_of_the_query_is_the_engines_fault(case: str) -> None:
    with pytest.raises(EngineUnreachable):
        _read(*UNREACHABLE[case])


Answer = Callable[[str, str], Awaitable[tuple[int, object]]]


def _answering(answer: Answer) -> Behaviour:
    """`answer(head, body)` of each request gives status and JSON; the connection is kept."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await several(reader, writer)

    async def several(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(n for n in head.lower().split("\r\n") if n.startswith("content-length:"))
            form = (await reader.readexactly(int(length.split(":")[1]))).decode()
            status, body = await answer(head, form)
            text = json.dumps(body).encode()
            writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(text)))
            writer.write(text)
            await writer.drain()

    return behave


class Told:
    """What was told of an engine, and a clock that each look moves on."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.now = 0.0

    async def __call__(self, error: str) -> None:
        self.errors.append(error)

    def seconds(self) -> float:
        self.now += 1
        return self.now


def _engine(access: EngineAccess, told: Told, timeout_s: float = 5.0) -> RemoteEngine:
    return RemoteEngine(access, timeout_s, told.seconds, Threads(1, "answers"), told)


async def test_it_is_asked_as_prometheus_is_and_its_keys_are_read_again(tmp_path: Path) -> None:
    token, asked = tmp_path / "token", list[tuple[str, str]]()
    token.write_text("first-secret\n")

    async def answer(head: str, form: str) -> tuple[int, object]:
        asked.append((head, form))
        if "Bearer second-secret" not in head:
            return 401, {"status": "error", "error": "not first-secret"}
        return 200, VECTOR

    async with broken_server(_answering(answer)) as port:
        access = EngineAccess(
            url=f"http://127.0.0.1:{port}/prometheus",
            target=f"127.0.0.1:{port}",
            headers={"X-Scope-OrgID": "ml"},
            bearer_token_file=token,
        )
        engine = _engine(access, told := Told())
        with pytest.raises(EngineUnreachable) as refused:
            await engine.instant(parse("sum(m) > 1"), 1_700_000_000_500)
        assert "HTTP 401" in str(refused.value)
        assert "secret" not in str(refused.value) + repr(engine)
        token.write_text("second-secret\n")
        told.now += PAUSE_SECONDS
        result = await engine.instant(parse("sum(m) > 1"), 1_700_000_000_500)
        await engine.close()
    assert isinstance(result.value, InstantVector)
    assert told.errors == [str(refused.value), ""]
    head, form = asked[-1]
    assert head.startswith("POST /prometheus/api/v1/query HTTP/1.1\r\n")
    assert "x-scope-orgid: ml" in head.lower()
    assert "query=sum%28m%29+%3E+1&time=1700000000.500&timeout=5000ms&" in form


async def test_no_key_is_in_an_error_though_the_other_side_repeats_it() -> None:
    async def answer(head: str, form: str) -> tuple[int, object]:
        return 502, f"not pass-word, bGk6cGFzcy13b3Jk, nor tenant-1 or k-in-query: {head}"

    async with broken_server(_answering(answer)) as port:
        url = f"http://li:pass-word@127.0.0.1:{port}?k=k-in-query"
        access = replace(
            EngineAccess.of(url),
            headers={"X-Scope-OrgID": "tenant-1", "X-Also": "Basic no-base64-at-all"},
        )
        engine = _engine(access, told := Told())
        with pytest.raises(EngineUnreachable) as refused:
            await engine.instant("m", 0)
        await engine.close()
    assert "HTTP 502: " in str(refused.value)
    for secret in ("pass-word", "bGk6cGFzcy13b3Jk", "tenant-1", "k-in-query"):
        assert secret not in str(refused.value) + told.errors[0] + repr(engine)


async def test_while_one_hangs_a_single_query_tries_it_and_the_others_fail_at_once() -> None:
    async with broken_server(silence) as port:
        access = EngineAccess.of(f"http://127.0.0.1:{port}")
        engine = _engine(access, told := Told(), timeout_s=0.05)
        with pytest.raises(EngineUnreachable, match="no answer within 0.1 s"):
            await engine.instant("m", 0)
        with pytest.raises(EngineUnreachable):  # the next rule of the group
            await engine.instant("m", 0)
        assert engine.state.counts.failed == 1
        told.now += PAUSE_SECONDS
        asked = [asyncio.ensure_future(engine.instant("m", 0)) for _ in range(20)]
        await asyncio.sleep(0)
        assert [one.done() for one in asked] == [False] + [True] * 19
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        await engine.close()
    assert all(isinstance(one, EngineUnreachable) for one in outcomes)
    assert len(told.errors) == 2
    assert engine.state.counts.failed == 2


async def test_one_query_that_takes_too_long_is_no_outage_while_others_are_answered() -> None:
    begun, quick_is_done = asyncio.Event(), asyncio.Event()

    async def answer(head: str, form: str) -> tuple[int, object]:
        if "slow" not in form:
            return 200, VECTOR
        begun.set()
        await quick_is_done.wait()
        return 503, _error("timeout")

    async with broken_server(_answering(answer)) as port:
        engine = _engine(EngineAccess.of(f"http://127.0.0.1:{port}"), told := Told())
        slow = asyncio.ensure_future(engine.instant("slow", 0))
        await begun.wait()
        await engine.instant("m", 0)
        quick_is_done.set()
        with pytest.raises(QueryTimeout):
            await slow
        assert told.errors == [""]
        with pytest.raises(EngineUnreachable):  # nothing else was answered meanwhile
            await engine.instant("slow", 0)
        await engine.close()
    assert told.errors == ["", f"{engine.address}: HTTP 503: it is timeout"]


class Scripted:
    """An engine that gives each query the status that stands in `status`, 200 if none does."""

    def __init__(self) -> None:
        self.status = dict[str, int]()
        self.asked = list[str]()
        self.told = Told()

    async def __call__(self, head: str, form: str) -> tuple[int, object]:
        query = parse_qs(form)["query"][0]
        self.asked.append(query)
        status = self.status.get(query, 200)
        return status, VECTOR if status == 200 else _error("internal")

    async def ask(self, engine: RemoteEngine, *queries: str) -> None:
        for query in queries:
            self.told.now += PAUSE_SECONDS
            with suppress(EngineUnreachable, ValueError):
                await (engine.instant(query, 0) if query else engine.probe(0))


async def test_an_engine_that_refuses_one_query_and_fails_at_another_is_one_outage() -> None:
    """Until nothing has failed for a while: a proxy may refuse, whatever is behind it."""
    script = Scripted()
    script.status = {"a": 503, "b": 400}
    async with broken_server(_answering(script)) as port:
        engine = _engine(EngineAccess.of(f"http://127.0.0.1:{port}"), script.told)
        await script.ask(engine, "a", "b", "a", "b", "b", "a")
        assert "" not in script.told.errors
        script.told.now += CALM_SECONDS
        await script.ask(engine, "b")
        assert script.told.errors[-1] == ""
        await engine.close()


async def test_an_engine_is_tried_by_what_it_failed_at() -> None:
    """One whose samples are away answers `vector(1)` all the same."""
    script = Scripted()
    script.status = {"a": 503, "b": 503}
    async with broken_server(_answering(script)) as port:
        engine = _engine(EngineAccess.of(f"http://127.0.0.1:{port}"), script.told)
        await script.ask(engine, "", "a", "", "")
        with pytest.raises(EngineUnreachable):
            await engine.instant("b", 0)
        await script.ask(engine, "", "")
        assert script.asked == ["vector(1)", "a", "a", "a", "b", "b"]
        assert script.told.errors.count("") == 1
        script.status.clear()
        await script.ask(engine, "")
        assert engine.state.answers
        await engine.close()


async def test_a_query_that_alone_has_no_answer_is_at_fault_itself() -> None:
    script = Scripted()
    script.status = {"a": 503}
    async with broken_server(_answering(script)) as port:
        engine = _engine(EngineAccess.of(f"http://127.0.0.1:{port}"), script.told)
        await script.ask(engine, "b", "a", "b")
        for _ in range(3):
            with pytest.raises(QueryFailed, match="503"):
                await engine.instant("a", 0)
            await script.ask(engine, "b")
        assert engine.state.answers
        await engine.close()


async def test_a_kept_connection_that_is_closed_when_we_ask_is_no_failure() -> None:
    """As after each restart of the engine: the query is asked once more, on a new one."""
    answered = 0

    async def answer(head: str, form: str) -> tuple[int, object]:
        nonlocal answered
        answered += 1
        if answered == 2:
            raise OSError  # closes it without an answer
        return 200, VECTOR

    async with broken_server(_answering(answer)) as port:
        engine = _engine(EngineAccess.of(f"http://127.0.0.1:{port}"), told := Told())
        await engine.instant("m", 0)
        await engine.instant("m", 0)
        await engine.close()
    assert (answered, told.errors) == (3, ["", ""])
