"""How the command line prints: tables for people, the API's objects for programs."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

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


def prepare() -> None:
    """Lines in the order in which they are printed, and none that cannot be: what a name holds
    that the terminal's encoding has not is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def count(number: int, one: str, many: str = "") -> str:
    """`1 rule`, `2 rules`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def as_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Columns as wide as they need to be, so that `awk` and eyes both can read them."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    cells = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        line = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(line).rstrip())


def comma_separated(rows: Iterable[Sequence[str]]) -> None:
    """CSV as RFC 4180 has it, the line ends of this system aside."""
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)


def age(since_ms: int | None, now_ms: int) -> str:
    """`4m ago`, by the largest unit that fits."""
    if since_ms is None:
        return "-"
    seconds = max(0, (now_ms - since_ms) // 1000)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"


def utc(at_ms: int) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def labels_text(labels: Mapping[str, str]) -> str:
    """`{a="b", c="d"}` without the name, as Prometheus prints them."""
    inside = ", ".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k != "__name__")
    return f"{labels.get('__name__', '')}{{{inside}}}"


def one_line(cell: str) -> str:
    """Without line breaks, and without what would steer the terminal."""
    text = " ".join(str(cell).split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
