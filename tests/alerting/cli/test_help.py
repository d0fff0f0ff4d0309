"""Every command and every option says what it does, in words that an operator knows."""

import re
from collections.abc import Iterator

import click
import pytest

from support.plain_words import not_plain
from tocsin_alerting.cli.alertctl import main
from tocsin_alerting.cli.commands import tocsin
from tocsin_alerting.local.discovery import USUAL_PORTS
from tocsin_inference.settings import parser


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _commands(child, f"{name} {child.name}")


COMMANDS = dict([*_commands(tocsin, "tocsin"), *_commands(main, "alertctl")])
OPTIONS = {
    f"{name} {option.opts[0]}": option
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
}


def _badly_said(text: str) -> list[str]:
    """What is wrong with a help text: a default in brackets may follow its full stop."""
    said = re.sub(r" *\[[^]]*default: .+\]$", "", text.strip())
    problems = [] if said else ["empty"]
    problems += [] if said[:1].isupper() else ["no capital first"]
    problems += [] if said.endswith(".") else ["no full stop"]
    return problems + not_plain(said)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does(name: str) -> None:
    text = COMMANDS[name].help or ""
    first = text.split()[0] if text.split() else ""
    assert _badly_said(text) == []
    assert first not in ("The", "A", "An", "Whether", "What"), "a command is an imperative"


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_says_what_it_is_for(name: str) -> None:
    assert _badly_said(OPTIONS[name].help or "") == []


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_takes_a_value_names_its_default(name: str) -> None:
    option = OPTIONS[name]
    if option.is_flag or name in WITHOUT_DEFAULT:
        return
    assert option.show_default or "[default: " in (option.help or "")


WITHOUT_DEFAULT = {
    "alertctl backtest --start",  # --since says when it begins
    "alertctl --token-file",
    "alertctl assign --to",  # required
    "alertctl channels test --config.file",
    "alertctl receivers test --config.file",
    "alertctl channels test --contact",
    "alertctl channels preview --config.file",
    "alertctl channels preview --contact",
    "alertctl receivers preview --config.file",
    "alertctl receivers preview --contact",
    "alertctl receivers test --contact",
    "alertctl query range --start",  # --since says when it begins
    "alertctl query series --start",
    "alertctl query labels --start",
    "alertctl query labels --match",
    "tocsin service install --root",
    "tocsin service remove --root",
    "tocsin service status --root",
}


def test_the_ports_of_engines_are_those_that_are_asked() -> None:
    text = OPTIONS["tocsin up --engine.port"].help or ""
    assert f"[default: {', '.join(map(str, USUAL_PORTS))}]" in text


def test_the_worker_s_options_too() -> None:
    texts = {action.dest: action.help or "" for action in parser("tocsin worker")._actions}
    texts.pop("help")  # argparse's own
    assert len(texts) > 15
    for name, text in texts.items():
        assert _badly_said(text) == [], name
        assert "default: " in text, name


def test_the_lists_are_of_what_there_is() -> None:
    assert set(OPTIONS) >= WITHOUT_DEFAULT
    assert len(COMMANDS) > 20 and len(OPTIONS) > 50


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("lists alerts.", "no capital first"),
        ("List alerts", "no full stop"),
        ("So long until the end.", "so long until"),
        ("The ways in which people are told.", "are told"),
    ],
)
def test_a_bad_text_is_found(text: str, problem: str) -> None:
    assert problem in _badly_said(text)
