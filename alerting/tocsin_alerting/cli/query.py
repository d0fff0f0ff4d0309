"""`alertctl query`: PromQL on the agent's store."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, TypeVar
from urllib.parse import quote

import click

from tocsin_alerting.cli import output, samples, terminal
from tocsin_alerting.cli.canvas import MARKS
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.error_caret import with_caret
from tocsin_alerting.cli.plot import plot, points_across
from tocsin_alerting.cli.time_arguments import FORMS, TimeRange, moment, parameter, step, time_range
from tocsin_alerting.cli.units import UNITS

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
            "--end": "Until then instead of now.",
            "--start": f"From then on: {FORMS}.",
            "--since": f"So long until the end: 30m, 6h, 1d12h.  [default: {default}]",
        }.items():
            metavar = "DURATION" if name == "--since" else "TIME"
            click.option(name, metavar=metavar, help=help_text)(called)
        return called

    return decorate


def _explained(*expressions: str) -> Callable[[str], str]:
    """With several expressions nobody knows which one the place is in."""
    if len(expressions) != 1:
        return str
    return lambda message: with_caret(message, expressions[0], terminal.width())


@click.group()
def query() -> None:
    """Ask the agent's store in PromQL."""


@query.command(epilog="Example: alertctl query instant 'sum by (job) (up)' --time 90m")
@click.argument("expression")
@click.option("--time", "at", metavar="TIME", help=f"Then instead of now: {FORMS}.")
@output.data_option
@click.pass_obj
def instant(agent: AgentClient, expression: str, at: str | None, format: str) -> None:
    """The value of EXPRESSION at one moment."""
    parameters = {"query": expression}
    if at:
        parameters["time"] = parameter(_usable("--time", partial(moment, at, _now())))
    with agent.get("/api/v1/query", parameters, _explained(expression)) as data:
        if format == "json":
            output.as_json(data)
        elif format == "csv":
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
    help="Between two points; auto gives as many as find room.")  # fmt: skip
@click.option("--top", type=click.IntRange(1, len(MARKS)), default=8, show_default=True,
    help="How many series are drawn: those with the highest values.")  # fmt: skip
@click.option("--unit", type=click.Choice(list(UNITS)),
    help="What the values are of; without it the metric's name says it.")  # fmt: skip
@click.option("--utc", is_flag=True, help="Times in UTC instead of the local zone.")
@click.option("-o", "--output", "--format", "format", callback=output.chosen("plot"),
    type=click.Choice(["plot", "table", "json", "csv"]),
    help="A picture, a row a sample, the API's object, or CSV.  [default: plot]")  # fmt: skip
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
    """The values of EXPRESSION over a span of time, drawn.

    Braille dots in colours on a terminal; ASCII in a pipe, with TERM=dumb or NO_COLOR.
    """
    style = terminal.style(top, unit, utc)
    points = points_across(style) if format == "plot" else POINTS
    apart = _usable("--step", lambda: step(spacing, within, points))
    parameters = {"query": expression, "step": parameter(apart), **within.parameters()}
    with agent.get("/api/v1/query_range", parameters, _explained(expression)) as data:
        if format == "json":
            output.as_json(data)
        elif format == "csv":
            output.comma_separated(samples.csv_rows(data))
        elif format == "table":
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
@click.option("--limit", type=click.IntRange(1), help="Not more than so many.")
@output.data_option
@click.pass_obj
def series(
    agent: AgentClient, matchers: Sequence[str], within: TimeRange, limit: int | None, format: str
) -> None:
    """The series that any MATCHER selects and that had samples in a span of time."""
    parameters = {"match[]": list(matchers), **within.parameters(), **_limited(limit)}
    with agent.get("/api/v1/series", parameters, _explained(*matchers)) as listed:
        if format == "json":
            output.as_json(listed)
        elif format == "csv":
            output.comma_separated(samples.series_csv_rows(_cut(listed, limit)))
        else:
            _listed([output.labels_text(labels) for labels in _cut(listed, limit)], "no series")


@query.command(epilog="Example: alertctl query labels gpu --match '{__name__=~\"DCGM_.*\"}'")
@click.argument("name", required=False)
@click.option("--match", "matchers", multiple=True, metavar="MATCHER",
    help="Only of the series that it selects; may be given several times.")  # fmt: skip
@_within("1h")
@click.option("--limit", type=click.IntRange(1), help="Not more than so many.")
@output.format_option
@click.pass_obj
def labels(
    agent: AgentClient, name: str | None, matchers: Sequence[str], within: TimeRange,
    limit: int | None, format: str,
) -> None:  # fmt: skip
    """The names of the labels, or the values of the label NAME."""
    path = f"/api/v1/label/{quote(name, safe='')}/values" if name else "/api/v1/labels"
    parameters = {"match[]": list(matchers), **within.parameters(), **_limited(limit)}
    with agent.get(path, parameters, _explained(*matchers)) as names:
        if format == "json":
            output.as_json(names)
        else:
            _listed(_cut(names, limit), "no values" if name else "no labels")


def _limited(limit: int | None) -> dict[str, str]:
    return {"limit": str(limit)} if limit else {}


def _cut(rows: list[Any], limit: int | None) -> list[Any]:
    """Servers older than the parameter `limit` send everything."""
    if limit and len(rows) > limit:
        print(f"warning: {len(rows) - limit} more are left out (--limit)", file=sys.stderr)
    return rows[:limit]


def _listed(lines: Sequence[str], empty: str) -> None:
    """A line each, for `grep` and `wc -l`."""
    for line in lines:
        print(output.one_line(line))
    if not lines:
        print(empty, file=sys.stderr)
