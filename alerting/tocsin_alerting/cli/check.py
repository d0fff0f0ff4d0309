"""`alertctl check`: rule files, their unit tests and configurations, without an agent."""

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from tocsin_alerting.cli.client import FAILED, LINT


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check FILES: rules or configurations, told apart by what they hold.

    Without FILES the rules that come with Tocsin. Every problem is told with its place. The exit
    code is 3 when there is nothing worse than lint.
    """
    from tocsin_alerting.bundled import bundled

    chosen = files or tuple(sorted(bundled("rules").glob("*.yml")))
    worst = max((_check(path) for path in chosen), key=(0, LINT, FAILED).index)
    raise SystemExit(worst)


def _check(path: Path) -> int:
    from tocsin_alerting.document import InvalidDocument

    print(f"Checking {path}")
    try:
        said, lints = _configuration(path) if _is_configuration(path) else _rules(path)
    except InvalidDocument as error:
        print(f"  FAILED: {len(error.problems)} problems", file=sys.stderr)
        _print(map(str, error.problems))
        return FAILED
    print(f"  SUCCESS: {said}" + (f", {len(lints)} lints" if lints else ""))
    _print(f"{lint} (lint)" for lint in lints)
    return LINT if lints else 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}", file=sys.stderr)


def _is_configuration(path: Path) -> bool:
    """A file of which nothing can be told is taken for a rule file, and its reader says why."""
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.document import InvalidDocument, parse

    try:
        data = parse(path.read_text(encoding="utf-8"), str(path)).data
    except (OSError, UnicodeDecodeError, InvalidDocument):
        return False
    keys = set(data) if isinstance(data, dict) else set()
    return "groups" not in keys and bool(keys & set(Config.model_fields))


def _configuration(path: Path) -> tuple[str, list[str]]:
    from tocsin_alerting.config.load import load
    from tocsin_alerting.start import rule_files

    config = load(path)
    rules = rule_files(config)
    count = len(config.receivers)
    return f"{count} receivers, {len(config.policies)} policies, {len(rules)} rule files", []


def _rules(path: Path) -> tuple[str, list[str]]:
    from tocsin_alerting.promql.evaluation.coverage import check as check_expr
    from tocsin_alerting.rules.file import load

    files = load([str(path)], check_expr)
    count = sum(len(group.rules) for file in files for group in file.groups)
    return f"{count} rules found", [str(lint) for file in files for lint in file.lints]
