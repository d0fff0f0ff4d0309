"""A range of values as a picture of lines of text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from tocsin_alerting.cli.canvas import Canvas
from tocsin_alerting.cli.legend import Line, fitted, legend, most_important, not_drawn
from tocsin_alerting.cli.output import one_line
from tocsin_alerting.cli.times import TimeRange, ticks
from tocsin_alerting.units import unit_of, value_axis


@dataclass(frozen=True, slots=True)
class Style:
    """How a plot looks: `width` columns of the terminal (20 at least), `height` rows of curves.

    A `plain` one is in ASCII without colours. `top` is the number of series that are drawn, `unit`
    one of UNITS or None for what the metrics' names say, `zone` None for the local one.
    """

    width: int = 80
    height: int = 15
    plain: bool = True
    top: int = 8
    unit: str | None = None
    zone: tzinfo | None = None


GUTTER = 9
"""The columns left of the curves, about: the labels decide."""


def points_across(style: Style) -> int:
    """How many points of a series find a place of their own beside each other."""
    return max(2, (style.width - GUTTER) * (1 if style.plain else 2))


def plot(
    query: str, lines: Sequence[Line], window: TimeRange, step: float, style: Style
) -> list[str]:
    """The curves of the most important lines, with their axes, and a legend.

    A gap is where two points of a line are more than a step and a half apart, or the value is not a
    number; infinite values lie on the edge. No line is wider than the style says.
    """
    drawn = most_important(lines)[: style.top]
    unit = style.unit or unit_of({line.labels.get("__name__", "") for line in lines})
    body = _Picture(drawn, window, step, style, unit).lines()
    below = legend(drawn, unit, style.width, style.plain)
    left = len(lines) - len(drawn)
    if left:
        below.append(fitted(not_drawn(left, style.top), style.width))
    return [fitted(one_line(query), style.width), *body, *below]


class _Picture:
    """The curves with their axes."""

    def __init__(
        self, drawn: Sequence[Line], window: TimeRange, step: float, style: Style, unit: str
    ) -> None:
        self.window, self.step, self.style = window, step, style
        finite = [v for line in drawn for _, v in line.points if math.isfinite(v)] or [0.0]
        self.axis = value_axis(min(finite), max(finite), max(1, style.height // 4), unit)
        self.gutter = max(len(label) for _, label in self.axis)
        columns = max(1, style.width - self.gutter - 1)
        self.canvas = Canvas(columns, style.height, style.plain)
        for pen in reversed(range(len(drawn))):  # the most important covers the others
            self._curve(drawn[pen], pen)

    def lines(self) -> list[str]:
        """The curves, the axis of time, and what time it is of."""
        rows = {self._y(value) // self._row_dots: label for value, label in self.axis}
        edge, mark = ("|", "+") if self.style.plain else ("\u2502", "\u2524")
        body = [
            f"{rows.get(row, ''):>{self.gutter}}{mark if row in rows else edge}{curve}"
            for row, curve in enumerate(self.canvas.lines())
        ]
        return [*body, *self._time_axis()]

    @property
    def _row_dots(self) -> int:
        return self.canvas.down // self.canvas.rows

    def _curve(self, line: Line, pen: int) -> None:
        before: tuple[float, float, tuple[int, int]] | None = None
        for at, value in line.points:
            if math.isnan(value):
                before = None
                continue
            dot = self._x(at), self._edge(value) if math.isinf(value) else self._y(Decimal(value))
            joined = before and at - before[0] <= 1.5 * self.step and _joinable(before[1], value)
            self.canvas.line(before[2] if before and joined else dot, dot, pen)
            before = at, value, dot

    def _x(self, at: float) -> int:
        span = self.window.end - self.window.start
        share = (at - self.window.start) / span if span else 0.0
        return round(min(max(share, 0.0), 1.0) * (self.canvas.across - 1))

    def _y(self, value: Decimal) -> int:
        low, high = self.axis[0][0], self.axis[-1][0]
        return round((high - value) / (high - low) * (self.canvas.down - 1))

    def _edge(self, infinite: float) -> int:
        return 0 if infinite > 0 else self.canvas.down - 1

    def _time_axis(self) -> list[str]:
        corner, dash, mark = "+-+" if self.style.plain else "\u2514\u2500\u252c"
        columns = self.canvas.columns
        size, moments = ticks(self.window, columns // 10, self._local(self.window.start))
        form = "%H:%M:%S" if size < 60 else "%H:%M" if size < 86_400 else "%m-%d"
        axis, labels = [dash] * columns, [" "] * (columns + self.gutter + 1)
        for at in moments:
            column = self._x(at) * columns // self.canvas.across
            text = self._moment(at).strftime(form)
            first = max(0, column + self.gutter + 1 - len(text) // 2)
            room = labels[max(0, first - 1) : first + len(text)]
            if set(room) == {" "} and first + len(text) <= len(labels):
                axis[column] = mark
                labels[first : first + len(text)] = text
        return [
            " " * self.gutter + corner + "".join(axis),
            "".join(labels).rstrip(),
            fitted(self._caption(), self.style.width),
        ]

    def _caption(self) -> str:
        began, ended = self._said(self.window.start), self._said(self.window.end)
        until = ended[len("2026-01-31 ") :] if began[:10] == ended[:10] else ended
        return f"{began} to {until}, step {self.step:g}s"

    def _moment(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, UTC).astimezone(self.style.zone)

    def _local(self, at: float) -> float:
        """Seconds ahead of UTC."""
        offset = self._moment(at).utcoffset()
        return offset.total_seconds() if offset else 0.0

    def _said(self, at: float) -> str:
        return self._moment(at).isoformat(" ", "seconds")


def _joinable(before: float, value: float) -> bool:
    """No stroke leads to infinity."""
    return before == value or (math.isfinite(before) and math.isfinite(value))
