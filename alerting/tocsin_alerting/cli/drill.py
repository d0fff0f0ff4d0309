"""`alertctl drill`: page for real, and see who is reached."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from tocsin_alerting.cli import output, times
from tocsin_alerting.cli.answers import by
from tocsin_alerting.cli.client import AgentClient, fail

_PAUSE_SECONDS = 1.0
_ENDED = "drill_ended"
_SHOWN = frozenset(
    "step final exhausted no_one_reached suppressed muted unmuted acked unacked ack_expired"
    " assigned escalated snoozed snooze_ended commented delivered delivery_retry delivery_failed"
    " waits_for_hours slo_breach drill_ended".split()
)


@click.command()
@click.argument("severity", type=click.Choice(["P0", "P1", "P2", "P3", "P4"]))
@click.option("--policy", default="", help="Page by this policy.  [default: that of an alert]")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="Label that chooses the route, as an alert has it.  [default: none]",
)
@click.option("--for", "lasts", default="30m", show_default=True, help="When it ends by itself.")
@click.option("--note", default="", help="Note for those who are paged.  [default: none]")
@click.option("--no-wait", is_flag=True, help="Do not stay to show how it goes.")
@by
@output.format_option
@click.pass_obj
def drill(agent: AgentClient, /, severity: str, actor: str, format: str, **more: Any) -> None:
    """Page for real, marked as a drill, by the policy of SEVERITY; show who is reached.

    It escalates as an incident does, and ends when it is resolved or its time is up.
    """
    from uuid import uuid4

    body = {"severity": severity, "policy": more["policy"], "labels": _labels(more["labels"])}
    body |= {"for": more["lasts"], "note": more["note"], "by": actor, "request_id": uuid4().hex}
    with agent.post("/api/v1/drill", body) as begun:
        number = int(begun["incident"])
        if output.as_data(begun, format):
            return
        _print_begin(begun)
    if more["no_wait"]:
        return
    try:
        reached, missed = _follow(agent, number)
    except KeyboardInterrupt:
        print(f"\nthe drill goes on; end it: alertctl resolve {number}")
        return
    print(f"drill #{number} reached {', '.join(reached) or 'nobody'}")
    if missed or not reached:
        fail(f"drill #{number} did not reach {', '.join(missed) or 'anybody'}")


def _print_begin(begun: Mapping[str, Any]) -> None:
    now_ms = _now_ms()
    ends_ms = _ms(begun["ends_at"])
    print(
        f"drill #{begun['incident']}: {begun['severity']} by policy {begun['policy']}, ends by"
        f" itself at {times.clock(ends_ms, now_ms)}"
    )
    print(f"  acknowledge: alertctl ack {begun['incident']}")
    print(f"  end it:      alertctl resolve {begun['incident']}")
    rows = [
        [
            times.span(page["after_ms"]) if page["after_ms"] else "at once",
            page["reason"].replace("_", " "),
            ", ".join(_addressee(to) for to in page["to"]) or "nobody",
        ]
        for page in begun["pages"]
    ]
    print("if nobody acknowledges:")
    output.table(["AFTER", "REASON", "TO"], rows, "nobody is paged before it ends")


def _follow(agent: AgentClient, number: int) -> tuple[list[str], list[str]]:
    """Print what happens until it is over; who was reached by a page, and who was not."""
    seen, reached, failed, over = 0, dict[str, None](), dict[str, None](), False
    print("how it goes:")
    while True:
        was_over = over
        with agent.get("/api/v1/log", {"incident": str(number), "limit": "1000"}) as data:
            lines = data["entries"][seen:]
            for line in lines:
                if line["event"] in _SHOWN:
                    _print_line(line)
                if line["event"] in _ATTEMPTS and line["data"].get("reason") not in _NOTICES:
                    arrived = line["event"] == "delivered"
                    (reached if arrived else failed)[_addressee(line["data"])] = None
            seen, over = seen + len(lines), over or any(x["event"] == _ENDED for x in lines)
        if was_over:  # what its end has told people stands there too
            return [*reached], [name for name in failed if name not in reached]
        time.sleep(_PAUSE_SECONDS)


_NOTICES = ("acked", "resolved", "fired_and_resolved")
_ATTEMPTS = ("delivered", "delivery_retry", "delivery_failed")


def _print_line(line: Mapping[str, Any]) -> None:
    at = datetime.fromisoformat(line["at"]).astimezone()
    output.wrapped(f"{at:%H:%M:%S}  {line['text']}", output.width(), "  ", " " * 12)


def _addressee(to: Mapping[str, str]) -> str:
    return f"{to['contact']} by {to['receiver']}" if to.get("contact") else to["receiver"]


def _labels(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[1]:
            raise click.UsageError(f'"{pair}" is no NAME=VALUE')
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _now_ms() -> int:
    return int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
