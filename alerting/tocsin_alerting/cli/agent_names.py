"""What the agent has names for, as a shell completes them: incidents with their titles, silences,
people, schedules, receivers, alerts and the rest.

Types and callbacks of click parameters. Completing itself is imported when a shell asks.
"""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    IntParam = click.ParamType[int]
else:
    IntParam = click.ParamType  # before click 8.3 it takes no type

Get = Callable[..., Any]
Named = Iterator[tuple[str, str]]
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def completer(names: Callable[[Get], Named]) -> Completer:
    """For `shell_complete` of a parameter."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        from tocsin_alerting.cli.completion import asked_names

        return asked_names(names, context, incomplete)

    return complete


class Number(IntParam):
    """`42`, or `#42` as everything prints it."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).removeprefix("#")
        if not re.fullmatch("[0-9]{1,15}", text) or int(text) == 0:
            self.fail(f"{value!r} is not an incident number; write 42 or '#42'", param, ctx)
        return int(text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        return completer(_incidents)(ctx, param, incomplete)


def _incidents(get: Get) -> Named:
    """The open ones, the worst first; those that are over where none is."""
    listed = get("/api/v1/incidents", state="open", order="severity", limit="100")["incidents"]
    listed = listed or get("/api/v1/incidents", state="all", limit="20")["incidents"]
    for one in listed:
        yield str(one["number"]), f"{one['severity']} {one['state']} {one['title']}"


def _silences(get: Get) -> Named:
    for one in get("/api/v1/silences", state="active")["silences"]:
        yield one["id"][:8], f"{one['created_by']}: {one['comment']}"


def _windows(get: Get) -> Named:
    for one in get("/api/v1/maintenance")["windows"]:
        yield one["name"], one.get("state", "")


def _schedules(get: Get) -> Named:
    for one in get("/api/v1/oncall")["schedules"]:
        yield one["name"], f"on call: {one['now']['contact'] or 'nobody'}"


def _overrides(get: Get) -> Named:
    for one in get("/api/v1/oncall/overrides")["overrides"]:
        yield one["id"], f"{one['contact']} in {one['schedule']} until {one['until']}"


def _contacts(get: Get) -> Named:
    for name in get("/api/v1/oncall")["contacts"]:
        yield name, ""


def _receivers(get: Get) -> Named:
    for one in get("/api/v1/overview")["receivers"]:
        yield one["receiver"], one["error"] or ""


def _alerts(get: Get) -> Named:
    groups = get("/api/v1/rules", type="alert", exclude_alerts="true")["groups"]
    severities: dict[str, list[str]] = {}
    for rule in (rule for group in groups for rule in group["rules"]):
        severities.setdefault(rule["name"], []).append(rule["labels"].get("severity", ""))
    for name, several in sorted(severities.items()):
        yield name, " ".join(sorted(set(several)))


def _rule_groups(get: Get) -> Named:
    for one in _groups(get):
        yield one["name"], one["file"]


def _rule_files(get: Get) -> Named:
    for file in dict.fromkeys(one["file"] for one in _groups(get)):
        yield file, ""


def _rules(get: Get) -> Named:
    types = {rule["name"]: rule["type"] for one in _groups(get) for rule in one["rules"]}
    yield from sorted(types.items())


def _groups(get: Get) -> list[dict[str, Any]]:
    return list(get("/api/v1/rules", exclude_alerts="true")["groups"])


def _engines(get: Get) -> Named:
    for one in get("/api/v1/engines")["engines"]:
        yield one["target"], f"{one['kind']} {one['model']}"


def _heartbeats(get: Get) -> Named:
    for one in get("/api/v1/heartbeats")["heartbeats"]:
        yield one["name"], one["state"]


def _tokens(get: Get) -> Named:
    for one in get("/api/v1/tokens")["tokens"]:
        yield one["name"], one["role"]


def _label_names(get: Get) -> Named:
    for name in get("/api/v1/labels"):
        yield name, ""


silences, windows, schedules, overrides = map(
    completer, (_silences, _windows, _schedules, _overrides)
)
contacts, receivers, alerts, engines = map(completer, (_contacts, _receivers, _alerts, _engines))
rule_groups, rule_files, rules = map(completer, (_rule_groups, _rule_files, _rules))
heartbeats, tokens, label_names = map(completer, (_heartbeats, _tokens, _label_names))
SEVERITIES = ("P0", "P1", "P2", "P3", "P4")
