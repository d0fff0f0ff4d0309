"""What a rule asks of the engine, and what a template's `query` function asks through it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.result import InstantVector, Result, ScalarValue
from tocsin_alerting.rules.template_data import QueryRows


class InstantQuerier(Protocol):
    """PromQL on the embedded store or on somebody else's."""

    async def instant(self, query: str | Expr, at_ms: int, /) -> Result:
        """Raises when the query cannot be evaluated."""
        ...


class EngineUnreachable(Exception):
    """An engine elsewhere gave no answer that says anything about the query; no rule is at fault.
    `timed_out`: it may be that this query alone took too long."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class NotAVector(ValueError):
    """The result is text or a range vector, in Prometheus's words."""

    def __init__(self) -> None:
        super().__init__("rule result is not a vector or scalar")


def rows(result: Result) -> QueryRows:
    """The samples of a vector; a scalar is one sample without labels. Raises NotAVector."""
    value = result.value
    if isinstance(value, InstantVector):
        return list(value)
    if isinstance(value, ScalarValue):
        return [((), value.value)]
    raise NotAVector


def query_at(engine: InstantQuerier, at_ms: int) -> Callable[[str], Awaitable[QueryRows]]:
    """The `query` function of templates at `at_ms`."""

    async def query(text: str) -> QueryRows:
        return rows(await engine.instant(text, at_ms))

    return query
