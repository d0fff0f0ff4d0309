"""What stands below a plot: each series with its last, lowest, highest and average value."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tocsin_alerting.cli.canvas import MARKS, inked
from tocsin_alerting.cli.output import labels_text, one_line
from tocsin_alerting.units import human

HEADER = ("LAST", "MIN", "MAX", "AVG")
_STROKE = "\u2501\u2501"
_LEAST_WIDTH = 60
"""Where a row of the four values and a name that says something fit."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series of an answer: its points are (Unix seconds, value), in the order of time."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    def summary(self) -> tuple[float, float, float, float]:
        """The last value, and the lowest, highest and average of those that are numbers."""
        values = [value for _, value in self.points if not math.isnan(value)]
        if not values:
            return math.nan, math.nan, math.nan, math.nan
        low, high = min(values), max(values)
        average = sum(value / len(values) for value in values)  # no sum overflows
        return self.points[-1][1], low, high, min(max(average, low), high)


def most_important(lines: Sequence[Line]) -> list[Line]:
    """Those that were the highest come first; those that are never a number, last."""

    def depth(line: Line) -> tuple[bool, float]:
        highest = line.summary()[2]
        return math.isnan(highest), -highest

    return sorted(lines, key=depth)


def legend(drawn: Sequence[Line], unit: str, width: int, plain: bool) -> list[str]:
    """One row a line, by its pen, with the labels that tell it from the others."""
    if not drawn:
        return []
    shared = _shared(drawn)
    own = [
        one_line(labels_text({k: v for k, v in line.labels.items() if k not in shared}))
        for line in drawn
    ]
    values = [[human(value, unit) for value in line.summary()] for line in drawn]
    pens = [
        f"{MARKS[pen % len(MARKS)] if plain else inked(_STROKE, pen)} " for pen in range(len(drawn))
    ]
    heading = [fitted(f"all {one_line(labels_text(shared))}", width)] if shared else []
    rows = _wide if width >= _LEAST_WIDTH else _narrow
    return heading + rows(pens, values, own, width - (2 if plain else 3))


def not_drawn(left: int, top: int) -> str:
    """What is said of the series that found no place."""
    return f"{left} more series; only the {top} highest are plotted (--top)"


def _shared(drawn: Sequence[Line]) -> dict[str, str]:
    """The labels that all of several lines have with one value."""
    if len(drawn) < 2:
        return {}
    pairs = set.intersection(*(set(line.labels.items()) for line in drawn))
    return dict(pairs)


def _wide(pens: list[str], values: list[list[str]], own: list[str], width: int) -> list[str]:
    widths = [max(map(len, column)) for column in zip(HEADER, *values, strict=True)]
    cells = [_cells(row, widths) for row in (HEADER, *values)]
    room = width - sum(widths) - 2 * len(widths)
    blank = " " * (2 if len(pens[0]) == 2 else 3)
    names = [fitted(name, room) for name in ("SERIES", *own)]
    return [f"{p}{c}{n}" for p, c, n in zip((blank, *pens), cells, names, strict=True)]


def _cells(row: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.rjust(size) + "  " for cell, size in zip(row, widths, strict=True))


def _narrow(pens: list[str], values: list[list[str]], own: list[str], width: int) -> list[str]:
    lines: list[str] = []
    for pen, row, name in zip(pens, values, own, strict=True):
        text = " ".join(f"{title.lower()} {cell}" for title, cell in zip(HEADER, row, strict=True))
        lines += [pen + fitted(name, width), *("  " + part for part in textwrap.wrap(text, width))]
    return lines


def fitted(text: str, width: int) -> str:
    """At most `width` columns of the terminal; what was cut ends in `~`."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "~" * (width > 0)
