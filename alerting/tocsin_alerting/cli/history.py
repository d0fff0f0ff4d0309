"""`alertctl log` and `stats`: what happened, line by line, and in numbers."""

import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from tocsin_alerting.cli import output, times
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.filters import Filters, chosen_by
from tocsin_alerting.cli.incidents import NUMBER, chosen_numbers

_PAGE = 500  # lines of an answer
_FIGURES = ("opened", "reopened", "acked", "resolved", "unanswered", "false_positives", "pages")


@click.command(epilog="Example: alertctl log --since 'yesterday 22:00'")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True,
    help="Maximum number of lines, the first ones.")  # fmt: skip
@chosen_by
@output.format_option
@click.pass_obj
def log(agent: AgentClient, limit: int, format: str, wanted: Filters) -> None:
    """Say what happened, in words: the last 24 hours, or --since.

    Times are those of this machine's clock.
    """
    lines, more = _lines(agent, limit, wanted)
    if output.as_data({"entries": lines, "next": more}, format):
        return
    with agent.understood():
        _print_lines(lines, output.width(format))
    if more is not None:
        click.echo(f"there is more than these {len(lines)} lines; raise --limit", err=True)


def _lines(
    agent: AgentClient, limit: int, wanted: Filters
) -> tuple[list[dict[str, Any]], str | None]:
    lines: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None and len(lines) < limit:
        size = {"limit": str(min(_PAGE, limit - len(lines))), "cursor": cursor}
        with agent.get("/api/v1/log", {**wanted, **size}) as data:
            lines += data["entries"]
            cursor = data["next"]
    return lines, cursor


def _print_lines(lines: Sequence[dict[str, Any]], columns: int) -> None:
    """A line each, with a head where a day begins."""
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    day = ""
    for line in lines:
        at = datetime.fromisoformat(line["at"]).astimezone()
        if f"{at:%A %Y-%m-%d}" != day:
            day = f"{at:%A %Y-%m-%d}"
            print(f"{day}, times in {times.zone_name(round(at.timestamp() * 1000))}")
        number = f"#{line['incident']} {line['severity']} " if line["incident"] else ""
        text = f"{at:%H:%M:%S}  {number}{line['title']}: {line['text']}"
        text = text if line["title"] else f"{at:%H:%M:%S}  {number}{line['text']}"
        output.wrapped(text, columns or _WIDE, "", " " * 10)
    if not lines:
        click.echo(f"nothing happened up to {times.date_and_clock(now_ms)}", err=True)


_WIDE = 1_000_000


@click.command("incidents export", epilog="Example: alertctl incidents export 42 > report.md")
@click.argument("numbers", metavar="[ID...]", nargs=-1, type=NUMBER)
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True,
    help="Language of the headings and of what the agent writes.")  # fmt: skip
@click.option("-o", "--output", "format", callback=output.chosen("markdown"),
    type=click.Choice(["markdown", "table", "wide", "json", "yaml"]),
    help="Output format: Markdown, or the record as JSON or YAML.  [default: markdown]"
)  # fmt: skip
@click.pass_obj
def export(agent: AgentClient, numbers: Sequence[int], language: str, format: str) -> None:
    """Write the fault record of incidents ID..., or of the one that is open.

    What a person knows is filled in with alertctl comment ID --field NAME=TEXT.
    """
    for number in chosen_numbers(agent, numbers, "incidents export"):
        asked = {"language": language, "zone": _zone()}
        with agent.get(f"/api/v1/incidents/{number}/record", asked) as data:
            if not output.as_data(data, format):
                print(data["markdown"], end="")


def _zone() -> str:
    """This machine's zone, by the name that the agent knows; "" for the agent's own."""
    name = os.environ.get("TZ", "").removeprefix(":")
    path = os.path.realpath("/etc/localtime")
    name = name or path.partition("/zoneinfo/")[2]
    return name if "/" in name or name == "UTC" else ""


@click.command(epilog="Example: alertctl stats --since 30d --severity P0 -o csv")
@chosen_by
@click.option("-o", "--output", "format", callback=output.chosen("table"),
    type=click.Choice(["table", "wide", "json", "yaml", "csv"]),
    help="Output format: tables, the API's object as JSON or YAML, or CSV by rule."
    "  [default: table]")  # fmt: skip
@click.option("--drills", is_flag=True, help="Count drills too.")
@click.pass_obj
def stats(agent: AgentClient, format: str, wanted: Filters, drills: bool) -> None:
    """Count incidents of the last 7 days, or --since: how often, how soon answered, how noisy.

    MTTA is the mean time to acknowledge, MTTR to resolve; unanswered ended without anybody.
    """
    asked = {**wanted, "zone": _zone(), **({"drills": "true"} if drills else {})}
    with agent.get("/api/v1/stats", asked) as data:
        if output.as_data(data, format):
            return
        if format == "csv":
            output.comma_separated(_csv_rows(data))
        else:
            _print_stats(data)


def _csv_rows(data: dict[str, Any]) -> list[Sequence[str]]:
    """A row a rule."""
    names = [name for name in data["total"]]
    rows = [[rule["rule"], *_cells(rule, names)] for rule in data["rules"]]
    return [["rule", *names], *rows]


def _cells(figures: dict[str, Any], names: Sequence[str]) -> list[str]:
    return ["" if figures[name] is None else str(figures[name]) for name in names]


def _print_stats(data: dict[str, Any]) -> None:
    since, until = (datetime.fromisoformat(data[name]).timestamp() for name in ("since", "until"))
    ends = [times.date_and_clock(round(1000 * at)) for at in (since, until)]
    print(f"{ends[0]} to {ends[1]}")
    print()
    header = ["OPEN", "AGAIN", "ACKED", "ENDED", "NOBODY", "FALSE", "PAGES", "MTTA", "MTTR"]
    total = ["all", *_figures(data["total"])]
    severities = [[row["severity"], *_figures(row)] for row in data["severities"]]
    output.table(["SEVERITY", *header], [*severities, total], "")
    if data["rules"]:
        print("\nby alert, the noisiest first")
        rules = [[*_figures(row), row["rule"]] for row in data["rules"]]
        output.table([*header, "ALERT"], rules, "")
    if data["people"]:
        print("\nby person")
        people = [[p["person"], str(p["pages"]), str(p["acked"])] for p in data["people"]]
        output.table(["PERSON", "PAGES", "ACKED"], people, "")
    if data["total"]["pages"]:
        print(f"\npages by hour of the day, times in {data['zone']}")
        output.picture(_hours(data["hours"]))


def _figures(row: dict[str, Any]) -> list[str]:
    counts = [str(row[name]) for name in _FIGURES]
    return [*counts, *(_duration(row[f"mean_seconds_to_{what}"]) for what in ("ack", "resolve"))]


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else times.span(round(1000 * seconds))


def _hours(hours: Sequence[dict[str, int]]) -> Iterator[str]:
    most = max(hour["pages"] for hour in hours)
    for hour in hours:
        if hour["pages"]:
            bar = "#" * max(1, round(50 * hour["pages"] / most))
            yield f"{hour['hour']:02}:00  {bar} {hour['pages']}"
