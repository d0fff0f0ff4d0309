"""Options by which one chooses incidents: severity, rule, labels, time and person."""

import time
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import click

from tocsin_alerting.cli import agent_names, times

Filters = dict[str, str | Sequence[str]]
"""Parameters of the API."""


def chosen_by(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options; the command gets what they say as `wanted`."""

    @wraps(command)
    def called(
        *arguments: Any,
        severity: Sequence[str],
        rule: str | None,
        matchers: Sequence[str],
        since: str | None,
        until: str | None,
        person: str | None,
        **others: Any,
    ) -> None:
        wanted: Filters = {
            "severity": [name.upper() for name in severity],
            "match[]": list(matchers),
            **{name: text for name, text in (("rule", rule), ("person", person)) if text},
            **time_span(since, until),
        }
        chosen = {name: value for name, value in wanted.items() if value}
        command(*arguments, wanted=chosen, **others)

    for option in reversed(_OPTIONS):
        option(called)
    return called


_OPTIONS = (
    click.option("--severity", multiple=True, metavar="SEVERITY",
        help="Only this severity, P0 to P4; may be repeated.  [default: all]"),
    click.option("--rule", metavar="ALERT", shell_complete=agent_names.alerts,
        help="Only this alert.  [default: all]"),
    click.option("--match", "matchers", multiple=True, metavar="MATCHER",
        help="Only alerts with this label, as name=\"value\"; may be repeated.  [default: all]"),
    click.option("--since", metavar="TIME",
        help="From this time on: yesterday 22:00, or how long ago.  [default: no limit]"),
    click.option("--until", metavar="TIME", help="Up to this time.  [default: now]"),
    click.option("--person", metavar="NAME", shell_complete=agent_names.contacts,
        help="Only what this person owns or did.  [default: everybody]"),
)  # fmt: skip


def time_span(since: str | None, until: str | None) -> dict[str, str]:
    """As the API takes it. Ends the program with 2 for what is no time."""
    now = time.time()  # noqa: TID251  (the reader's own clock)
    span = {}
    for name, text in (("since", since), ("until", until)):
        if text:
            span[name] = times.parameter(_usable(f"--{name}", partial(times.moment, text, now)))
    return span


def _usable(option: str, read: Callable[[], float]) -> float:
    try:
        return read()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
