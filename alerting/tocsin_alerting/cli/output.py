"""How the command line prints: tables for people, the API's objects for programs."""

import csv
import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TextIO

import click

from tocsin_alerting.annotations import annotation_texts
from tocsin_exporter.logs import visible

FORMATS = click.Choice(["table", "wide", "json", "yaml"])
_COLOURS = {
    "P0": "1;97;41",
    "P1": "1;31",
    "P2": "33",
    "P3": "36",
    "P4": "2",
    "TRIGGERED": "31",
    "ACKED": "33",
    "SNOOZED": "35",
    "RESOLVED": "32",
    "firing": "31",
    "unknown": "33",
}
_COLOURED = re.compile(rf"(?<![^ ])(?:{'|'.join(_COLOURS)})(?![^ ])")
_NARROWEST = 8  # columns of a column of a table
_MOST_COLOURED = 2  # words of a row: the severity and the state
_MOST_LINES = 10  # of a text below a row: 5,000 characters must not hide the incident below

Callback = Callable[[click.Context, click.Parameter, str | None], str]


def chosen(default: str) -> Callback:
    """Takes the subcommand's own choice, else the one given before it, else `default`."""

    def callback(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
        return value or context.find_root().params.get("format") or default

    return callback


format_option = click.option(
    "-o", "--output", "format", type=FORMATS, callback=chosen("table"),
    help="Output format: a table, a wide one, or the API's object as JSON or YAML."
    "  [default: table]",
)  # fmt: skip
data_option = click.option(
    "-o", "--output", "--format", "format", callback=chosen("table"),
    type=click.Choice(["table", "wide", "json", "yaml", "csv"]),
    help="Output format: a table, the API's object as JSON or YAML, or CSV.  [default: table]",
)  # fmt: skip


class Visible:
    """A stream for people. Names and labels come from strangers: what they hold that would steer
    the terminal is shown escaped, but for line ends and tabs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        lines = text.split("\n")
        shown = ("\t".join(map(visible, line.split("\t"))) for line in lines)
        self.stream.write("\n".join(shown))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def prepare() -> None:
    """Lines in the order in which they are printed, and none that cannot be: what a name holds
    that the terminal's encoding has not is shown escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
            setattr(sys, name, Visible(stream))


def _unchanged(to_people: bool) -> TextIO:
    """Standard output as it was, for colours of our own and for programs; `to_people`: as it is."""
    stream: TextIO = sys.stdout
    return stream.stream if isinstance(stream, Visible) and not to_people else stream


def picture(lines: Iterable[str]) -> None:
    """Prints what has colours; names in it must be visible already."""
    print("\n".join(lines), file=_unchanged(to_people=False))


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 rule`, `2 rules`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def as_data(data: Any, format: str) -> bool:
    """Prints the object for a program where `format` asks for that, with nothing in it that steers
    a terminal; else it is False."""
    if format == "json":
        print(json.dumps(data, indent=2, ensure_ascii=False))
    elif format == "yaml":
        import yaml  # takes long, and few ask for it

        print(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), end="")
    return format in ("json", "yaml")


def has_colours() -> bool:
    """Whether whoever reads it sees colours, and did not ask to go without them."""
    plain = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("NO_COLOR"))
    return sys.stdout.isatty() and not plain


def coloured(line: str) -> str:
    """Severity and state in their colours; the words stay."""
    if not has_colours():
        return line
    return _COLOURED.sub(
        lambda word: f"\x1b[{_COLOURS[word[0]]}m{word[0]}\x1b[0m", line, count=_MOST_COLOURED
    )


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    empty: str,
    columns: int | None = None,
) -> None:
    """Columns as wide as they need to be, so that `awk` and eyes both can read them. What does not
    fit the terminal goes on in further lines of its column; a wide table has no limit."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    limit = width(_format()) if columns is None else columns
    cells = [[one_line(cell) for cell in row] for row in (header, *rows)]
    picture(coloured(line) for line in _fitted(cells, limit))


def _format() -> str:
    context = click.get_current_context(silent=True)
    return str(context.params.get("format") or "") if context else ""


def _fitted(cells: Sequence[Sequence[str]], limit: int) -> Iterator[str]:
    for lines in _fitted_rows(cells, limit):
        yield from lines


def _fitted_rows(cells: Sequence[Sequence[str]], limit: int) -> Iterator[list[str]]:
    """The lines of each row; the widest columns give way, down to _NARROWEST."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while limit and sum(widths) + 2 * (len(widths) - 1) > limit and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    for row in cells:
        pieces = [
            textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]
            for cell, width in zip(row, widths, strict=True)
        ]
        lines = zip_longest(*pieces, fillvalue="")
        yield [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]


def listing(
    header: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Sequence[str]]],
    empty: str,
    width: int,
) -> None:
    """A table whose rows have lines of text below them; those are wrapped, so that nothing is
    wider than `width`, and cut where they would fill the terminal. A wide one (`width` 0) has them
    whole, in the rows."""
    if not rows or not width:
        about = [[*cells, "; ".join(texts)] for cells, texts in rows]
        table([*header, "ABOUT"], about, empty, width)
        return
    heads = [[one_line(cell) for cell in row] for row in (header, *(cells for cells, _ in rows))]
    first, *lines = _fitted_rows(heads, width)
    print("\n".join(first))
    for head, (_, texts) in zip(lines, rows, strict=True):
        picture(coloured(line) for line in head)
        for text in texts:
            wrapped(text, width, "     ", most_lines=_MOST_LINES)


def wrapped(
    text: str,
    width: int,
    indent: str = "",
    further: str | None = None,
    most_lines: int | None = None,
) -> None:
    """Prints `text` in lines of at most `width`; `further` begins all but the first. What is more
    than `most_lines` is left out, and "…" says so."""
    lines = textwrap.wrap(
        one_line(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent if further is None else further,
        break_on_hyphens=False,
        max_lines=most_lines,
        placeholder="…",
    )
    for line in lines:
        print(line)


def comma_separated(rows: Iterable[Sequence[str]]) -> None:
    """CSV as RFC 4180 has it, the line ends of this system aside; escaped only on a terminal."""
    out = _unchanged(to_people=sys.stdout.isatty())
    csv.writer(out, lineterminator="\n").writerows(rows)


def summary(annotations: Mapping[str, str]) -> str:
    """What an alert says of itself, in one text."""
    return next(iter(annotation_texts(annotations)), "")


def labels_text(labels: Mapping[str, str]) -> str:
    """`{a="b", c="d"}` without the name, as Prometheus prints them."""
    inside = ", ".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k != "__name__")
    return f"{labels.get('__name__', '')}{{{inside}}}"


def one_line(cell: str) -> str:
    """Without line breaks, and without what would steer the terminal."""
    text = " ".join(str(cell).split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def width(format: str = "table") -> int:
    """Columns; COLUMNS says otherwise, and 80 are taken where there is no terminal. 0 for a wide
    table, which has no limit."""
    if format == "wide":
        return 0
    return max(20, shutil.get_terminal_size().columns)
