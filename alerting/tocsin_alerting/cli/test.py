"""`alertctl test`: the rules' unit tests, and one incident of each severity on a fake clock."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin_alerting.cli.client import FAILED
from tocsin_alerting.cli.output import count
from tocsin_alerting.cli.semantics import semantics_option

if TYPE_CHECKING:
    from tocsin_alerting.config import Config
    from tocsin_alerting.promql.parser.signatures import Semantics


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--config.file", "config_file", type=click.Path(path_type=Path),
              help="Whose policies to try; the defaults without it.")  # fmt: skip
@semantics_option
def test(files: tuple[Path, ...], config_file: Path | None, semantics: "Semantics") -> None:
    """Run the rule unit tests in FILES, which are promtool's.

    Without FILES: check the configuration, run the tests of the rules that come with Tocsin, and
    take one incident of each severity through the real transitions on a fake clock, to print who
    would get what and when. Nothing is sent.
    """
    if files and config_file:
        raise click.UsageError("--config.file goes with no FILES: they test rules alone")
    if files:
        raise SystemExit(_run(files, semantics))
    config = _checked(config_file)
    either = 2 if semantics == 2 else config.promql.semantics
    code = _run(_bundled_tests(), either)
    _drill(config)
    raise SystemExit(code)


def _run(files: Iterable[Path], semantics: "Semantics") -> int:
    ok = [_passes(str(path), semantics) for path in files]
    return 0 if all(ok) else FAILED


def _passes(path: str, semantics: "Semantics") -> bool:
    """Prints what promtool would, where it would. A broken file fails, and the next one is run."""
    print(f"Unit Testing:  {path}")
    failures = _failures(path, semantics)
    if not failures:
        print("  SUCCESS\n")
        return True
    print("  FAILED:", file=sys.stderr)
    for failure in failures:
        print(failure, file=sys.stderr)
        print()
    print()
    return False


def _failures(path: str, semantics: "Semantics") -> list[str]:
    import asyncio
    from functools import partial

    from tocsin_alerting.promql.functions.supported import refuse_unsupported
    from tocsin_alerting.rules.rule_test import run
    from tocsin_alerting.rules.rule_test_file import read_tests
    from tocsin_alerting.rules.rule_test_store import make_test_store
    from tocsin_alerting.yaml_document import InvalidDocument, read_text

    try:
        tests = read_tests(read_text(path), path, semantics)
        bench = partial(make_test_store, semantics=semantics)
        report = asyncio.run(run(tests, bench, refuse_unsupported))
    except InvalidDocument as error:
        return [str(error)]
    for pattern in report.unmatched:
        print(f"  WARNING: no file match pattern {pattern}", file=sys.stderr)
    return [failure.text for failure in report.failures]


def _bundled_tests() -> list[Path]:
    from tocsin_alerting.bundled import bundled

    return sorted((bundled("rules") / "tests").glob("*.yml"))


def _checked(config_file: Path | None) -> "Config":
    """The configuration with its rule files; ends the program when one of them is wrong."""
    from tocsin_alerting.config import load
    from tocsin_alerting.startup import rule_files
    from tocsin_alerting.yaml_document import InvalidDocument

    where = config_file or "the default configuration"
    try:
        config = load(config_file)
        files = rule_files(config)
    except InvalidDocument as error:
        print(f"Configuration: {where}: FAILED\n{error}", file=sys.stderr)
        raise SystemExit(FAILED) from None
    print(f"Configuration: {where}: SUCCESS, {count(len(files), 'rule file')}")
    return config


def _drill(config: "Config") -> None:
    import asyncio
    import logging

    from tocsin_alerting.config.load import incident_config
    from tocsin_alerting.incidents.dry_run import dry_run
    from tocsin_alerting.incidents.escalation_policy import Severity

    logging.getLogger("tocsin").addHandler(logging.NullHandler())  # the lines below say it all
    incidents = incident_config(config)
    for severity in Severity:
        print(f"\nIncident of severity {severity}, which nobody answers and which ends at last:")
        for line in asyncio.run(dry_run(incidents, severity)):
            print(f"  {line}")
