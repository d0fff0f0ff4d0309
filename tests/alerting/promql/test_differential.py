"""The same samples in a real Prometheus and in our store: the same queries, the same answers.

Debian's Prometheus is 2.42, so these run under semantics 2. There is no list of exceptions.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from support.prometheus import Prometheus, running_prometheus
from support.query_generator import QueryGenerator
from support.remote_write import remote_write
from support.scattered import ScatteredReader
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.context import Reader
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.result import InstantVector, Matrix, Result, ScalarValue
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.snapshot import Labels, labels

GAUGES, COUNTERS = ("g", "sparse"), ("c_total", "b_bucket")
STALE = np.array([STALE_BITS], np.int64).view(np.float64)[0].item()
STEP_MS, SCRAPES, QUERIES = 15_000, 200, 60
NAMES = ("start", "end", "step")
Samples = dict[Labels, list[tuple[int, float]]]
Answer = dict[Labels, list[tuple[int, float]]]


def samples(start_ms: int) -> Samples:
    """Two targets that are not aligned; resets, gaps, stale markers, NaN and infinities."""
    random = Random(7)
    made: Samples = {}
    for number, target in enumerate((("one", "i1"), ("two", "i2"))):
        job, instance = target
        times = [
            start_ms + 7_000 * number + STEP_MS * i + random.randint(-40, 40)
            for i in range(SCRAPES)
        ]
        for zone in ("a", "b", ""):
            base = labels(job=job, instance=instance, zone=zone)
            made[_named(base, "g")] = [
                (t, random.choice((1.0, 2.5, -3.0, 100.0, 0.1))) for t in times
            ]
            made[_named(base, "sparse")] = _sparse(random, times)
            for code in ("200", "500"):
                made[_named(base, "c_total", code=code)] = _counter(random, times)
            rows = [_counter(random, times, resets=False) for _ in range(4)]
            sums = np.cumsum([[value for _, value in row] for row in rows], axis=0)
            for le, row in zip(("0.1", "1", "10", "+Inf"), sums.tolist(), strict=True):
                made[_named(base, "b_bucket", le=le)] = list(zip(times, row, strict=True))
        _add_odd(random, times, labels(job=job, instance=instance), made)
    return made


def _add_odd(random: Random, times: list[int], base: Labels, made: Samples) -> None:
    """Numbers at the ends of their range, equal ones, labels and buckets that are none."""
    odd = (-0.0, 5e-324, 1e300, -1.7e308, 1e16, 1.0, math.nan, math.inf, 2.5)
    for zone in ("a", "b", "line\nbreak", "\u65e5"):
        made[_named(base, "odd", zone=zone)] = [(t, random.choice(odd)) for t in times]
        made[_named(base, "near", zone=zone)] = [(t, 1e9 + random.random()) for t in times]
        made[_named(base, "same", zone=zone)] = [(t, 42.0) for t in times]
    for le in ("1", "1.0", "2", "inf", "+Inf", "1_0", "x", "0x1p3"):
        made[_named(base, "strange_bucket", le=le)] = _counter(random, times, resets=False)


def _named(base: Labels, name: str, **more: str) -> Labels:
    return tuple(sorted({**dict(base), "__name__": name, **more}.items()))


def _counter(random: Random, times: list[int], resets: bool = True) -> list[tuple[int, float]]:
    value, out = 0.0, []
    for at_ms in times:
        value = (
            0.0 if resets and random.random() < 0.02 else value + random.choice((0, 0, 1, 3, 0.5))
        )
        if not resets or random.random() > 0.03:
            out.append((at_ms, value))
    return out


def _sparse(random: Random, times: list[int]) -> list[tuple[int, float]]:
    odd = (math.nan, math.inf, -math.inf, STALE, 0.0, 5.0, 5.0)
    return [(t, random.choice(odd)) for t in times if random.random() < 0.3]


class Pair:
    """The oracle and our engines over the same samples: on shared time axes, and on none."""

    def __init__(self, server: Prometheus, readers: tuple[Reader, ...], end_ms: int) -> None:
        self.server, self.end_ms = server, end_ms
        self.engines = [
            QueryEngine(reader, semantics=2, subquery_step_ms=60_000) for reader in readers
        ]

    def answers(self, query: str, when: int | tuple[int, int, int]) -> Iterator[Answer | str]:
        """At one time, or from the first to the second, the third apart."""
        for engine in self.engines:
            try:
                if isinstance(when, int):
                    yield given(engine.evaluate(query, when))
                else:
                    yield given(engine.evaluate_range(query, *when))
            except QueryError:
                yield "refused"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory: Path = tmp_path_factory.mktemp("prometheus")
    end_ms = 1_700_000_000_000
    made = samples(end_ms - STEP_MS * SCRAPES)
    store = Store(retention_ms=10**12)
    rows = [(series, at_ms, value) for series, points in made.items() for at_ms, value in points]
    assert store.write(rows) == len(rows)
    with running_prometheus(directory, "--web.enable-remote-write-receiver") as server:
        remote_write(server.url, made.items())
        yield Pair(server, (store, ScatteredReader(made)), end_ms)


def expected(answer: dict[str, Any]) -> Answer | str:
    if answer["status"] != "success":
        return "refused"
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    if kind == "scalar":
        return {(): [_point(result)]}
    points = "values" if kind == "matrix" else "value"
    return {
        tuple(sorted(series["metric"].items())): [
            _point(point) for point in (series[points] if kind == "matrix" else [series[points]])
        ]
        for series in result
    }


def _point(pair: list[Any]) -> tuple[int, float]:
    return round(float(pair[0]) * 1000), float(pair[1])


def given(result: Result) -> Answer:
    value = result.value
    if isinstance(value, ScalarValue):
        return {(): [(value.at_ms, value.value)]}
    if isinstance(value, InstantVector):
        return {series: [(value.at_ms, number)] for series, number in value}
    assert isinstance(value, Matrix)
    return {
        series.labels: list(zip(series.times.tolist(), series.values.tolist(), strict=True))
        for series in value
    }


def same(ours: Answer | str, theirs: Answer | str) -> bool:
    if isinstance(ours, str) or isinstance(theirs, str):
        return ours == theirs
    return ours.keys() == theirs.keys() and all(
        len(ours[series]) == len(theirs[series])
        and all(
            a[0] == b[0] and _close(a[1], b[1])
            for a, b in zip(ours[series], theirs[series], strict=True)
        )
        for series in ours
    )


def _close(a: float, b: float) -> bool:
    return (
        a == b or math.isnan(a) and math.isnan(b) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    )


EXACT = [
    *(
        "odd",
        "-odd",
        "sum(odd)",
        "avg(odd)",
        "stddev(near)",
        "stdvar(odd)",
        "odd ^ 0.5",
        "sgn(odd)",
    ),
    *("sum by (job) (odd)", "sum_over_time(odd[5m])", "avg_over_time(odd[5m])", "rate(odd[1m])"),
    *("increase(odd[7m])", "stddev_over_time(odd[2m])", "deriv(near[5m]) > 1", "rad(odd)"),
    *("topk(3, same)", "bottomk(2, same)", "topk by (job) (1.9, odd)", "topk(3, odd)", "sort(odd)"),
    *("topk(NaN, odd)", "bottomk(-Inf, odd)", "topk(1e300, odd)", "clamp_max(odd, -0)"),
    *("clamp(odd, NaN, Inf)", "clamp_min(odd, -0)", "sinh(vector(710.2))", "deg(vector(1.7e308))"),
    *(
        'odd{zone=~".*"}',
        'odd{zone=~"line.break"}',
        'odd{zone=~"(?s)line.break"}',
        'odd{zone=~"("}',
    ),
    *(
        'odd{zone=~"(?<n>a)"}',
        'odd{zone=~"(?P<n\u00e9>a)"}',
        'odd{zone=~"\\\\C"}',
        'odd{zone=~"[a"}',
    ),
    *('label_replace(odd, "x", "${01}-$1", "zone", "(.*)")', 'label_join(odd, "a-b", "")'),
    *(
        'label_replace(odd, "x y", "", "zone", "")',
        'count_values("a b", odd)',
        "absent((no{a='b'}))",
    ),
    *('label_join(odd, "x", "", "a:b")', "histogram_count(odd)", "histogram_fraction(0, 1, odd)"),
    *(
        "histogram_quantile(0.5, strange_bucket)",
        "histogram_quantile(0.9, rate(strange_bucket[5m]))",
    ),
    *("odd + on() odd", "odd + on(job) group_left same", "same == bool on(job) group_right same"),
    *("holt_winters(near[5m], NaN, 0.5)", "holt_winters(near[5m], Inf, 0.5)", "-same or same"),
    *("holt_winters(near[5m], 1, 0.5)", "holt_winters(near[5m], 0.5, 1)"),
    *("holt_winters(near[5m], 0, 0.5)", "holt_winters(near[5m], 0.5, 0)"),
    '{__name__=~"same|near"} == bool ignoring (zone) group_left sum by (job, instance) (same)',
    *(
        "odd @ (",
        "f(1, 1h",
        '"\u00e9" + -',
        "1h1y",
    ),
    *("odd[5m x]", "odd[1m on]", "sum by @ (odd)", "round(odd, -2.5)", "odd % 0", "odd atan2 odd"),
]


@pytest.mark.parametrize("query", EXACT)
def test_values_order_signs_and_errors_are_those_of_prometheus(pair: Pair, query: str) -> None:
    answer = pair.server.get("query", query=query, time=f"{pair.end_ms / 1000:.3f}")
    for engine in pair.engines:
        try:
            ours = given(engine.evaluate(query, pair.end_ms))
        except ValueError as error:
            assert str(error) == answer["error"].removeprefix('invalid parameter "query": ')
            continue
        theirs = expected(answer)
        assert not isinstance(theirs, str), (ours, answer)
        assert same(ours, theirs), (ours, theirs)
        assert _zeros(ours) == _zeros(theirs)
        if not query.startswith("histogram_"):  # whose order is that of a map
            assert [*ours] == [*theirs]


def _zeros(answer: Answer) -> dict[Labels, list[float]]:
    """The signs of all zeros."""
    return {
        series: [math.copysign(1, value) for _, value in points if value == 0]
        for series, points in answer.items()
    }


def test_the_end_of_a_range_need_be_no_step(pair: Pair) -> None:
    times = (pair.end_ms - 600_000, pair.end_ms - 1, 60_001)
    texts = {"start": f"{times[0] / 1000:.3f}", "end": f"{times[1] / 1000:.3f}", "step": "60001ms"}
    for query in ("near @ end()", "timestamp(near @ end())", "last_over_time(near[1m] @ end())"):
        answer = expected(pair.server.get("query_range", query=query, **texts))
        assert [same(ours, answer) for ours in pair.answers(query, times)] == [True, True]


@pytest.mark.parametrize("seed", range(8))
def test_random_queries_get_the_answers_of_prometheus(pair: Pair, seed: int) -> None:
    generator, random = QueryGenerator(seed, GAUGES, COUNTERS), Random(seed)
    for _ in range(QUERIES):
        query = generator.query()
        at_ms = pair.end_ms - random.randint(0, 2_500_000)
        answer = pair.server.get("query", query=query, time=f"{at_ms / 1000:.3f}")
        for ours in pair.answers(query, at_ms):
            assert same(ours, expected(answer)), (query, at_ms, ours, answer)


@pytest.mark.parametrize("seed", range(8))
def test_random_range_queries_get_the_answers_of_prometheus(pair: Pair, seed: int) -> None:
    generator, random = QueryGenerator(1000 + seed, GAUGES, COUNTERS), Random(seed)
    for _ in range(QUERIES):
        query = generator.query()
        start_ms = pair.end_ms - 2_400_000 + random.randint(0, 60_000)
        step_ms = random.choice((15_000, 60_000, 31_000))
        times = (start_ms, start_ms + step_ms * 20, step_ms)
        texts = {name: f"{one / 1000:.3f}" for name, one in zip(NAMES, times, strict=True)}
        answer = pair.server.get("query_range", query=query, **texts)
        for ours in pair.answers(query, times):
            assert same(ours, expected(answer)), (query, times, ours, answer)
