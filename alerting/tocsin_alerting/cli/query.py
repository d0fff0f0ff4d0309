"""`alertctl query`: PromQL on the agent's store."""

import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC
from functools import partial, wraps
from typing import Any, TypeVar
from urllib.parse import quote

import click

from tocsin_alerting.cli import agent_names, output, samples
from tocsin_alerting.cli.canvas import MARKS
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.plot import Style, plot, points_across
from tocsin_alerting.cli.times import FORMS, TimeRange, moment, parameter, step, time_range
from tocsin_alerting.units import UNITS

_PLACE = re.compile(r"\b(\d{1,6}):(\d{1,6}): parse error")
_BEFORE = "  "


POINTS = 250
"""A series has at most so many where no plot says how many find room."""
Command = Callable[..., None]
Read = TypeVar("Read")


def _usable(option: str, read: Callable[[], Read]) -> Read:
    """What `read` gives; its ValueError is wrong usage."""
    try:
        return read()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _now() -> float:
    return time.time()  # noqa: TID251  (the reader's own clock)


def _within(default: str) -> Callable[[Command], Command]:
    """The options of a window of time, which the command takes as `within`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def called(
            *arguments: Any, start: str | None, end: str | None, since: str | None, **others: Any
        ) -> None:
            read = partial(time_range, start, end, since or (None if start else default), _now())
            within = _usable("--start, --end or --since", read)
            command(*arguments, within=within, **others)

        for name, help_text in {
            "--end": "End time, in the forms of --start.  [default: now]",
            "--start": f"Start time: {FORMS}.",
            "--since": f"How far back from --end: 30m, 6h, 1d12h.  [default: {default}]",
        }.items():
            metavar = "DURATION" if name == "--since" else "TIME"
            click.option(name, metavar=metavar, help=help_text)(called)
        return called

    return decorate


def _explained(*expressions: str) -> Callable[[str], str]:
    """With several expressions nobody knows which one the place is in."""
    if len(expressions) != 1:
        return str
    return lambda message: with_caret(message, expressions[0], output.width())


@click.group()
def query() -> None:
    """Query the agent's store with PromQL."""


@query.command(epilog="Example: alertctl query instant 'sum by (job) (up)' --time 90m")
@click.argument("expression")
@click.option("--time", "at", metavar="TIME", help=f"Evaluation time: {FORMS}.  [default: now]")
@output.data_option
@click.pass_obj
def instant(agent: AgentClient, expression: str, at: str | None, format: str) -> None:
    """Evaluate EXPRESSION at one point in time."""
    parameters = {"query": expression}
    if at:
        parameters["time"] = parameter(_usable("--time", partial(moment, at, _now())))
    with agent.get("/api/v1/query", parameters, _explained(expression)) as data:
        if output.as_data(data, format):
            return
        if format == "csv":
            output.comma_separated(samples.csv_rows(data))
        else:
            output.table(["SERIES", "VALUE"], samples.value_rows(data), "no series")


@query.command(
    "range",
    epilog="Example: alertctl query range 'rate(node_cpu_seconds_total[5m])' --since 6h --top 4",
)
@click.argument("expression")
@_within("1h")
@click.option("--step", "spacing", default="auto", show_default=True, metavar="DURATION",
    help="Resolution; auto fits the terminal.")  # fmt: skip
@click.option("--top", type=click.IntRange(1, len(MARKS)), default=8, show_default=True,
    help="Number of series to plot, those with the highest values.")  # fmt: skip
@click.option("--unit", type=click.Choice(list(UNITS)),
    help="Unit of the values.  [default: from the metric's name]")  # fmt: skip
@click.option("--utc", is_flag=True, help="Show times in UTC instead of local time.")
@click.option("-o", "--output", "--format", "format", callback=output.chosen("plot"),
    type=click.Choice(["plot", "table", "wide", "json", "yaml", "csv"]),
    help="Output format: a plot, a table, the API's object as JSON or YAML, or CSV."
    "  [default: plot]")  # fmt: skip
@click.pass_obj
def over_time(
    agent: AgentClient,
    expression: str,
    within: TimeRange,
    spacing: str,
    top: int,
    unit: str | None,
    utc: bool, format: str,
) -> None:  # fmt: skip
    """Evaluate EXPRESSION over a time range and plot it.

    Plots use coloured braille dots on a terminal; ASCII in a pipe, with TERM=dumb or NO_COLOR.
    """
    style = plot_style(top, unit, utc)
    points = points_across(style) if format == "plot" else POINTS
    apart = _usable("--step", lambda: step(spacing, within, points))
    parameters = {"query": expression, "step": parameter(apart), **within.parameters()}
    with agent.get("/api/v1/query_range", parameters, _explained(expression)) as data:
        if output.as_data(data, format):
            return
        if format == "csv":
            output.comma_separated(samples.csv_rows(data))
        elif format in ("table", "wide"):
            header = ["TIME", "SERIES", "VALUE"]
            output.table(header, samples.sample_rows(data), "no series")
        elif lines := samples.lines(data):
            output.picture(plot(expression, lines, within, apart, style))
        else:
            print("no series", file=sys.stderr)


@query.command(
    epilog="Example: alertctl query series 'llm_engine_up' '{__name__=~\"node_load.*\"}'"
)
@click.argument("matchers", metavar="MATCHER...", nargs=-1, required=True)
@_within("1h")
@click.option(
    "--limit", type=click.IntRange(1), help="Maximum number of results.  [default: no limit]"
)
@output.data_option
@click.pass_obj
def series(
    agent: AgentClient, matchers: Sequence[str], within: TimeRange, limit: int | None, format: str
) -> None:
    """List the series that match any MATCHER and have samples in the time range."""
    parameters = {"match[]": list(matchers), **within.parameters(), **_limited(limit)}
    with agent.get("/api/v1/series", parameters, _explained(*matchers)) as listed:
        if output.as_data(listed, format):
            return
        if format == "csv":
            output.comma_separated(samples.series_csv_rows(_cut(listed, limit)))
        else:
            _listed([output.labels_text(labels) for labels in _cut(listed, limit)], "no series")


@query.command(epilog="Example: alertctl query labels gpu --match '{__name__=~\"DCGM_.*\"}'")
@click.argument("name", required=False, shell_complete=agent_names.label_names)
@click.option("--match", "matchers", multiple=True, metavar="MATCHER",
    help="Only labels of matching series; may be repeated.")  # fmt: skip
@_within("1h")
@click.option(
    "--limit", type=click.IntRange(1), help="Maximum number of results.  [default: no limit]"
)
@output.format_option
@click.pass_obj
def labels(
    agent: AgentClient, name: str | None, matchers: Sequence[str], within: TimeRange,
    limit: int | None, format: str,
) -> None:  # fmt: skip
    """List label names, or the values of label NAME."""
    path = f"/api/v1/label/{quote(name, safe='')}/values" if name else "/api/v1/labels"
    parameters = {"match[]": list(matchers), **within.parameters(), **_limited(limit)}
    with agent.get(path, parameters, _explained(*matchers)) as names:
        if not output.as_data(names, format):
            _listed(_cut(names, limit), "no values" if name else "no labels")


def _limited(limit: int | None) -> dict[str, str]:
    return {"limit": str(limit)} if limit else {}


def _cut(rows: list[Any], limit: int | None) -> list[Any]:
    """Servers older than the parameter `limit` send everything."""
    if limit and len(rows) > limit:
        print(f"warning: {len(rows) - limit} more left out (--limit)", file=sys.stderr)
    return rows[:limit]


def _listed(lines: Sequence[str], empty: str) -> None:
    """A line each, for `grep` and `wc -l`."""
    for line in lines:
        print(output.one_line(line))
    if not lines:
        print(empty, file=sys.stderr)


def plot_style(
    top: int, unit: str | None = None, utc: bool = False, rows: int | None = None
) -> Style:
    """Braille in colours on a terminal that has both, and is not asked to leave them away."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    plain = not output.has_colours() or encoding != "utf8"
    height = min(20, max(8, shutil.get_terminal_size().lines - top - 8))
    return Style(output.width(), rows or height, plain, top, unit, UTC if utc else None)


def with_caret(message: str, query: str, width: int) -> str:
    """`message`, and below it the line of `query` that it names by `line:column`, with a caret.

    The two lines are at most `width` wide: of a longer one the part around the place is shown.
    The message alone when it names no place in `query`.
    """
    match = _PLACE.search(message)
    lines = query.split("\n")
    if match is None or not 1 <= int(match[1]) <= len(lines):
        return message
    line, offset = lines[int(match[1]) - 1], int(match[2]) - 1
    if not 0 <= offset <= len(line):
        return message
    shown = "".join(char if char.isprintable() else " " for char in line)
    return "\n".join([message, *_shown(shown, offset, max(10, width - len(_BEFORE)))])


def _shown(line: str, offset: int, width: int) -> tuple[str, str]:
    from rich.cells import cell_len

    first, last = max(0, offset - width), min(len(line), offset + width)
    while cell_len(line[first : offset + 1]) > max(1, width * 2 // 3):
        first += 1
    while last > offset + 1 and cell_len(line[first:last]) > width:
        last -= 1
    under = " " * cell_len(line[first:offset])
    return f"{_BEFORE}{line[first:last]}", f"{_BEFORE}{under}^"
