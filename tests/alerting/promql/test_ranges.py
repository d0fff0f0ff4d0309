"""The short cut of a range function gives what the function gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.promql.evaluation.functions import FUNCTIONS
from tocsin_alerting.promql.evaluation.ranges import Ends, RangeFunction
from tocsin_alerting.promql.evaluation.window import Span, Window
from tocsin_alerting.store.cell import Floats, Ints

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
    span = Span(end_ms, end_ms, end_ms - start + 4_000, 3 if semantics == 3 else 2)
    with np.errstate(all="ignore"):
        whole, has = function.answer(Window(values, times, None, span), [])
        assert function.ends is not None
        short, has_short = function.ends(_ends(values, times, span))
    everywhere = np.ones(3, np.bool_)
    has = everywhere if has is None else has
    assert (has == (everywhere if has_short is None else has_short[0])).all()
    assert np.allclose(whole[has], short[0][has], rtol=1e-12, atol=0)


def _ends(values: Floats, times: Ints, span: Span) -> Ends:
    """One window of them all."""
    return Ends(
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
