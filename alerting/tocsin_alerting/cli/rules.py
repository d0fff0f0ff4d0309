"""`alertctl rules`: the rule groups and rules that the agent evaluates, and how they fare."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

from tocsin_alerting.cli import agent_names, output, times
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.units import human

STATES = ("firing", "pending", "unknown", "inactive")  # the worst first
_HEALTH = ("err", "unknown", "ok")


@click.command(epilog="Example: alertctl rules --state firing --state pending")
@click.option("--group", "groups", multiple=True, metavar="NAME",
    shell_complete=agent_names.rule_groups,
    help="Only this rule group; may be repeated.  [default: all]")  # fmt: skip
@click.option("--file", "files", multiple=True, metavar="PATH",
    shell_complete=agent_names.rule_files,
    help="Only groups of this rule file, as the list writes it; may be repeated."
    "  [default: all]")  # fmt: skip
@click.option("--rule", "--alert", "names", multiple=True, metavar="NAME",
    shell_complete=agent_names.rules,
    help="Only rules of this name; may be repeated.  [default: all]")  # fmt: skip
@click.option("--type", "kind", type=click.Choice(["alert", "record"]),
    help="Only alerting or only recording rules.  [default: both]")  # fmt: skip
@click.option("--state", "states", multiple=True, type=click.Choice(STATES),
    help="Only alerting rules in this state; may be repeated.  [default: all]")  # fmt: skip
@output.format_option
@click.pass_obj
def rules(
    agent: AgentClient,
    groups: Sequence[str],
    files: Sequence[str],
    names: Sequence[str],
    kind: str | None,
    states: Sequence[str],
    format: str,
) -> None:
    """List rules with state, health and last evaluation, those that fail first, and their groups.

    The API has no parameter for --state: the choice is made here, for programs too.
    """
    asked = {"rule_group[]": groups, "file[]": files, "rule_name[]": names, "type": kind or ()}
    with agent.get("/api/v1/rules", {name: value for name, value in asked.items() if value}) as all:
        data = {**all, "groups": _in_state(all["groups"], states)} if states else all
        if not output.as_data(data, format):
            _print(data["groups"], output.width(format))


def _in_state(groups: Iterable[dict[str, Any]], states: Sequence[str]) -> list[dict[str, Any]]:
    """The rules that are in one of them, in their groups; a group without any is left out."""
    cut = ({**group, "rules": [r for r in group["rules"] if r.get("state") in states]}
           for group in groups)  # fmt: skip
    return [group for group in cut if group["rules"]]


def _print(groups: Sequence[dict[str, Any]], columns: int) -> None:
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    evaluated = f"EVALUATED ({times.zone_name(now_ms)})"
    every = [(group, rule) for group in groups for rule in group["rules"]]
    rows = [
        (_rule_cells(group, rule, now_ms), _troubles(rule))
        for group, rule in sorted(every, key=lambda one: _rank(one[1]))
    ]
    header = ["STATE", "HEALTH", evaluated, "TOOK", "GROUP", "RULE"]
    output.listing(header, rows, "no rules", columns)
    if groups:
        print()
        header = ["GROUP", "STATE", "HEALTH", "RULES", "EVERY", evaluated, "TOOK", "FILE"]
        output.table(header, [_group_cells(group, now_ms) for group in groups], "", columns)


def _rank(rule: dict[str, Any]) -> tuple[int, int]:
    """What cannot be evaluated before what fires: nobody hears of it otherwise."""
    return _HEALTH.index(rule["health"]), _state_rank(rule)


def _state_rank(rule: dict[str, Any]) -> int:
    return STATES.index(rule["state"]) if "state" in rule else len(STATES)


def _rule_cells(group: dict[str, Any], rule: dict[str, Any], now_ms: int) -> list[str]:
    """A recording rule has no state."""
    state = rule.get("state", "-")
    return [state, rule["health"], *_evaluation(rule, now_ms), group["name"], rule["name"]]


def _troubles(rule: dict[str, Any]) -> list[str]:
    error = rule.get("lastError", "")
    warnings = [f"warning: {warning}" for warning in rule.get("warnings", ())]
    return [*([f"last error: {error}"] if error else []), *warnings]


def _group_cells(group: dict[str, Any], now_ms: int) -> list[str]:
    """State and health are the worst of its rules."""
    members = group["rules"]
    worst = min(members, key=_state_rank)["state"] if any("state" in r for r in members) else "-"
    health = min((rule["health"] for rule in members), key=_HEALTH.index, default="-")
    every = human(group["interval"], "seconds")
    took = _evaluation(group, now_ms)
    return [group["name"], worst, health, str(len(members)), every, *took, group["file"]]


def _evaluation(one: dict[str, Any], now_ms: int) -> tuple[str, str]:
    """When it was, and how long it took; Go's zero time is never."""
    at = datetime.fromisoformat(one["lastEvaluation"])
    if at.year == 1:
        return "never", "-"
    clock = times.clock(round(1000 * at.timestamp()), now_ms)
    return clock, human(one["evaluationTime"], "seconds")
