"""What is wrong with a query, and where."""

from tocsin_alerting.promql.parser.ast import PositionRange


class ParseError(ValueError):
    """A query that is no PromQL; its text is Prometheus's: `1:16: parse error: <message>`.

    Lines and columns count from 1, columns in bytes.
    """

    def __init__(self, message: str, span: PositionRange, query: str) -> None:
        self.message = message
        self.span = span
        self.query = query
        super().__init__(f"{place(query, span.start)}: parse error: {message}")


def place(query: str, offset: int) -> str:
    """`line:column` of a character offset; the column counts bytes of UTF-8, as Prometheus's."""
    *lines, last = query[:offset].split("\n")
    return f"{len(lines) + 1}:{len(last.encode(errors='surrogatepass')) + 1}"
