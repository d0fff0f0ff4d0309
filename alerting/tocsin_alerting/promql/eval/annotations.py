"""What a query's author should know although the query has an answer; Prometheus's words."""

from dataclasses import dataclass
from typing import Protocol, Self

from tocsin_alerting.promql.errors import place
from tocsin_alerting.promql.parser.ast import PositionRange

WARNING = "PromQL warning: "
INFO = "PromQL info: "


class Detail(Protocol):
    """What is told behind a message, of all that it was said about; `str` gives the text."""

    def with_earlier(self, earlier: Self) -> Self: ...


@dataclass(frozen=True, slots=True)
class Occurrences:
    """How often, once it is more than that."""

    count: int = 1

    def with_earlier(self, earlier: Self) -> Self:
        return type(self)(self.count + earlier.count)

    def __str__(self) -> str:
        return f" ({self.count} occurrences)" if self.count > 1 else ""


class Annotations:
    """Warnings and infos of one query, each message once, in the order in which they arose.

    A message that arises again is told of the last place, one with a detail of the first. `query`
    is the text that spans refer to; without one, positions count as if on one line.
    """

    def __init__(self, query: str = "") -> None:
        self._query = query
        self._notes: dict[str, tuple[PositionRange, Detail | None]] = {}

    def warn(self, message: str, span: PositionRange, detail: Detail | None = None) -> None:
        self._add(WARNING + message, span, detail)

    def inform(self, message: str, span: PositionRange, detail: Detail | None = None) -> None:
        self._add(INFO + message, span, detail)

    @property
    def warnings(self) -> list[str]:
        return self._texts(WARNING)

    @property
    def infos(self) -> list[str]:
        return self._texts(INFO)

    def _add(self, text: str, span: PositionRange, detail: Detail | None) -> None:
        if detail is not None and text in self._notes:
            span, earlier = self._notes[text]
            detail = detail if earlier is None else detail.with_earlier(earlier)
        self._notes[text] = (span, detail)

    def _texts(self, kind: str) -> list[str]:
        return [
            f"{text}{detail or ''} ({self._place(span)})"
            for text, (span, detail) in self._notes.items()
            if text.startswith(kind)
        ]

    def _place(self, span: PositionRange) -> str:
        return place(self._query or " " * span.start, span.start)
