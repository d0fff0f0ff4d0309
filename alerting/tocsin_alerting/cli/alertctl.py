"""`alertctl`: the operator's tool. It talks to the agent, or works on files without one.

Exit codes: 0 ok, 1 failed, 2 usage error, 3 lint only, 4 agent unreachable.
"""

import os
from pathlib import Path
from typing import Any

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.client import AgentClient, fail, new_client
from tocsin_alerting.cli.command_table import CommandTable
from tocsin_alerting.cli.reach import ANYWHERE, ANYWHERE_FLAGS, Reach, reach_options

LOCAL = "http://127.0.0.1:4911"
EPILOG = "Exit codes: 0 ok, 1 failed, 2 usage error, 3 lint only, 4 agent unreachable."


COMPLETION_VARIABLE = "_ALERTCTL_COMPLETE"


class Anywhere(click.Group):
    """A group whose options to reach the agent may also stand after the subcommand."""

    def main(self, *arguments: Any, **extra: Any) -> Any:
        if COMPLETION_VARIABLE in os.environ:  # a shell asks
            import tocsin_alerting.cli.completion  # noqa: F401  (how it is answered)

        return super().main(*arguments, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _moved_forward(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """`incidents export` is a command of its own, though `incidents` takes a number."""
        name = " ".join(args[:2])
        if name in self.commands and " " in name:
            return name, self.commands[name], args[2:]
        return super().resolve_command(ctx, args)


def _moved_forward(args: list[str]) -> list[str]:
    """What follows `--` is left where it is."""
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    rest: list[str] = []
    words = iter(args[:end])
    for word in words:
        if word in ANYWHERE_FLAGS:
            front.append(word)
        elif word in ANYWHERE:
            front += [word, *(value for value in [next(words, None)] if value is not None)]
        elif word.startswith(tuple(f"{name}=" for name in ANYWHERE)):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest, *args[end:]]


@click.group(
    cls=Anywhere,
    commands=CommandTable(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.option(
    "--url",
    default=LOCAL,
    envvar="ALERTCTL_URL",
    help="Address of the agent: a URL, or HOST:PORT.  "
    f"[default: the Unix socket of the agent on this machine, else {LOCAL}]",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    envvar="ALERTCTL_TOKEN_FILE",
    help="File with a token for the agent; not needed over the Unix socket.",
)
@reach_options
@click.option(
    "--timeout",
    type=click.IntRange(min=1, max=86400),
    default=30,
    show_default=True,
    help="Seconds to wait for a response.",
)
@click.option(
    "-o",
    "--output",
    "format",
    type=output.FORMATS,
    help="Output format of list commands.  [default: table]",
)
@click.version_option(package_name="tocsin", prog_name="alertctl")
@click.pass_context
def main(
    context: click.Context,
    /,
    url: str,
    token_file: Path | None,
    timeout: int,
    format: str | None,
    **reach: Any,
) -> None:
    """See what fires, acknowledge it, and check rules and configuration."""
    # numpy would start threads for products of matrices, which take a tenth of a small command
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    output.prepare()
    context.obj = new_client(context, url, token_file, timeout, Reach(**reach))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which SHELL completes alertctl, with the agent's ids and names.

    For bash, in ~/.bashrc: source <(alertctl completion bash).
    """
    from tocsin_alerting.cli.completion import script

    print(script(shell, main, COMPLETION_VARIABLE))


@click.command()
@click.pass_obj
def health(agent: AgentClient) -> None:
    """Check that the agent is ready to page; exit code 0 if it is."""
    status, text = agent.ask("GET", "/-/ready")
    line = text.strip().partition("\n")[0][:200]
    if status != 200:
        fail(line or f"HTTP {status}")
    print(line)
