"""What a rule asks of the engine, and what a template's `query` function asks through it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from tocsin_alerting.promql.ast import Expr
from tocsin_alerting.promql.parser import parse
from tocsin_alerting.rules.scope import Rows


class Engine(Protocol):
    """PromQL on the embedded store or on somebody else's."""

    async def instant(self, expr: Expr, t_ms: int) -> Rows:
        """An instant vector, or a scalar as one sample without labels; labels hold `__name__`.

        Raises on anything else, and when the query cannot be evaluated.
        """


def query_at(engine: Engine, t_ms: int) -> Callable[[str], Awaitable[Rows]]:
    """The `query` function of templates: it parses and runs a text at `t_ms`."""

    async def query(text: str) -> Rows:
        return await engine.instant(parse(text), t_ms)

    return query
