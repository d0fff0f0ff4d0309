"""An engine that answers each expression from a script: rows, or an error to raise, by time."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.result import InstantVector, Result
from tocsin_exporter.snapshot import Labels, labels

Rows = Sequence[tuple[Labels, float]]
Answer = Callable[[int], Rows]


def row(value: float, **named: str) -> tuple[Labels, float]:
    return labels(**named), value


class ScriptedEngine:
    """`script` maps the text of an expression to what it gives at a time in ms."""

    def __init__(self, script: Mapping[str, Answer]) -> None:
        self._script = {parse(text): answer for text, answer in script.items()}
        self.asked: list[tuple[Expr, int]] = []

    async def instant(self, query: str | Expr, at_ms: int, /) -> Result:
        expr = parse(query) if isinstance(query, str) else query
        self.asked.append((expr, at_ms))
        rows = self._script[expr](at_ms)
        values = np.array([value for _, value in rows], np.float64)
        return Result(InstantVector(at_ms, tuple(found for found, _ in rows), values))
