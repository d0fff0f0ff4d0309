"""`alertctl` in this process, for the many cases in which a process of its own adds nothing."""

from dataclasses import dataclass

from click.testing import CliRunner

from tocsin_alerting.cli.alertctl import main


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def alertctl(*arguments: str) -> Ended:
    """Runs it with these arguments. An exception that would be a traceback is raised."""
    result = CliRunner().invoke(main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)
