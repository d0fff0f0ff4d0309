"""The last hour as a drawing: what it shows, also of odd numbers, and that nobody waits for it."""

import math
import re
import threading
from typing import Any
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from support.rule_texts import alerting
from support.scattered import ScatteredReader
from tocsin_alerting.api.tocsin.answer_chart import STEP_MS, AnswerChart, HourOfValues, svg
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_exporter.snapshot import labels
from tocsin_exporter.threads import Threads

START, END = 0, 3_600_000


def drawn(*lines: list[float], limit: float | None = None, name: str = "up") -> str:
    points = [tuple((n * STEP_MS, value) for n, value in enumerate(line)) for line in lines]
    level = () if limit is None else ((START, limit), (END, limit))
    return svg(HourOfValues(START, END, tuple(points), level), name, lambda ms: f"at {ms}")


def test_a_line_and_its_limit() -> None:
    text = drawn([1.0, 2.0, 3.0], limit=2.5, name='a{b="<c>"}')
    root = ElementTree.fromstring(text)
    assert root.attrib["aria-label"] == 'a{b="<c>"}'
    assert [node.text for node in root.iter("text")] == ["3", "1", "at 0", "at 3600000", "2.5"]
    assert text.count('class="line') == 1 and text.count('class="limit"') == 1


def test_a_gap_is_a_gap_and_one_value_a_dot() -> None:
    text = drawn([1.0, math.nan, math.nan, 2.0, 3.0])
    paths = re.findall(r'class="line n0" d="([^"]*)"', text)
    assert len(paths) == 2 and paths[0].count("L") == 1 and len(set(paths[0][1:].split("L"))) == 1


def test_nothing_to_draw_is_no_drawing() -> None:
    assert drawn() == drawn([]) == drawn([math.nan, math.inf], limit=3.0) == ""


@given(st.lists(st.lists(st.floats(), max_size=120), max_size=4), st.none() | st.floats())
def test_whatever_the_numbers_are_it_is_a_drawing_within_its_frame(
    lines: list[list[float]], limit: float | None
) -> None:
    text = drawn(*lines, limit=limit)
    if not text:
        return
    ElementTree.fromstring(text)
    for path in re.findall(r'<path class="l[^"]*" d="M([^"]*)"', text):
        for pair in path.split("L"):
            x, y = map(float, pair.split())
            assert 0 <= x <= 360 and 0 <= y <= 150


TIMES = range(0, END, 15_000)
READER = ScatteredReader(
    {
        labels(__name__="heat", gpu="0", rack="3"): [(at, at / 60_000) for at in TIMES],
        labels(__name__="heat", gpu="1", rack="3"): [(at, 5.0) for at in TIMES],
        labels(__name__="most", rack="3"): [(at, 40.0) for at in TIMES],
    }
)
ALERT = {"alertname": "Hot", "gpu": "0", "severity": "P0", "team": "ml"}


def chart(monotonic: float = 0.0) -> AnswerChart:
    return AnswerChart(QueryEngine(READER), Threads(1, "charts"), lambda: monotonic)


async def test_the_series_of_the_alert_and_what_it_is_compared_with() -> None:
    hour = await chart().hour(alerting("heat > 50 and on() vector(1)"), ALERT, END)
    assert hour is not None
    (line,) = hour.lines  # the other GPU is not what the alert is about
    assert line[0][0] >= START and line[-1][1] > 55 and len(line) > 100
    assert hour.limit == ((START, 50.0), (END, 50.0))
    against = await chart().hour(alerting("heat > on(rack) most"), ALERT, END)
    assert against is not None and {value for _, value in against.limit} == {40.0}
    bare = await chart().hour(alerting("heat"), ALERT, END)
    assert bare is not None and bare.limit == () and len(bare.lines) == 1


async def test_what_has_no_answer_is_no_drawing() -> None:
    assert await chart().hour(alerting("heat + on(rack) heat > 1"), ALERT, END) is None
    hour = await chart().hour(alerting("nothing > 1"), ALERT, END)
    assert hour is not None and svg(hour, "x", str) == ""


class Counted(Threads):
    count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return super().submit(fn, *args, **kwargs)


async def test_nobody_waits_for_a_thread_that_hangs() -> None:
    threads, hangs = Counted(1, "charts"), threading.Event()
    threads.submit(hangs.wait)
    slow = AnswerChart(QueryEngine(READER), threads, lambda: 0.0, 0.01)
    asked = [await slow.hour(alerting("heat > 50"), ALERT, END) for _ in range(10)]
    assert asked == [None] * 10
    assert threads.count == 1 + 8  # whoever asks again and again leaves no pile
    hangs.set()
