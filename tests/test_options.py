"""The pages name every option of every command, at the command that has it, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tocsin_alerting.cli.alertctl import main as alertctl
from tocsin_alerting.cli.commands import tocsin
from tocsin_inference.settings import parser

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
CODE = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"(?:^|[\s\[,])(--?[a-z][a-zA-Z._-]*)")
HELP = {"--help", "-h"}
OTHERS = {"measurements.md", "worker.md"}  # scripts, and tests/inference/test_documentation.py
FOREIGN = {  # of which program an option is that is not of these two
    "--path.": "node_exporter",
    "--collector.": "how node_exporter's flags begin",
    "--slower": "scripts/simulated_week.py",
    "--check": "dashboards/build.py",
    "--http.config.file": "amtool",
    "-wal": "the end of a file's name",
    "-shm": "the end of a file's name",
    "--semantics": "scripts/promqltest",
    "-c": "pip",
    "--gpu-memory-utilization": "vLLM",
    "--max-model-len": "vLLM",
    "--max-num-seqs": "vLLM",
    "--kv-cache-dtype": "vLLM",
    "--enforce-eager": "vLLM",
    "--enable-metrics": "SGLang",
    "--enable-metrics-for-all-schedulers": "SGLang",
    "--kv-cache-metrics": "vLLM",
    "--sleep-idle-seconds": "llama.cpp",
    "--metrics": "llama.cpp",
}
ABOUT = {
    "alertctl.md": "alertctl",
    "exporter.md": "tocsin exporter",
    "proxy.md": "tocsin proxy",
    "service.md": "tocsin service|tocsin up",
    "configuration.md": "tocsin up",
}


def _walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word, inner in command.commands.items():
            yield from _walk(inner, f"{name} {word}")


COMMANDS = {**dict(_walk(alertctl, "alertctl")), **dict(_walk(tocsin, "tocsin"))}


WORKER = {name for action in parser("worker")._actions for name in action.option_strings}


def _options(command: click.Command) -> dict[str, click.Option]:
    """By each of its names."""
    options = (param for param in command.params if isinstance(param, click.Option))
    return {
        name: option
        for option in options
        for name in (*option.opts, *option.secondary_opts)
        if name not in HELP
    }


def _cells(row: str) -> list[str]:
    return [cell.strip().replace("¦", "|") for cell in row.replace("\\|", "¦").split("|")[1:-1]]


def _table_rows() -> Iterator[tuple[str, str, str]]:
    """(command, option, words) of each row of a table of options."""
    for page in PAGES:
        for table in re.findall(
            r"(?m)^\| command \| option \|.*\n.*\n((?:\|.*\n)+)", page.read_text("utf-8")
        ):
            for commands, options, words in map(_cells, table.splitlines()):
                for command in CODE.findall(commands):
                    for option in CODE.findall(options):
                        yield command, option.split()[0], words


ROWS = list(_table_rows())


def test_the_tables_have_every_option_of_every_command_and_no_other() -> None:
    documented = {(command, option) for command, option, _ in ROWS}
    assert len(documented) == len(ROWS), "an option is listed twice"
    present = {(name, option) for name, command in COMMANDS.items() for option in _options(command)}
    assert documented - present == set(), "on a page, and no command has it"
    assert present - documented == set(), "an option that is in no table"


@pytest.mark.parametrize(("command", "option", "words"), ROWS)
def test_the_row_has_the_variable_and_the_default(command: str, option: str, words: str) -> None:
    present = _options(COMMANDS[command])[option]
    variables = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", words))
    assert variables == ({present.envvar} if isinstance(present.envvar, str) else set())
    if isinstance(present.type, click.IntRange) and isinstance(present.default, int):
        assert str(present.default) in words
    if isinstance(present.type, click.Choice) and len(present.type.choices) < 4:
        row = f"{option} {words}"
        assert all(choice in row or choice in _argument(option) for choice in present.type.choices)


def _argument(option: str) -> str:
    """What the tables write behind the option."""
    texts = (page.read_text("utf-8").replace("\\|", "|") for page in PAGES)
    return " ".join(code for text in texts for code in CODE.findall(text) if option in code)


def _mentioned(page: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(line, option, commands that it may be of) of what stands alone in a line's code."""
    about = re.compile(ABOUT.get(page.name, "tocsin|alertctl"))
    near = [name for name in COMMANDS if about.match(name)]
    for line in page.read_text("utf-8").splitlines():
        if page.name in OTHERS or "| `-" in line:  # a row of a table of options
            continue
        row = re.match(r"\| `((alertctl|tocsin)(?: [a-z]+)*)", line)
        names = [_longest(row[1]), row[2]] if row else near
        for code in CODE.findall(line):
            for option in OPTION.findall(code) if code.startswith("-") else ():
                yield line, option, names


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_option_that_a_page_mentions_is_one_of_the_command_that_it_is_about(page: Path) -> None:
    for line, option, names in _mentioned(page):
        known = HELP.union(FOREIGN, WORKER, *(_options(COMMANDS[name]) for name in names))
        assert option in known, f"{page.name}: {line}"


def test_each_option_of_another_program_is_mentioned_and_is_none_of_ours() -> None:
    mentioned = {option for page in PAGES for _, option, _ in _mentioned(page)}
    assert set(FOREIGN) - mentioned == set()
    assert (
        set(FOREIGN) & {name for command in COMMANDS.values() for name in _options(command)}
        == set()
    )


def test_every_option_is_tried_by_a_test() -> None:
    tests = (path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    text = "\n".join(path.read_text("utf-8") for path in tests)
    words = set(re.findall(r"(?<![\w-])--?[a-z][\w.-]*(?<![.-])", text))
    options = [present for command in COMMANDS.values() for present in _options(command).values()]
    assert len(options) > 70
    assert [option.opts for option in options if not words.intersection(option.opts)] == []


def _longest(words: str) -> str:
    """The command in `words`, which may go on with an argument."""
    return max((name for name in COMMANDS if f"{words} ".startswith(f"{name} ")), key=len)
