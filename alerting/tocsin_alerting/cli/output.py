"""How the command line prints: tables for people, the API's objects for programs."""

import csv
import io
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

import click

from tocsin_alerting.annotations import annotation_texts
from tocsin_exporter.logs import visible

FORMATS = click.Choice(["table", "json"])


Callback = Callable[[click.Context, click.Parameter, str | None], str]


def chosen(default: str) -> Callback:
    """Takes the subcommand's own choice, else the one given before it, else `default`."""

    def callback(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
        return value or context.find_root().params.get("format") or default

    return callback


format_option = click.option(
    "-o", "--output", "format", type=FORMATS, callback=chosen("table"),
    help="A table for people, or the API's object.  [default: table]",
)  # fmt: skip
data_option = click.option(
    "-o", "--output", "--format", "format", type=click.Choice(["table", "json", "csv"]),
    callback=chosen("table"),
    help="A table for people, the API's object, or CSV.  [default: table]",
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
    return sys.stdout.stream if isinstance(sys.stdout, Visible) and not to_people else sys.stdout


def picture(lines: Iterable[str]) -> None:
    """Prints what has colours; names in it must be visible already."""
    print("\n".join(lines), file=_unchanged(to_people=False))


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 rule`, `2 rules`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def as_json(data: Any) -> None:
    """The same object for a program, and nothing in it that steers a terminal."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Columns as wide as they need to be, so that `awk` and eyes both can read them."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    cells = [[one_line(cell) for cell in row] for row in (header, *rows)]
    for line in _aligned(cells):
        print(line)


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ((c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return ["  ".join(row).rstrip() for row in padded]


def listing(
    header: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Sequence[str]]],
    empty: str,
    width: int,
) -> None:
    """A table whose rows have lines of text below them; those are wrapped, so that nothing is
    wider than `width` but a word that is."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    heads = [[one_line(cell) for cell in row] for row in (header, *(cells for cells, _ in rows))]
    lines = _aligned(heads)
    print(lines[0])
    for line, (_, texts) in zip(lines[1:], rows, strict=True):
        print(line)
        for text in texts:
            wrapped(text, width, "     ")


def wrapped(text: str, width: int, indent: str = "", further: str | None = None) -> None:
    """Prints `text` in lines of at most `width`; `further` begins all but the first."""
    lines = textwrap.wrap(
        one_line(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent if further is None else further,
        break_long_words=False,
        break_on_hyphens=False,
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
