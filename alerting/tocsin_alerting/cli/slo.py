"""`alertctl slo`: rules that page by how fast a budget of failures is used up."""

import os
import sys
from pathlib import Path

import click

from tocsin_alerting.cli.client import fail


@click.group()
def slo() -> None:
    """Make rules of service level objectives."""


@slo.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the rules to this file.  [default: standard output]",
)  # fmt: skip
@click.option(
    "--tests", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write tests of the rules to this file, for alertctl test and promtool."
    "  [default: none]",
)  # fmt: skip
def generate(file: Path, output: Path | None, tests: Path | None) -> None:
    """Write multi-window, multi-burn-rate rules for the objectives in FILE, as Sloth does.

    FILE lists them under `slos`, each with name, objective (in percent), good and total (counters).
    """
    from importlib.metadata import version

    from tocsin_alerting.rules.slo import read_slos, rules_text
    from tocsin_alerting.rules.slo_tests import tests_text
    from tocsin_alerting.yaml_document import InvalidDocument, read_text

    if tests and not output:
        raise click.UsageError("--tests needs --output: the tests name the file of the rules")
    try:
        slos = read_slos(read_text(str(file)), str(file))
    except InvalidDocument as error:
        fail(str(error))
    rules = rules_text(slos, file.name, version("tocsin"))
    if output is None:
        sys.stdout.write(rules)
        return
    _write(output, rules)
    if tests:
        from_there = os.path.relpath(output.resolve(), tests.resolve().parent)
        _write(tests, tests_text(slos, from_there, file.name))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")
    print(f"wrote {path}")
