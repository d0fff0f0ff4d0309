"""What one part says of another is true: names of metrics, commands and options in every text."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from support.metric_names import unknown
from tocsin_alerting.cli.alertctl import main as alertctl
from tocsin_alerting.cli.commands import tocsin
from tocsin_alerting.incidents.incident import Incident, TimerKind
from tocsin_alerting.incidents.muting import INHIBITED
from tocsin_alerting.incidents.silences import MAINTENANCE, SILENCE
from tocsin_alerting.incidents.timers import TIMER_RULES

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RULES = sorted((ROOT / "rules").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
TOOLS: dict[str, click.Group] = {"alertctl": alertctl, "tocsin": tocsin}
WORKER = {"serve", "fetch"}  # the worker reads its own arguments
CODE = re.compile(r"(?ms)^```\w*\n(.*?)^```|`([^`\n]+)`|^    (\S[^\n]*)")
COMMAND = re.compile(r"(?:^|[\s/|;&(])(alertctl|tocsin) ([^|;&\n)]*)")
_COMMENT = re.compile(r"(?m)(?:^|\s)#.*$")
OPTION = re.compile(r"(?:^|[\s\[])(--?[a-z][a-z.-]*)")


def _rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The tool and the words after it, of every command in a page's code."""
    for match in CODE.finditer(text):
        code = next(part for part in match.groups() if part is not None)
        for tool, rest in COMMAND.findall(_COMMENT.sub("", code.replace("\\\n", " "))):
            yield tool, rest.split()


def _resolved(tool: str, words: list[str]) -> tuple[click.Command, list[str]]:
    """The innermost command that `words` name; options of groups may stand before a command."""
    command: click.Command = TOOLS[tool]
    rest = words
    while isinstance(command, click.Group) and rest:
        while rest and rest[0].startswith("-"):
            takes_value = "=" not in rest[0] and rest[0] not in ("--help", "--version", "-h")
            rest = rest[2 if takes_value else 1 :]
        if not rest or not re.fullmatch("[a-z]+", rest[0]):
            break
        assert rest[0] in command.commands, f"{tool} {' '.join(words)}: no such command"
        if (two := " ".join(rest[:2])) in command.commands:  # incidents export
            command, rest = command.commands[two], rest[2:]
            continue
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def _options(tool: str, command: click.Command) -> set[str]:
    passed_on = tocsin.commands["up"].params if command.name == "install" else []
    every = [*TOOLS[tool].params, *command.params, *passed_on]
    return {"--help", "-h"} | {name for one in every for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    for tool, words in _commands(page.read_text()):
        command, rest = _resolved(tool, words)
        if command.name == "worker":
            assert not rest or rest[0].startswith("-") or rest[0] in WORKER, (tool, words)
            continue
        for option in OPTION.findall(" ".join(rest)):
            assert option in _options(tool, command), f"{tool} {' '.join(words)}: {option}"


def test_the_pages_name_commands_at_all() -> None:
    named = {tool for page in PAGES for tool, _ in _commands(page.read_text())}
    assert named == set(TOOLS)


def test_the_readme_or_the_docs_show_every_command() -> None:
    shown = {
        _resolved(tool, words)[0].name
        for page in PAGES
        for tool, words in _commands(page.read_text())
    }
    commands = {**tocsin.commands, **alertctl.commands}
    groups = {name for name, command in commands.items() if isinstance(command, click.Group)}
    assert set(commands) - groups <= shown
    inner = {(name, one) for name in groups for one in getattr(commands[name], "commands", {})}
    assert {one for _, one in inner} <= shown, "of each group every command"


def test_a_rule_of_the_state_machine_that_the_code_cites_is_on_the_page() -> None:
    page = (ROOT / "docs" / "incidents.md").read_text("utf-8").split("\n## Rules\n")[1]
    cells = re.findall(r"(?m)^\| (\d[\d, ]*) \|", page)
    numbers = [int(number) for cell in cells for number in re.findall(r"\d+", cell)]
    assert len(numbers) > 25 and numbers == sorted(set(numbers))
    cited = {
        int(number)
        for path in (ROOT / "alerting/tocsin_alerting/incidents").rglob("*.py")
        for words in re.findall(r"[Rr]ules? (\d[\d, toand]*)", path.read_text("utf-8"))
        for number in re.findall(r"\d+", words)
    }
    assert len(cited) > 20 and cited <= set(numbers)


def test_every_kind_of_timer_has_a_rule() -> None:
    assert set(TIMER_RULES) == set(TimerKind)


def test_the_page_names_what_mutes_an_incident() -> None:
    page = (ROOT / "docs" / "incidents.md").read_text("utf-8")
    (entry,) = re.findall(r"(?ms)^- `muted_by`: (.*?)^- ", page)
    for text in (entry, Incident.__doc__ or ""):
        assert set(re.findall(r"`([a-z]+:)[A-Z]+`", text)) == {INHIBITED, SILENCE, MAINTENANCE}


def test_every_metric_in_a_rule_or_a_dashboard_is_exported_or_recorded() -> None:
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    wrong = {name for rule in _rules() for name in unknown(rule["expr"], recorded)}
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                wrong |= unknown(target["expr"], recorded)
    assert RULES and DASHBOARDS
    assert wrong == set()


def test_every_alert_has_a_runbook_and_its_link_leads_there() -> None:
    alerts = [rule for rule in _rules() if "alert" in rule]
    assert alerts
    for rule in alerts:
        page = rule["annotations"]["runbook_url"].rpartition("/runbooks/")[2]
        assert page == rule["alert"]
        assert (ROOT / "docs" / "runbooks" / f"{page}.md").is_file()
