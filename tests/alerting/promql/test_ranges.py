"""The short cut of a range function gives what the function gives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from tocsin_alerting.promql.eval.annotations import Annotations
from tocsin_alerting.promql.eval.context import Context, Steps
from tocsin_alerting.promql.eval.frame import Grid
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.promql.eval.ranges import RangeFunction, RangeVector, WindowEdges, over_windows
from tocsin_alerting.promql.eval.window import Window, WindowBounds
from tocsin_alerting.promql.functions.table import FUNCTIONS
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import ABSENT, Floats, Ints

SHORT = {
    name: function
    for name, function in FUNCTIONS.items()
    if isinstance(function, RangeFunction) and function.ends is not None
}
numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
columns = st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=6)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("semantics", [2, 3])
@given(cells=columns, start=st.integers(0, 30_000), gap=st.integers(1, 20_000))
def test_the_ends_of_a_window_give_the_same_as_all_of_it(
    name: str, semantics: int, cells: list[list[float]], start: int, gap: int
) -> None:
    function = SHORT[name]
    values = np.array(cells)
    if function.rising:
        values = np.sort(values, axis=0)
    times = start + gap * np.arange(len(values), dtype=np.int64)[:, None]
    end_ms = int(times[-1, 0]) + 5_000
    span = WindowBounds(end_ms, end_ms, end_ms - start + 4_000, 3 if semantics == 3 else 2)
    with np.errstate(all="ignore"):
        whole, has = function.answer(Window(values, times, None, span), [])
        assert function.ends is not None
        short, has_short = function.ends(_ends(values, times, span))
    everywhere = np.ones(3, np.bool_)
    has = everywhere if has is None else has
    assert (has == (everywhere if has_short is None else has_short[0])).all()
    assert np.allclose(whole[has], short[0][has], rtol=1e-12, atol=0)


def _ends(values: Floats, times: Ints, span: WindowBounds) -> WindowEdges:
    """One window of them all."""
    return WindowEdges(
        values[:1],
        values[-1:],
        times[:1],
        times[-1:],
        np.array([[len(values)]]),
        np.array([[span.start_ms]]),
        np.array([[span.end_ms]]),
        span.range_ms,
        span.semantics,
    )


ANYWHERE = {
    name: function
    for name, function in FUNCTIONS.items()
    if isinstance(function, RangeFunction) and function.anywhere
}
PARAMETERS = {"quantile_over_time": [0.7], "double_exponential_smoothing": [0.3, 0.6]}
PARAMETERS["holt_winters"] = PARAMETERS["double_exponential_smoothing"]
holes = st.sampled_from([ABSENT, float("nan")])


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize("semantics", [2, 3])
@settings(max_examples=examples(25), deadline=None)
@given(
    cells=st.lists(st.lists(numbers | holes, min_size=3, max_size=3), min_size=4, max_size=40),
    gaps=st.lists(st.integers(1, 9_000), min_size=40, max_size=40),
    range_ms=st.integers(5_000, 60_000),
    step_ms=st.integers(1_000, 60_000),
    varies=st.booleans(),
)
def test_windows_give_together_what_each_gives_alone(
    name: str,
    semantics: Semantics,
    cells: list[list[float]],
    gaps: list[int],
    range_ms: int,
    step_ms: int,
    varies: bool,
) -> None:
    times = np.cumsum(gaps[: len(cells)])
    steps = Steps(int(times[0]), step_ms, int(times[-1]) + 20_000)
    frame = Grid(times, np.array(cells))
    spans = [WindowBounds(at, at, range_ms, semantics) for at in steps.times.tolist()]
    series = LabelSets(tuple((("n", str(number)),) for number in range(3)))
    factors = np.linspace(1.0, 0.5 if varies else 1.0, steps.count)
    parameters = [factors * parameter for parameter in PARAMETERS.get(name, ())]
    context = Context(
        Store(), steps, steps, semantics, 300_000, 60_000, Budget(), Annotations("")
    )  # fmt: skip
    given_ = RangeVector(series, [frame], spans)
    with np.errstate(all="ignore"):
        together = over_windows(ANYWHERE[name], given_, parameters, context)
        alone = over_windows(replace(ANYWHERE[name], anywhere=False), given_, parameters, context)
    assert (together.present_mask == alone.present_mask).all()
    mine, theirs = together.values[together.present_mask], alone.values[alone.present_mask]
    assert (mine.view(np.int64) == theirs.view(np.int64)).all()


def test_most_of_what_looks_at_samples_alone_is_answered_together() -> None:
    assert {"avg_over_time", "max_over_time", "irate", "changes", "deriv"} <= ANYWHERE.keys()
    assert not {"rate", "predict_linear"} & ANYWHERE.keys()
