"""Samples to a receiver elsewhere: each of them, over outages, kills, refusals and late ones."""

import math
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.prometheus import Prometheus, running_prometheus
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.loops.remote_client import RemoteAnswer, RemoteClient, RequestFailed
from tocsin_alerting.loops.sample_sender import (
    LATE_MS,
    STEP_MS,
    SampleSender,
    SendProgress,
    UnsentSeries,
    message_v2,
)
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.remote_read.samples import ReadSamples, read_samples
from tocsin_alerting.remote_write.prompb import LENGTH, read_fields, read_series, series_spans
from tocsin_alerting.remote_write.snappy import decompress
from tocsin_alerting.rules.unknown_alerts import RULES_JOB
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import Labels, Source, labels
from tocsin_exporter.threads import Threads

import numpy as np  # isort: skip

SECOND, MINUTE = 1000, 60_000
RULE, OTHER = Source(RULES_JOB, "f;g/a/1"), Source(RULES_JOB, "f;g/b/1")
EVERY = ((Matcher("__name__", MatchOp.NOT_EQUAL, ""),),)
Taken = dict[tuple[Labels, int], float]


class Counting(RemoteClient):
    """Counts its requests."""

    posted = 0

    async def post(self, *about: Any) -> RemoteAnswer:
        self.posted += 1
        return await super().post(*about)


class Strict(RemoteClient):
    """A receiver that refuses whole requests for one label, as one that validates them does."""

    taken: Taken

    async def post(self, *about: Any) -> RemoteAnswer:
        one = _taken([about[1]])
        if any(dict(told)["__name__"] != "n13" for told, _ in one):
            return RemoteAnswer(400, "label value is not allowed")
        self.taken = {**getattr(self, "taken", {}), **one}
        return RemoteAnswer(204, "")


class Agent:
    """A store, and a sender whose clock stands where a test sets it; `restart` is a kill."""

    def __init__(
        self,
        url: str,
        folder: Path,
        now_ms: int,
        protocol: int = 1,
        client: Callable[[EngineAccess], RemoteClient] = RemoteClient,
    ) -> None:
        self.now_ms, self.store, self._client = now_ms, Store(), client
        self._about = (url, folder / "progress.json", protocol)
        self.restart()

    def restart(self) -> None:
        url, file, protocol = self._about
        client = self._client(EngineAccess.of(url))
        threads = Threads(1, "sample reader")
        now = lambda: self.now_ms  # noqa: E731
        self.sender = SampleSender(client, 10.0, protocol, self._read, file, now, threads)

    def _read(self, t0_ms: int, t1_ms: int) -> ReadSamples:
        chosen = self.store.select(EVERY, t0_ms, t1_ms)
        return read_samples(chosen, t0_ms, t1_ms, {"cluster": "a"}, Budget())

    def record(self, source: Source, at_ms: int, **values: float) -> None:
        samples = [(labels(__name__=name), value) for name, value in values.items()]
        self.store.append_rule_samples(source, at_ms, samples)

    def stored(self) -> Taken:
        read = self._read(0, 2**62)
        return {
            (told, at): value
            for told, times, values in read.series()
            for at, value in zip(times.tolist(), values.tolist(), strict=True)
        }


def _taken(requests: Iterator[bytes] | list[bytes]) -> Taken:
    taken: Taken = {}
    for body in requests:
        data = decompress(body)
        for begin, stop in series_spans(data):
            one = read_series(data, begin, stop, {})
            told = tuple((name.decode(), value.decode()) for name, value in one.pairs)
            for at, bits in zip(one.times, one.bits, strict=True):
                taken[told, at] = struct.unpack("<d", struct.pack("<q", bits))[0]
    return taken


def _same(left: Taken, right: Taken) -> bool:
    """NaN and stale markers are what they are bit by bit."""
    bits: Callable[[Taken], Mapping[object, bytes]] = lambda taken: {  # noqa: E731
        key: struct.pack("<d", value) for key, value in taken.items()
    }
    return bits(left) == bits(right)


async def _rounds(agent: Agent, most: int = 100) -> int:
    for count in range(1, most + 1):
        if await agent.sender.round():
            return count
    raise AssertionError("it does not catch up")


async def test_no_sample_is_lost_to_an_hours_outage_kills_and_lateness(tmp_path: Path) -> None:
    base_ms, sent = 1_767_225_600_000, list[bytes]()
    async with WebhookSink() as sink:
        agent = Agent(sink.url, tmp_path, base_ms)
        agent.record(RULE, base_ms - MINUTE, old=1.0)  # of the time before it was configured
        await _rounds(agent)
        for minute in range(1, 90):
            agent.now_ms = base_ms + minute * MINUTE
            agent.record(RULE, agent.now_ms, a=float(minute), **({"b": 1.0} if minute % 9 else {}))
            late_ms = agent.now_ms - 2 * MINUTE  # a rule whose engine is slow
            agent.record(OTHER, late_ms, late=math.nan if minute == 40 else float(minute))
            if minute in (15, 50, 75):  # killed, what it knew is on the disk
                await agent.sender.client.close()
                agent.restart()
            before, sink.usual = len(sink.requests), Answer(503 if 10 <= minute < 72 else 200)
            if sink.usual.status == 503:
                with pytest.raises(RequestFailed, match="HTTP 503"):
                    await agent.sender.round()
            else:
                rounds = await _rounds(agent)
                assert rounds == (13 if minute == 72 else 1)  # five minutes at once
                sent += [one.body for one in sink.requests[before:]]
        assert agent.sender.behind_ms == 0
        headers = sink.requests[0].headers
        await agent.sender.client.close()
    wanted = {key: value for key, value in agent.stored().items() if key[1] > base_ms - MINUTE}
    taken = _taken(sent)
    assert {key for key in wanted if key not in taken} == set()
    assert _same({key: taken[key] for key in wanted}, wanted)
    assert taken.keys() == wanted.keys()
    assert len(taken) > 250
    told = {value for told, _ in taken for name, value in told if name == "cluster"}
    assert told == {"a"}
    assert headers["x-prometheus-remote-write-version"] == "0.1.0"
    assert headers["content-encoding"] == "snappy"


async def test_what_was_sent_is_not_sent_again_over_a_kill(tmp_path: Path) -> None:
    base_ms = 1_767_225_600_000
    async with WebhookSink() as sink:
        agent = Agent(sink.url, tmp_path, base_ms)
        await _rounds(agent)
        for second in range(60):
            agent.now_ms = base_ms + second * SECOND
            agent.record(RULE, agent.now_ms, a=1.0)
            if second % 5 == 0:
                await _rounds(agent)
            if second == 32:
                await agent.sender.client.close()
                agent.restart()
        await _rounds(agent)
        samples = sum(len(_taken([one.body])) for one in sink.requests)
        await agent.sender.client.close()
    assert samples == 60
    assert agent.sender.counts.sent == 60 - 31


def _at(engine: Prometheus, query: str) -> dict[str, list[tuple[float, str]]]:
    found = engine.get("query", query=query)["data"]["result"]
    return {one["metric"]["__name__"]: [tuple(v) for v in one["values"]] for one in found}


async def test_a_real_prometheus_has_what_it_can_take_beside_what_it_refuses(
    tmp_path: Path,
) -> None:
    base_ms = round(time.time()) * 1000 - 10 * MINUTE
    with running_prometheus(tmp_path, "--web.enable-remote-write-receiver") as engine:
        agent = Agent(f"{engine.url}/api/v1/write", tmp_path, base_ms)
        await _rounds(agent)
        progress = agent.sender.progress
        assert progress is not None
        for step in range(1, 21):
            agent.record(RULE, base_ms + step * 15 * SECOND, a=float(step), b=-1.0, c=step / 7)
        agent.now_ms = base_ms + 5 * MINUTE
        await _rounds(agent)
        agent.record(RULE, base_ms + 6 * MINUTE, a=21.0, c=3.0)  # b goes stale
        agent.now_ms = base_ms + 6 * MINUTE
        progress.sent_ms.clear()  # as if it were forgotten: all but the last are out of order there
        await _rounds(agent)
        found = _at(engine, '{cluster="a"}[20m]')
        assert [value for _, value in found["a"]] == [str(n) for n in range(1, 22)]
        assert len(found["b"]) == 20  # a query does not show the marker
        assert (
            engine.get("query", query="b", time=str(base_ms / 1000 + 361))["data"]["result"] == []
        )
        assert agent.sender.counts.refused > 0
        await agent.sender.client.close()


async def test_a_prometheus_that_took_what_was_given_up_loses_nothing_of_what_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It hung, each request was given up, and then it took some: all series begin with samples
    that it has, which takes many requests to find."""
    base_ms = round(time.time()) * 1000 - 10 * MINUTE
    with running_prometheus(tmp_path, "--web.enable-remote-write-receiver") as engine:
        agent = Agent(f"{engine.url}/api/v1/write", tmp_path, base_ms)
        await _rounds(agent)
        progress = agent.sender.progress
        assert progress is not None
        names = [f"n{number}" for number in range(6)]
        for step in range(1, 9):
            if step == 7:
                agent.now_ms = base_ms + step * SECOND
                await _rounds(agent)
                progress.sent_ms.clear()  # as if no answer had come
                caplog.clear()
            agent.record(RULE, base_ms + step * SECOND, **dict.fromkeys(names, float(step)))
        agent.now_ms = base_ms + MINUTE
        await _rounds(agent)
        found = _at(engine, '{cluster="a"}[20m]')
        every = [str(step) for step in range(1, 9)]
        assert {name: [v for _, v in found[name]] for name in names} == dict.fromkeys(names, every)
        assert len([one for one in caplog.messages if "refuses samples" in one]) == 1
        await agent.sender.client.close()


async def test_what_is_too_old_for_a_prometheus_costs_few_requests_and_nothing_that_is_not(
    tmp_path: Path,
) -> None:
    """It was away for longer than it takes samples back, and has newer ones already: in the
    requests where both lie, what it takes is found."""
    now_ms = round(time.time()) * 1000
    base_ms, names = now_ms - 75 * MINUTE, [f"n{number}" for number in range(10)]
    with running_prometheus(tmp_path, "--web.enable-remote-write-receiver") as engine:
        newest = Agent(f"{engine.url}/api/v1/write", tmp_path / "newest", now_ms - MINUTE)
        await _rounds(newest)
        newest.record(OTHER, now_ms, scraped=1.0)
        newest.now_ms = now_ms
        await _rounds(newest)
        agent = Agent(f"{engine.url}/api/v1/write", tmp_path / "late", base_ms, client=Counting)
        await _rounds(agent)
        for step in range(1, 300):
            at_ms = base_ms + step * 15 * SECOND
            agent.record(RULE, at_ms, **dict.fromkeys(names, float(step)))
        agent.now_ms = now_ms
        await _rounds(agent)
        found = _at(engine, '{__name__=~"n.*"}[3h]')
        counts = agent.sender.counts
        client = agent.sender.client
        assert isinstance(client, Counting)
        for one in (newest.sender.client, client):
            await one.close()
    bound_s = now_ms / 1000 - 3600  # half of the two hours of a block
    wanted = [base_ms / 1000 + step * 15 for step in range(1, 300)]
    taken = [at_s for at_s in wanted if at_s >= bound_s]
    assert {name: [at for at, _ in found[name]] for name in names} == dict.fromkeys(names, taken)
    assert (counts.sent, counts.refused) == (10 * len(taken), 10 * (299 - len(taken)))
    assert 550 < counts.refused < 700
    assert client.posted < 300  # two of each that is refused without it


async def test_what_is_refused_for_its_name_costs_nothing_beside_it(tmp_path: Path) -> None:
    """However many are refused in a row: nothing of the same request is lost with them."""
    base_ms, names = 1_767_225_600_000, [f"n{number:02}" for number in range(14)]
    agent = Agent("http://127.0.0.1:9", tmp_path, base_ms, client=Strict)
    await _rounds(agent)
    for second in range(1, 250):
        agent.record(RULE, base_ms + second * SECOND, **dict.fromkeys(names, 1.0))
    agent.now_ms = base_ms + 5 * MINUTE
    await _rounds(agent)
    client = agent.sender.client
    assert isinstance(client, Strict)
    assert len(client.taken) == 249
    assert agent.sender.counts.refused == 13 * 249  # more than 6,000 requests


def test_a_message_of_2_0_has_each_text_once() -> None:
    times: Ints = np.array([1_000, 2_000], np.int64)
    values: Floats = np.array([1.5, math.nan])
    batch = [
        UnsentSeries("1", labels(__name__="m", a="x"), times, values),
        UnsentSeries("2", labels(__name__="n", a="x"), times[:1], values[:1]),
    ]
    data = message_v2(batch)
    symbols, series = [], []
    for number, wire, begin, stop in read_fields(data, 0, len(data)):
        assert wire == LENGTH
        if number == 4:
            symbols.append(data[begin:stop].decode())
        elif number == 5:
            series.append(data[begin:stop])
    assert symbols == ["", "__name__", "m", "a", "x", "n"]
    fields = [list(read_fields(one, 0, len(one))) for one in series]
    refs = [list(one[of[0][2] : of[0][3]]) for one, of in zip(series, fields, strict=True)]
    assert refs == [[1, 2, 3, 4], [1, 5, 3, 4]]
    assert [[field[0] for field in of] for of in fields] == [[1, 2, 2], [1, 2]]
    sample = series[0][fields[0][1][2] : fields[0][1][3]]
    assert sample == b"\x09" + struct.pack("<d", 1.5) + b"\x10\xe8\x07"


async def test_one_that_knows_1_0_alone_is_sent_that(tmp_path: Path) -> None:
    base_ms = 1_767_225_600_000
    async with WebhookSink(Answer(415)) as sink:
        agent = Agent(sink.url, tmp_path, base_ms, protocol=2)
        await _rounds(agent)
        agent.now_ms += MINUTE
        agent.record(RULE, agent.now_ms, a=1.0)
        await _rounds(agent)
        versions = [one.headers["x-prometheus-remote-write-version"] for one in sink.requests]
        types = [one.headers["content-type"] for one in sink.requests]
        await agent.sender.client.close()
    assert versions == ["2.0.0", "0.1.0"]
    assert types[0] == "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert agent.sender.counts.sent == 1


def test_progress_moves_with_the_clock_and_forgets_what_the_floor_says(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "progress.json"
    progress = SendProgress(1_000, 10 * MINUTE, {"a": 9 * MINUTE, "b": 6 * MINUTE})
    progress.completed(10 * MINUTE + SECOND)
    assert progress.sent_ms == {"a": 9 * MINUTE}
    assert progress.floor_ms == 10 * MINUTE + SECOND - LATE_MS
    progress.shift(-MINUTE)
    progress.write(file)
    assert SendProgress.read(file, 0) == progress
    assert progress.sent_ms == {"a": 8 * MINUTE}
    file.write_text("{")
    assert SendProgress.read(file, MINUTE) == SendProgress(0, MINUTE)
    assert STEP_MS > LATE_MS  # a step has to go on
