"""One word of a query, and how an error message names it."""

from enum import StrEnum
from typing import NamedTuple

from tocsin_alerting.promql.ast import Span
from tocsin_alerting.promql.quoting import quote


class Kind(StrEnum):
    """The values of literal kinds are the words of error messages."""

    IDENTIFIER = "identifier"
    METRIC_IDENTIFIER = "metric identifier"
    NUMBER = "number"
    DURATION = "duration"
    STRING = "string"
    OPERATOR = "operator"
    AGGREGATOR = "aggregator"
    KEYWORD = "keyword"
    CALLABLE = "callable"  # keywords that are called: start, end, step, range, min_of, max_of
    PUNCTUATION = "punctuation"
    END = "end of input"
    ERROR = "error"


class Token(NamedTuple):
    """`name` is the one spelling of a fixed word (`sum` of `SUM`), empty for literals.

    `text` is as written; that of an ERROR is what the lexer has to say.
    """

    kind: Kind
    text: str
    start: int
    name: str = ""

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def span(self) -> Span:
        return Span(self.start, self.start + len(self.text))

    @property
    def described(self) -> str:
        """What stands here, in Prometheus's notation: `identifier "foo"`, `<op:+>`, `<by>`."""
        match self.kind:
            case Kind.END:
                return self.kind.value
            case Kind.OPERATOR:
                return f"<op:{self.text}>"
            case Kind.AGGREGATOR:
                return f"<aggr:{self.text}>"
            case Kind.KEYWORD:
                return f"<{self.text}>"
            case Kind.CALLABLE | Kind.PUNCTUATION:
                return quote(self.text)
            case Kind.IDENTIFIER | Kind.METRIC_IDENTIFIER:
                return f"{self.kind.value} {quote(self.text)}"
            case _:
                return f"{self.kind.value} {_shortened(self.text)}"


def _shortened(text: str) -> str:
    return f"{quote(text[:10])}..." if len(text.encode(errors="replace")) > 10 else quote(text)
