"""What rules take from the engine's answers."""

import numpy as np
import pytest

from support.scripted_engine import ScriptedEngine, row
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.result import InstantVector, Matrix, Result, ScalarValue, StringValue
from tocsin_alerting.rules.instant_query import NotAVector, query_at, rows


def test_a_vector_is_its_samples_and_a_scalar_one_without_labels() -> None:
    vector = InstantVector(5, ((("a", "1"),), ()), np.array([1.0, 2.0]))
    assert rows(Result(vector)) == [((("a", "1"),), 1.0), ((), 2.0)]
    assert rows(Result(ScalarValue(5, 3.0))) == [((), 3.0)]


@pytest.mark.parametrize("value", [StringValue(5, "text"), Matrix(())])
def test_anything_else_is_refused_in_prometheuss_words(value: StringValue | Matrix) -> None:
    with pytest.raises(NotAVector, match="rule result is not a vector or scalar"):
        rows(Result(value))


async def test_a_template_asks_at_the_evaluations_time() -> None:
    engine = ScriptedEngine({"up": lambda t_ms: [row(float(t_ms))]})
    ask = query_at(engine, 7)
    assert await ask("up") == [((), 7.0)]
    with pytest.raises(ParseError):
        await ask("up{")
