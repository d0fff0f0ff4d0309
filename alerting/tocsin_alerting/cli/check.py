"""`alertctl check`: rule files, their unit tests and configurations, without an agent."""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin_alerting.cli.client import FAILED, LINT
from tocsin_alerting.cli.output import count
from tocsin_alerting.cli.templates import check_templates

if TYPE_CHECKING:
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.notify.own_templates import TemplateProblem
    from tocsin_alerting.promql.parser.signatures import Semantics
    from tocsin_alerting.yaml_document import Document

# As `ADVICE` of `tocsin_alerting.config.way_lint`, which `--help` need not load.
NAMED = ("single-channel", "unused-receiver", "nobody-at-hours")

semantics_option = click.option(
    "--promql.semantics",
    "semantics",
    type=click.Choice(["2", "3"]),
    default="3",
    show_default=True,
    callback=lambda _, __, value: int(value),
    help="PromQL semantics of the expressions: Prometheus 2.42 or 3.",
)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@semantics_option
@click.option(
    "--ignore", "ignored", multiple=True, type=click.Choice(NAMED),
    help="Leave out the warnings of this name, for what is meant so.  [default: none]",
)  # fmt: skip
def check(files: tuple[Path, ...], semantics: "Semantics", ignored: tuple[str, ...]) -> None:
    """Check FILES: rule files, rule unit tests or configurations, recognised by their keys.

    Without FILES, check our own packs of rules. Every problem is reported with file, line and
    column. Exit code 3 means lint only, or a valid configuration that pages nobody; notes do not
    change the exit code. For the rules of a configuration, its own promql.semantics holds.
    """
    from tocsin_alerting.bundled import rule_packs

    ours = (Path(path) for pack in rule_packs().values() for path in sorted(glob(pack)))
    chosen = files or tuple(ours)
    worst = max((_check(path, semantics, ignored) for path in chosen), key=(0, LINT, FAILED).index)
    raise SystemExit(worst)


class InvalidTexts(Exception):
    """What is wrong with templates of messages, by file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems


Checked = tuple[str, list[str]]
"""What is in a file that is right, and the lints."""


def _check(path: Path, semantics: "Semantics", ignored: Collection[str]) -> int:
    from tocsin_alerting.yaml_document import InvalidDocument

    print(f"Checking {path}")
    try:
        kind = _kind(path)
        summary, lints = kind(path, semantics)
    except (InvalidDocument, InvalidTexts) as error:
        print(f"  FAILED: {count(len(error.problems), 'problem')}", file=sys.stderr)
        _print(map(str, error.problems))
        return FAILED
    lints = [lint for lint in lints if not lint.endswith(tuple(f" ({name})" for name in ignored))]
    word = "warning" if kind is _configuration else "lint"
    print(f"  SUCCESS: {summary}" + (f", {count(len(lints), word)}" if lints else ""))
    _print(f"{lint} ({word})" for lint in lints)
    return LINT if lints else 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}", file=sys.stderr)


def _kind(path: Path) -> "Callable[[Path, Semantics], Checked]":
    """By the first key that is known or nearly so. What is no YAML is taken for a rule file, whose
    reader says why."""
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.yaml_document import InvalidDocument, parse, read_text

    try:
        data = parse(read_text(str(path)), str(path)).data
    except InvalidDocument:
        return _rules
    keys = set(data) if isinstance(data, dict) else set()
    kinds = {**dict.fromkeys(Config.model_fields, _configuration), **_TELLING}
    for telling in _TELLING:
        if telling in keys:
            return kinds[telling]
    if sure := keys & set(kinds):
        return kinds[min(sure)]
    near = (get_close_matches(key[:100], kinds, n=1, cutoff=0.6) for key in sorted(keys)[:100])
    return next((kinds[candidate[0]] for candidate in near if candidate), _unclear)


def _unclear(path: Path, _: "Semantics") -> Checked:
    """None of its keys says what it is to be."""
    from tocsin_alerting.rules.yaml_reader import kind_name
    from tocsin_alerting.yaml_document import InvalidDocument, parse, read_text

    document = parse(read_text(str(path)), str(path))
    others = "unit tests (`tests`) and a configuration (`receivers`, `rule_files`, ...)"
    if document.data in (None, {}):
        return f"nothing in it, which is right for a rule file (`groups`), {others}", []
    if isinstance(document.data, dict):
        problem = f"no key of a rule file (`groups`), {others}; add the one that is meant"
    else:
        problem = f"a rule file must be a mapping, not {kind_name(document.data)}; so must {others}"
    raise InvalidDocument([document.problem((), problem)])


def _configuration(path: Path, _: "Semantics") -> Checked:
    from tocsin_alerting.agent_access import access_words
    from tocsin_alerting.config.calendars import calendar_reader
    from tocsin_alerting.config.elsewhere import stray_entries
    from tocsin_alerting.config.link_reach import resolves_in_time
    from tocsin_alerting.config.load import incident_config, load
    from tocsin_alerting.config.oncall_lint import policy_notes
    from tocsin_alerting.config.paging import nobody_paged, notes, refused_webhooks, warnings
    from tocsin_alerting.config.way_lint import advice
    from tocsin_alerting.notify.secret import Vault
    from tocsin_alerting.startup import rule_files
    from tocsin_alerting.yaml_document import file_text, parse, read_text

    config = load(path)  # when it is wrong, this tells what is wrong in its rule files as well
    document = parse(read_text(str(path)), str(path))
    files, wrong = check_templates(config)
    if wrong:
        raise InvalidTexts([_at_its_key(problem, config, document) for problem in wrong])
    vault = Vault(os.environ, file_text)
    receivers = count(len(config.receivers), "receiver")
    policies = count(len(config.policies), "policy", "policies")
    rules = rule_files(config)
    summary = f"{receivers}, {policies}, {count(len(rules), 'rule file')}"
    summary += f", {count(files, 'template')}" if files else ""
    on_policies = [] if nobody_paged(config) else policy_notes(incident_config(config))
    exposed = access_words(config, ())
    said = filter(None, (*notes(config, resolves=resolves_in_time), *on_policies, exposed))
    _print(f"{note} (note)" for note in said)
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the command line's own clock)
    reader = calendar_reader(config, keep=False)
    calendars = reader.read(now_ms)
    refused = refused_webhooks(config, vault)
    placed = {text: _at_its_url(name, text, document) for name, text in refused.items()}
    warned = [placed.get(text, text) for text in warnings(config, vault, now_ms, calendars)]
    groups = [group for file in rules for group in file.groups]
    paging = [*reader.problems, *warned, *stray_entries(config.group_datasources, groups)]
    advised = [f"{text} ({name})" for name, text in advice(config, vault, now_ms, calendars)]
    return summary, [*paging, *advised, *_lost_addressees(path, config)]


def _at_its_key(problem: "TemplateProblem", config: "Config", document: "Document") -> str:
    """What is wrong with the directory itself is wrong where the configuration names it."""
    if problem.path != str(config.templates):
        return str(problem)
    return str(document.problem(("templates",), f"templates: {problem}; correct the path"))


def _at_its_url(name: str, text: str, document: "Document") -> str:
    section = document.data["receivers"][name]
    key = next((key for key in ("url", "url_file", "url_env") if key in section), "type")
    return str(document.problem(("receivers", name, key), text))


def _lost_addressees(path: Path, config: "Config") -> Iterator[str]:
    """Incidents that run now and tell somebody who is not in this file."""
    from tocsin_alerting.config.load import incident_config
    from tocsin_alerting.incidents.journal.sqlite import open_incidents
    from tocsin_alerting.incidents.readdressing import (
        current_policy,
        lost_recipients,
        recipient_names,
    )

    settings = incident_config(config)
    for incident in open_incidents(Path(config.storage.path) / "incidents.db"):
        if lost := lost_recipients(incident, settings):
            first = current_policy(incident, settings).steps[0].notify
            yield (
                f"{path}: incident #{incident.number} [{incident.severity.value}] is running and"
                f" tells {recipient_names(lost)}, not in this file; with it, its first step tells"
                f" {recipient_names(first)}"
            )


def _tests(path: Path, semantics: "Semantics") -> Checked:
    from tocsin_alerting.incident_test.file_run import check_file
    from tocsin_alerting.yaml_document import read_text

    tests = check_file(read_text(str(path)), str(path), semantics)
    return f"{count(tests, 'unit test')} found; `alertctl test` runs them", []


def _rules(path: Path, semantics: "Semantics") -> Checked:
    from tocsin_alerting.promql.functions.table import refuse_unsupported as check_expr
    from tocsin_alerting.rules.rule_file import read
    from tocsin_alerting.yaml_document import read_text

    file = read(read_text(str(path)), str(path), check_expr, semantics)
    rules = sum(len(group.rules) for group in file.groups)
    return f"{count(rules, 'rule')} found", [str(lint) for lint in file.lints]


_TELLING: "Mapping[str, Callable[[Path, Semantics], Checked]]" = {"groups": _rules, "tests": _tests}
"""The keys that say of a file what it is, whatever else is in it."""
