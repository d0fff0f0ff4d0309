"""The embedded engine as the rules ask it: rows for an instant vector or a scalar, nothing else."""

from tocsin_alerting.promql.ast import Expr
from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.result import InstantVector, ScalarValue
from tocsin_alerting.rules.scope import Rows


class WrongKind(ValueError):
    """The expression of a rule gives a string or a range vector."""

    def __init__(self) -> None:
        super().__init__("rule result is not a vector or scalar")


class RuleEngine:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def instant(self, expr: Expr, t_ms: int) -> Rows:
        """Raises WrongKind and QueryError."""
        value = (await self._engine.instant(expr, t_ms)).value
        match value:
            case InstantVector():
                return list(value)
            case ScalarValue(value=number):
                return [((), number)]
        raise WrongKind
