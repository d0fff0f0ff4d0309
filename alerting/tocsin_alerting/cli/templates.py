"""`alertctl templates`: what messages say, from where, and whether templates of one's own work."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.client import FAILED, fail
from tocsin_alerting.cli.output import count

if TYPE_CHECKING:
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.notify.own_templates import TemplateProblem

config_option = click.option(
    "--config.file",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="TOCSIN_CONFIG_FILE",
    help="Configuration that names the directory.  [default: none, so the bundled templates]",
)


_WHOLE_PATHS = 10_000


@click.group()
def templates() -> None:
    """Show and check the texts of messages."""


@templates.command()
@click.argument("name", required=False)
@config_option
def show(name: str | None, config_file: Path | None) -> None:
    """Print the template NAME that is in force, or list all and the variables that they see."""
    from tocsin_alerting.config.load import own_templates
    from tocsin_alerting.notify.own_templates import NAMES, bundled_source
    from tocsin_alerting.notify.template_check import VARIABLES

    config = _config(config_file)
    own, language = own_templates(config), config.language
    if name is None:
        found = {one: own.file(one, language) for one in NAMES}
        rows = [[one, own.path(file) if file else "bundled"] for one, file in found.items()]
        output.table(["NAME", "FROM"], rows, "", columns=_WHOLE_PATHS)
        print()
        output.table(["VARIABLE", "WHAT"], [[*pair] for pair in VARIABLES.items()], "")
        return
    file = own.file(name, language)
    if name not in NAMES:
        fail(f"there is no template {name}; there are {', '.join(NAMES)}")
    if file:
        sys.stdout.write(own.sources[file])
    elif name == "chat.txt":
        print("chat.txt is not bundled: each chat has the parts of a message in its own form")
    else:
        sys.stdout.write(bundled_source(name))


@templates.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@config_option
def check(directory: Path | None, config_file: Path | None) -> None:
    """Render the templates of DIRECTORY with messages of all kinds, in both languages."""
    config = _config(config_file)
    if directory is not None:
        config = config.model_copy(update={"templates": directory})
    if config.templates is None:
        print("no directory of templates is configured; the bundled ones are in force")
        return
    print(f"Checking {config.templates}")
    files, problems = check_templates(config)
    if problems:
        print(f"  FAILED: {count(len(problems), 'problem')}", file=sys.stderr)
        for problem in problems:
            print(f"  {problem}", file=sys.stderr)
        raise SystemExit(FAILED)
    print(f"  SUCCESS: {count(files, 'template')}")


def check_templates(config: "Config") -> tuple[int, list["TemplateProblem"]]:
    """How many files there are, and what is wrong with them, each by file and line."""
    from tocsin_alerting.config.load import message_templates, own_templates
    from tocsin_alerting.notify.template_check import template_problems

    own = own_templates(config)
    found = template_problems(own, lambda language: message_templates(config, None, own, language))
    return len(own.sources), list(found)


def _config(file: Path | None) -> "Config":
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.config.load import load
    from tocsin_alerting.yaml_document import InvalidDocument

    try:
        return load(file) if file else Config()
    except InvalidDocument as error:
        fail(str(error))
