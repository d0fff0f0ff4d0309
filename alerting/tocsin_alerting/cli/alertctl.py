"""`alertctl`: the operator's tool. It talks to the agent, or works on files without one.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 lint only, 4 the agent cannot be reached.
"""

import os
from pathlib import Path

import click
from click.core import ParameterSource

from tocsin_alerting.cli import output
from tocsin_alerting.cli.alerts import alerts
from tocsin_alerting.cli.channels import channels
from tocsin_alerting.cli.check import check
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.engines import engines
from tocsin_alerting.cli.health import health
from tocsin_alerting.cli.incidents import ack, incidents, resolve
from tocsin_alerting.cli.query import query
from tocsin_alerting.cli.test import test
from tocsin_alerting.local.agent_socket import answers, candidates
from tocsin_exporter.files import MOST_SECRET_BYTES, file_bytes

LOCAL = "http://127.0.0.1:4911"
EPILOG = "Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 lint only, 4 the agent is not reachable."


_ANYWHERE = ("--url", "--token-file", "--timeout")


class Anywhere(click.Group):
    """A group whose options to reach the agent may also stand after the subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _moved_forward(args))


def _moved_forward(args: list[str]) -> list[str]:
    """What follows `--` is left where it is."""
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    rest: list[str] = []
    words = iter(args[:end])
    for word in words:
        if word in _ANYWHERE:
            front += [word, *(value for value in [next(words, None)] if value is not None)]
        elif word.startswith(tuple(f"{name}=" for name in _ANYWHERE)):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest, *args[end:]]


def _http(url: str) -> str:
    """`box:4911` is what people write."""
    return url if "://" in url or not url else f"http://{url}"


@click.group(cls=Anywhere, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.option(
    "--url",
    default=LOCAL,
    envvar="ALERTCTL_URL",
    help="Where the agent is: a URL, or HOST:PORT.  "
    f"[default: the Unix socket of the agent on this machine, else {LOCAL}]",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    envvar="ALERTCTL_TOKEN_FILE",
    help="Holds the token that changes need, but for those by the Unix socket.",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1, max=86400),
    default=30,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.option(
    "-o",
    "--output",
    "format",
    type=output.FORMATS,
    help="How the subcommands that list something print.  [default: table]",
)
@click.version_option(package_name="tocsin", prog_name="alertctl")
@click.pass_context
def main(
    context: click.Context, url: str, token_file: Path | None, timeout: int, format: str | None
) -> None:
    """See what fires, answer for it, and check rules and configuration."""
    output.prepare()
    given = context.get_parameter_source("url") is not ParameterSource.DEFAULT
    socket = None if given else next(filter(answers, candidates(os.environ)), None)
    context.obj = AgentClient(_http(url), timeout, _token(token_file) if token_file else "", socket)


def _token(file: Path) -> str:
    try:
        token = file_bytes(file, MOST_SECRET_BYTES).decode(errors="replace").strip()
    except OSError as error:
        why = f"cannot read {file}: {error.strerror}"
        raise click.BadParameter(why, param_hint="--token-file") from None
    if not token or not token.isascii() or not token.isprintable():
        raise click.BadParameter(
            f"{file} holds no token; it is one line of ASCII", param_hint="--token-file"
        )
    return token


for command in (ack, alerts, channels, check, engines, health, incidents, query, resolve, test):
    main.add_command(command)
