"""`alertctl test`: the rules' unit tests, and one incident of each severity on a fake clock."""

import asyncio
import sys
from pathlib import Path

import click

from tocsin_alerting.cli.client import FAILED


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--config.file", "config_file", type=click.Path(path_type=Path),
              help="Whose policies to try; the defaults without it.")  # fmt: skip
def test(files: tuple[Path, ...], config_file: Path | None) -> None:
    """Run the rule unit tests in FILES, which are promtool's.

    Without FILES: check the configuration, run the tests of the rules that come with Tocsin, and
    take one incident of each severity through the real transitions on a fake clock, to print who
    would get what and when. Nothing is sent.
    """
    if files:
        raise SystemExit(_run(files))
    code = _check(config_file)
    if code == 0:
        code = _run(_bundled_tests())
        asyncio.run(_drill(config_file))
    raise SystemExit(code)


def _run(files: tuple[Path, ...]) -> int:
    ok = [_passes(path) for path in files]
    return 0 if all(ok) else FAILED


def _passes(path: Path) -> bool:
    """Prints what promtool would. A broken file fails, and the next one is run."""
    from tocsin_alerting.document import InvalidDocument
    from tocsin_alerting.promql.evaluation.coverage import check
    from tocsin_alerting.rounds.bench import make_bench
    from tocsin_alerting.rules.rule_test import run
    from tocsin_alerting.rules.rule_test_file import read_tests

    try:
        tests = read_tests(path.read_text("utf-8"), str(path))
        report = asyncio.run(run(tests, make_bench, check))
    except (InvalidDocument, OSError, UnicodeDecodeError) as error:
        print(f"Unit Testing:  {path}\n  FAILED:\n{error}\n", file=sys.stderr)
        return False
    print(report)
    return report.ok


def _bundled_tests() -> tuple[Path, ...]:
    from tocsin_alerting.bundled import bundled

    return tuple(sorted((bundled("rules") / "tests").glob("*.yml")))


def _check(config_file: Path | None) -> int:
    from tocsin_alerting.document import InvalidDocument
    from tocsin_alerting.start import Options, configured, rule_files

    try:
        config = configured(Options(config_file=config_file))
        files = rule_files(config)
    except InvalidDocument as error:
        print(error, file=sys.stderr)
        return FAILED
    where = config_file or "the default configuration"
    print(f"Configuration: {where}: SUCCESS, {len(files)} rule files")
    return 0


async def _drill(config_file: Path | None) -> None:
    from tocsin_alerting.config.load import incident_config, load
    from tocsin_alerting.incidents.policy import Severity
    from tocsin_alerting.rounds.drill import drill

    config = incident_config(load(config_file))
    for severity in Severity:
        print(f"\nIncident of severity {severity}, which nobody answers and which ends at last:")
        for line in await drill(config, severity):
            print(f"  {line}")
