"""What a query's author should know although the query has an answer; Prometheus's words."""

from tocsin_alerting.promql.ast import Span
from tocsin_alerting.promql.fault import place

WARNING = "PromQL warning: "
INFO = "PromQL info: "


class Annotations:
    """Warnings and infos of one query, each once, in the order in which they arose.

    `query` is the text that spans refer to; without one, positions count as if on one line.
    """

    def __init__(self, query: str = "") -> None:
        self._query = query
        self._texts: dict[str, None] = {}

    def warn(self, message: str, span: Span) -> None:
        self._texts[f"{WARNING}{message} ({self._place(span)})"] = None

    def inform(self, message: str, span: Span) -> None:
        self._texts[f"{INFO}{message} ({self._place(span)})"] = None

    @property
    def warnings(self) -> list[str]:
        return [text for text in self._texts if text.startswith(WARNING)]

    @property
    def infos(self) -> list[str]:
        return [text for text in self._texts if text.startswith(INFO)]

    def _place(self, span: Span) -> str:
        return place(self._query or " " * span.start, span.start)
