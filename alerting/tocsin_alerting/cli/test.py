"""`alertctl test`: tests of rules and policies, and a dry run of one incident of each severity."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin_alerting.cli.check import ignore_unknown_option, semantics_option
from tocsin_alerting.cli.client import FAILED
from tocsin_alerting.cli.output import count

if TYPE_CHECKING:
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.incident_test.file_run import FileOutcome, JUnitSuite, RunOptions
    from tocsin_alerting.promql.parser.signatures import Semantics
    from tocsin_alerting.rules.rule import FilePosition
    from tocsin_alerting.rules.rule_file import RuleFileCache


def _patterns(
    context: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> "tuple[re.Pattern[str], ...]":
    try:
        return tuple(re.compile(text) for text in texts)
    except re.error as error:
        raise click.BadParameter(f"not a regular expression: {error}") from None


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=str))
@click.option("--config.file", "config_file", type=click.Path(path_type=Path),
              help="Configuration whose policies to simulate.  [default: built-in]")  # fmt: skip
@click.option("--run", "patterns", multiple=True, metavar="REGEX", callback=_patterns,
              help="Run tests whose names match; repeatable.  [default: all]")  # fmt: skip
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the results as JUnit XML to this file.  [default: none]")  # fmt: skip
@click.option("--diff", is_flag=True,
              help="Of what failed, show what differs: - was expected, + came.")  # fmt: skip
@click.option("--coverage", is_flag=True,
              help="Name the alerts that fire in no test, after all others.")  # fmt: skip
@click.option("--debug", is_flag=True,
              help="Tell when each test begins and ends, and all its samples.")  # fmt: skip
@ignore_unknown_option
@semantics_option
def test(
    files: tuple[str, ...],
    config_file: Path | None,
    patterns: "tuple[re.Pattern[str], ...]",
    junit: Path | None,
    diff: bool,
    coverage: bool,
    debug: bool,
    ignore_unknown: bool,
    semantics: "Semantics",
) -> None:
    """Run the tests of rules and of who is paged in FILES, in promtool's format.

    Without FILES, check the configuration, run the tests of the bundled rules and policies, and
    simulate one incident of each severity on a fake clock: print who would be notified of what,
    and when. Nothing is sent.
    """
    if files and config_file:
        raise click.UsageError("give --config.file or FILES: FILES test rules alone")
    from tocsin_alerting.incident_test.file_run import RunOptions
    from tocsin_exporter.clock import Clock

    clock, tell = Clock(), _on_stderr if debug else None
    config = None if files else _checked(config_file)
    if config is not None and semantics != 2:
        semantics = config.promql.semantics
    options = RunOptions(semantics, clock.monotonic, patterns, diff, tell)
    code = _run(files or _bundled_tests(), options, ignore_unknown, junit, coverage)
    if config is not None:
        _dry_run(config)
    raise SystemExit(code)


def _on_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def _run(
    files: Iterable[str],
    options: "RunOptions",
    ignore_unknown: bool,
    junit: Path | None,
    coverage: bool,
) -> int:
    from tocsin_alerting.promql.parser.types import refuse_unsupported
    from tocsin_alerting.rules.rule_file import RuleFileCache

    rule_files = RuleFileCache(refuse_unsupported, ignore_unknown)
    tested = [_tested(path, options, rule_files) for path in files]
    ok = not any(file.outcome.failures for file in tested)
    if options.patterns and ok and not any(file.outcome.outcomes for file in tested):
        names = ", ".join(pattern.pattern for pattern in options.patterns)
        print(f"no test has a name that matches {names}", file=sys.stderr)
        ok = False
    if coverage:
        _print_coverage([file.outcome for file in tested])
    return 0 if _reported(tested, junit) and ok else FAILED


def _print_coverage(outcomes: "Sequence[FileOutcome]") -> None:
    """A rule file that several tests name is one, by whatever path they do."""
    from tocsin_alerting.rules.rule import AlertingRule

    def place(at: "FilePosition") -> tuple[str, int, int]:
        return os.path.normpath(at.file), at.line, at.column

    alerts = {
        place(rule.place): f'{rule.name} (group "{group.name}")'
        for outcome in outcomes
        for file in outcome.rules
        for group in file.groups
        for rule in group.rules
        if isinstance(rule, AlertingRule)
    }
    fired = {place(at) for outcome in outcomes for at in outcome.fired}
    never = sorted(set(alerts) - fired)
    tail = "; these fire in none:" if never else ""
    every = count(len(alerts), "alert")
    print(f"Coverage: {len(alerts) - len(never)} of {every} fire in a test{tail}")
    for file, line, column in never:
        print(f"  {file}:{line}:{column}: {alerts[file, line, column]}")


def _reported(tested: "Sequence[JUnitSuite]", junit: Path | None) -> bool:
    """Whether the results could be written where they should."""
    if junit is None:
        return True
    import socket

    from tocsin_alerting.cli.junit import junit_xml

    try:
        junit.write_text(junit_xml(tested, socket.gethostname()), "utf-8")
    except OSError as error:
        print(f"cannot write {junit}: {error.strerror}", file=sys.stderr)
        return False
    return True


def _tested(path: str, options: "RunOptions", rule_files: "RuleFileCache") -> "JUnitSuite":
    """Prints what promtool would, where it would. A broken file fails, and the next one is run."""
    from tocsin_alerting.incident_test.file_run import JUnitSuite
    from tocsin_exporter.clock import Clock

    clock = Clock()
    print(f"Unit Testing:  {path}")
    file = JUnitSuite(path, _outcome(path, options, rule_files), clock.wall())
    for pattern in file.outcome.unmatched:
        print(f"  WARNING: no file match pattern {pattern}", file=sys.stderr)
    if not file.outcome.failures:
        print("  SUCCESS\n")
        return file
    print("  FAILED:", file=sys.stderr)
    for failure in file.outcome.failures:
        print(failure, file=sys.stderr)
        print()
    print()
    return file


def _outcome(path: str, options: "RunOptions", rule_files: "RuleFileCache") -> "FileOutcome":
    import asyncio

    from tocsin_alerting.incident_test.file_run import FileOutcome, run_file
    from tocsin_alerting.yaml_document import InvalidDocument, read_text

    quiet_logs()
    try:
        return asyncio.run(run_file(read_text(path), path, options, rule_files))
    except InvalidDocument as error:
        return FileOutcome((), error=str(error))


def quiet_logs() -> None:
    """What the stages of the agent say of a test is in its timeline."""
    import logging

    for name in ("tocsin", "tocsin_alerting", "tocsin_exporter"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def _bundled_tests() -> list[str]:
    from tocsin_alerting.bundled import bundled

    return sorted(map(str, (bundled("rules") / "tests").rglob("*.test.yml")))


def _checked(config_file: Path | None) -> "Config":
    """The configuration with its rule files; ends the program when one of them is wrong."""
    from tocsin_alerting.config.load import load
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


def _dry_run(config: "Config") -> None:
    import asyncio

    from tocsin_alerting.config.load import incident_config
    from tocsin_alerting.incidents.dry_run import dry_run
    from tocsin_alerting.rules.severity import Severity

    quiet_logs()
    incidents = incident_config(config)
    for severity in Severity:
        print(f"\nIncident of severity {severity}, never acknowledged, resolved at the end:")
        for line in asyncio.run(dry_run(incidents, severity)):
            print(f"  {line}")
