"""What a plot is drawn on: braille dots in colours, or one ASCII mark a character."""

from dataclasses import dataclass, field
from itertools import groupby

import click

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of U+2800's dots: four rows of two (Unicode, Braille Patterns)."""
_COLOURS = (
    "green", "yellow", "bright_blue", "magenta", "cyan", "red", "bright_black", "bright_magenta",
)  # fmt: skip
MARKS = "*+ox#@%&=abcdefghijklmnpqrstuvwyz"
"""One a pen, in the order of the pens."""


def inked(text: str, pen: int) -> str:
    """In the colour of a pen; there are fewer colours than pens."""
    return click.style(text, fg=_COLOURS[pen % len(_COLOURS)])


@dataclass(slots=True)
class Canvas:
    """`columns` times `rows` characters; what is drawn later covers what was there.

    A point is (x, y) from the upper left, in dots: two to a column and four to a row, or, when it
    is `plain`, one to either.
    """

    columns: int
    rows: int
    plain: bool
    _bits: dict[tuple[int, int], int] = field(default_factory=dict)
    _pens: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def across(self) -> int:
        return self.columns * (1 if self.plain else 2)

    @property
    def down(self) -> int:
        return self.rows * (1 if self.plain else 4)

    def line(self, start: tuple[int, int], end: tuple[int, int], pen: int) -> None:
        """From point to point, both of them included."""
        (x0, y0), (x1, y1) = start, end
        steps = max(abs(x1 - x0), abs(y1 - y0)) or 1
        for at in range(steps + 1):
            self._dot(x0 + round((x1 - x0) * at / steps), y0 + round((y1 - y0) * at / steps), pen)

    def _dot(self, x: int, y: int, pen: int) -> None:
        row, dot_row = (y, 0) if self.plain else divmod(y, 4)
        column, dot_column = (x, 0) if self.plain else divmod(x, 2)
        cell = row, column
        self._bits[cell] = self._bits.get(cell, 0) | _DOTS[dot_row][dot_column]
        self._pens[cell] = pen

    def lines(self) -> list[str]:
        """Row by row, from the top; nothing follows the last mark of a row."""
        return [self._row(row) for row in range(self.rows)]

    def _row(self, row: int) -> str:
        used = [column for column in range(self.columns) if (row, column) in self._bits]
        cells = [(row, column) for column in range(max(used, default=-1) + 1)]
        runs = groupby(cells, lambda cell: self._pens.get(cell, -1))
        return "".join(self._run(list(run), pen) for pen, run in runs)

    def _run(self, cells: list[tuple[int, int]], pen: int) -> str:
        if pen < 0:
            return " " * len(cells)
        if self.plain:
            return MARKS[pen % len(MARKS)] * len(cells)
        return inked("".join(chr(0x2800 + self._bits[cell]) for cell in cells), pen)
