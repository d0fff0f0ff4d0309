"""`alertctl oncall`, `alertctl route`: who is on call, and who would be notified."""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from tocsin_alerting.cli import agent_names, output, times
from tocsin_alerting.cli.client import AgentClient, fail

NOBODY = "(nobody)"
_at = click.option("--at", help=f"At this time.  [default: now]  {times.FORMS}.")


@click.group()
def oncall() -> None:
    """Show who is on call; take over a shift."""


@oncall.command()
@click.argument("schedule", required=False, shell_complete=agent_names.schedules)
@_at
@output.format_option
@click.pass_obj
def show(agent: AgentClient, schedule: str | None, at: str | None, format: str) -> None:
    """Show who is on call now and next, or the shifts of SCHEDULE."""
    from_ms = _time_ms(at)
    if schedule is not None:
        path = f"/api/v1/oncall/{quote(schedule, safe='')}"
        with agent.get(path, {"from": _parameter(from_ms)} if at else {}) as data:
            if not output.as_data(data, format):
                _shifts(data)
        return
    with agent.get("/api/v1/oncall", {"at": _parameter(from_ms)} if at else {}) as data:
        if not output.as_data(data, format):
            rows = [_row(each, from_ms) for each in data["schedules"]]
            none = "no on-call schedules; add schedules to the configuration (docs/oncall.md)"
            header = ["SCHEDULE", "ON CALL", f"UNTIL ({times.zone_name(from_ms)})", "NEXT"]
            output.table(header, rows, none)


def _row(schedule: dict[str, Any], now_ms: int) -> list[str]:
    now, following = schedule["now"], schedule["next"]
    until = times.clock(_ms(now["until"]), now_ms) if now["until"] else "-"
    after = (following["contact"] or NOBODY) if following else "-"
    return [schedule["name"], now["contact"] or NOBODY, until, after]


def _shifts(schedule: dict[str, Any]) -> None:
    now_ms = _time_ms(None)
    zone = times.zone_name(now_ms)
    rows = [
        [
            times.date_and_clock(_ms(shift["from"])),
            times.date_and_clock(_ms(shift["until"])),
            shift["contact"] or NOBODY,
        ]
        for shift in schedule["shifts"]
    ]
    output.table([f"FROM ({zone})", "UNTIL", "ON CALL"], rows, "no shifts")
    for override in schedule["overrides"]:
        name = override["id"] or "configured"
        by = f" by {override['by']}" if override["by"] else ""
        comment = f": {override['comment']}" if override["comment"] else ""
        until = times.date_and_clock(_ms(override["until"]))
        output.wrapped(
            f"override {name}: {override['contact']} until {until}{by}{comment}", output.width()
        )


@oncall.command()
@click.argument("schedule", shell_complete=agent_names.schedules)
@click.argument("contact", shell_complete=agent_names.contacts)
@click.option("--from", "start", help=f"Begin at this time.  [default: now]  {times.FORMS}.")
@click.option("--until", help="End at this time.  [default: --for says how long]")
@click.option("--for", "length", help="Last for this duration, as 8h.  [default: --until]")
@click.option("--by", "actor", default="", help="Who arranges it.  [default: you]")
@click.option("--comment", default="", help="Why.  [default: none]")
@click.pass_obj
def override(
    agent: AgentClient,
    schedule: str,
    contact: str,
    start: str | None,
    until: str | None,
    length: str | None,
    actor: str,
    comment: str,
) -> None:
    """Put CONTACT on call in SCHEDULE for a time, in place of who would be."""
    from uuid import uuid4

    if (until is None) == (length is None):
        raise click.UsageError("give either --until or --for")
    body = {
        "schedule": schedule,
        "contact": contact,
        "from": _parameter(_time_ms(start)) if start else "",
        "until": _parameter(_time_ms(until)) if until else "",
        "for": length or "",
        "by": actor,
        "comment": comment,
        "request_id": uuid4().hex[:8],
    }
    with agent.post("/api/v1/oncall/overrides", body) as made:
        begin, end = (times.date_and_clock(_ms(made[name])) for name in ("from", "until"))
        words = f"{made['schedule']}: {made['contact']} is on call from {begin} to {end}"
        output.wrapped(words, output.width())
        print(f"  undo: alertctl oncall remove {made['id']}")


@oncall.command()
@click.argument("id", shell_complete=agent_names.overrides)
@click.option("--by", "actor", default="", help="Who removes it.  [default: you]")
@click.pass_obj
def remove(agent: AgentClient, id: str, actor: str) -> None:
    """Remove override ID, which `alertctl oncall show SCHEDULE` lists."""
    path = f"/api/v1/oncall/overrides/{quote(id, safe='')}/remove"
    with agent.post(path, {"by": actor}) as gone:
        print(f"override {gone['id']} removed")


@oncall.command()
@click.argument("schedule", shell_complete=agent_names.schedules)
@click.pass_obj
def export(agent: AgentClient, schedule: str) -> None:
    """Print SCHEDULE as an iCalendar file, from a week ago to 90 days ahead."""
    status, text = agent.ask("GET", f"/api/v1/oncall/{quote(schedule, safe='')}.ics")
    if status != 200:
        with agent.understood():
            fail(str(json.loads(text)["error"]))
    print(text.replace("\r\n", "\n"), end="")


@click.command()
@click.argument("labels", nargs=-1, required=True, metavar="LABEL=VALUE...")
@click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    help="Work without an agent, by this configuration.  [default: ask the agent]",
)
@_at
@output.format_option
@click.pass_obj
def route(
    agent: AgentClient, labels: tuple[str, ...], config_file: Path | None, at: str | None,
    format: str,
) -> None:  # fmt: skip
    """Show who would be notified of an alert with these labels, by what and when.

    Nothing is sent. The times are those of an alert that nobody acknowledges.
    """
    if config_file is not None:
        data = _route_by(config_file, labels, _time_ms(at))
        if not output.as_data(data, format):
            _expected(data)
        return
    asked: dict[str, str | list[str]] = {"label": list(labels)}
    if at:
        asked["at"] = _parameter(_time_ms(at))
    with agent.get("/api/v1/route", asked) as data:
        if not output.as_data(data, format):
            _expected(data)


def _route_by(config_file: Path, labels: Sequence[str], at_ms: int) -> dict[str, Any]:
    """As an agent with this configuration would answer; what was arranged by API is not in it.
    Ends the program when it is wrong."""
    from tocsin_alerting.api.http.envelope import ApiError
    from tocsin_alerting.api.tocsin.policies import forecast_json, labels_of
    from tocsin_alerting.config.calendars import calendar_reader
    from tocsin_alerting.config.load import incident_config, load
    from tocsin_alerting.incidents.forecast import forecast
    from tocsin_alerting.yaml_document import InvalidDocument

    try:
        config = load(config_file)
        wanted = labels_of(labels)
    except (InvalidDocument, ApiError) as error:
        fail(str(error))
    calendars = calendar_reader(config).read(at_ms, online=False)
    expected = forecast(wanted, at_ms, incident_config(config, calendars))
    return forecast_json(wanted, at_ms, expected)


def _expected(data: dict[str, Any]) -> None:
    if data["severity"] is None:
        print("nobody is paged: severity none")
        return
    matched = ", ".join(map(str, data["routes"]))
    by = f" by route {matched}" if matched else ""
    output.wrapped(f"{data['severity']}, policy {data['policy']}{by}", output.width())
    output.wrapped(f"incident {output.labels_text(data['group'])}", output.width())
    now_ms = _ms(data["at"])
    rows = [
        [
            times.clock(_ms(page["at"]), now_ms),
            times.span(page["after_ms"]),
            page["reason"],
            str(page["step"]),
            ", ".join(_addressee(to) for to in page["to"]),
        ]
        for page in data["pages"]
    ]
    zone = times.zone_name(now_ms)
    output.table([f"AT ({zone})", "AFTER", "REASON", "STEP", "TO"], rows, "nobody is notified")
    if not data["complete"]:
        print("and so on")


def _addressee(to: dict[str, str]) -> str:
    return f"{to['contact']} by {to['receiver']}" if to["contact"] else to["receiver"]


def _time_ms(text: str | None) -> int:
    now = time.time()  # noqa: TID251  (the reader's own clock)
    try:
        return round(1000 * (times.moment(text, now) if text else now))
    except ValueError as error:
        fail(str(error))


def _parameter(at_ms: int) -> str:
    return times.parameter(at_ms / 1000)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
