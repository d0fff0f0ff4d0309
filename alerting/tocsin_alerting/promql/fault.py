"""What is wrong with a query, and where."""

from tocsin_alerting.promql.ast import Span


class ParseError(ValueError):
    """A query that is no PromQL; its text is Prometheus's: `1:16: parse error: <message>`.

    Lines and columns count from 1, columns in characters.
    """

    def __init__(self, message: str, span: Span, query: str) -> None:
        self.message = message
        self.span = span
        self.query = query
        super().__init__(f"{place(query, span.start)}: parse error: {message}")


def place(query: str, offset: int) -> str:
    """`line:column` of a character offset."""
    before = query[:offset]
    return f"{before.count(chr(10)) + 1}:{offset - before.rfind(chr(10))}"
