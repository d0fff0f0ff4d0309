"""`alertctl check`: rule files, their unit tests and configurations, without an agent."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin_alerting.cli.client import FAILED, LINT
from tocsin_alerting.cli.output import count
from tocsin_alerting.cli.semantics import semantics_option

if TYPE_CHECKING:
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.promql.values import Semantics


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@semantics_option
def check(files: tuple[Path, ...], semantics: "Semantics") -> None:
    """Check FILES: rules, unit tests of rules or configurations, told apart by what they hold.

    Without FILES the rules that come with Tocsin. Every problem is told with its place. The exit
    code is 3 when there is nothing worse than lint, or than a configuration that is right and
    pages nobody; a note changes no exit code. A configuration says itself whose PromQL its rules
    are.
    """
    from tocsin_alerting.bundled import bundled

    chosen = files or tuple(sorted(bundled("rules").glob("*.yml")))
    worst = max((_check(path, semantics) for path in chosen), key=(0, LINT, FAILED).index)
    raise SystemExit(worst)


Checked = tuple[str, list[str]]
"""What is in a file that is right, and the lints."""


def _check(path: Path, semantics: "Semantics") -> int:
    from tocsin_alerting.document import InvalidDocument

    print(f"Checking {path}")
    try:
        kind = _kind(path)
        said, lints = kind(path, semantics)
    except InvalidDocument as error:
        print(f"  FAILED: {count(len(error.problems), 'problem')}", file=sys.stderr)
        _print(map(str, error.problems))
        return FAILED
    word = "warning" if kind is _configuration else "lint"
    print(f"  SUCCESS: {said}" + (f", {count(len(lints), word)}" if lints else ""))
    _print(f"{lint} ({word})" for lint in lints)
    return LINT if lints else 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}", file=sys.stderr)


def _kind(path: Path) -> "Callable[[Path, Semantics], Checked]":
    """By the first key that is known or nearly so. What is no YAML is taken for a rule file, whose
    reader says why."""
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.document import InvalidDocument, parse, read_text

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
    return next((kinds[found[0]] for found in near if found), _unclear)


def _unclear(path: Path, _: "Semantics") -> Checked:
    """None of its keys says what it is to be."""
    from tocsin_alerting.document import InvalidDocument, parse, read_text
    from tocsin_alerting.rules.reading import kind

    document = parse(read_text(str(path)), str(path))
    others = "unit tests (`tests`) and a configuration (`receivers`, `rule_files`, ...)"
    if document.data in (None, {}):
        return f"nothing in it, which is right for a rule file (`groups`), {others}", []
    if isinstance(document.data, dict):
        said = f"no key of a rule file (`groups`), {others}; add the one that is meant"
    else:
        said = f"a rule file must be a mapping, not {kind(document.data)}; so must {others}"
    raise InvalidDocument([document.problem((), said)])


def _configuration(path: Path, _: "Semantics") -> Checked:
    from tocsin_alerting.config.load import load
    from tocsin_alerting.config.paging import notes, warnings
    from tocsin_alerting.document import file_text
    from tocsin_alerting.notify.secret import Vault
    from tocsin_alerting.start import rule_files

    config = load(path)  # when it is wrong, this tells what is wrong in its rule files as well
    vault = Vault(os.environ, file_text)
    receivers = count(len(config.receivers), "receiver")
    policies = count(len(config.policies), "policy", "policies")
    said = f"{receivers}, {policies}, {count(len(rule_files(config)), 'rule file')}"
    _print(f"{note} (note)" for note in notes(config))
    return said, [*warnings(config, vault), *_lost_addressees(path, config)]


def _lost_addressees(path: Path, config: "Config") -> Iterator[str]:
    """Incidents that run now and tell somebody who is not in this file."""
    from tocsin_alerting.config.load import incident_config
    from tocsin_alerting.incidents.readdressing import lost_targets, names, present_policy
    from tocsin_alerting.incidents.sqlite_journal import open_incidents

    settings = incident_config(config)
    for incident in open_incidents(Path(config.storage.path) / "incidents.db"):
        if lost := lost_targets(incident, settings):
            first = present_policy(incident, settings).steps[0].notify
            yield (
                f"{path}: incident #{incident.number} [{incident.severity.value}] is running and"
                f" tells {names(lost)}, not in this file; with it, its first step tells"
                f" {names(first)}"
            )


def _tests(path: Path, semantics: "Semantics") -> Checked:
    from tocsin_alerting.document import read_text
    from tocsin_alerting.rules.rule_test_file import read_tests

    tests = read_tests(read_text(str(path)), str(path), semantics)
    return f"{count(len(tests.tests), 'unit test')} found; `alertctl test` runs them", []


def _rules(path: Path, semantics: "Semantics") -> Checked:
    from tocsin_alerting.document import read_text
    from tocsin_alerting.promql.evaluation.coverage import check as check_expr
    from tocsin_alerting.rules.file import read

    file = read(read_text(str(path)), str(path), check_expr, semantics)
    rules = sum(len(group.rules) for group in file.groups)
    return f"{count(rules, 'rule')} found", [str(lint) for lint in file.lints]


_TELLING: "Mapping[str, Callable[[Path, Semantics], Checked]]" = {"groups": _rules, "tests": _tests}
"""The keys that say of a file what it is, whatever else is in it."""
