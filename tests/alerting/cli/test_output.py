"""How values are shown to people."""

import contextlib
import io
import json
import sys
from collections.abc import Callable

import click
import pytest

from tocsin_alerting.cli import output


def test_labels_and_counts() -> None:
    assert output.labels_text({"__name__": "up", "b": "2", "a": "1"}) == 'up{a="1", b="2"}'
    assert output.count(1, "policy", "policies") == "1 policy"
    assert output.count(2, "policy", "policies") == "2 policies"


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["A", "LONG"], [["wide\tcell", "x"], ["y", "z\x1b[1m"]], "none")
    assert (
        capsys.readouterr().out
        == "A          LONG\nwide cell  x\ny          z\N{REPLACEMENT CHARACTER}[1m\n"
    )


def test_texts_stand_below_their_row_and_are_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    text = "word " * 30 + "x" * 90 + "\n\x1b[2J"
    output.listing(["A", "B"], [(["1", "two"], [text]), (["22", "3"], [])], "none", 80)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["A   B", "1   two"] and lines[-1] == "22  3"
    assert all(line.startswith("     ") for line in lines[2:-1])
    assert [len(line) > 80 for line in lines].count(True) == 1  # the word that is longer itself
    assert "\x1b" not in "".join(lines)
    output.listing(["A"], [], "nothing is there", 80)
    assert capsys.readouterr() == ("", "nothing is there\n")


def test_what_an_alert_says_of_itself() -> None:
    assert output.summary({"summary": "s", "description": "d"}) == "s"
    assert output.summary({"summary": "", "message": "m", "description": "d"}) == "d"
    assert output.summary({"message": "m"}) == "m" and output.summary({}) == ""
    failed = "<error expanding template: x>"
    assert output.summary({"summary": failed, "message": "m"}) == "m"
    assert output.summary({"summary": failed}) == failed


def written(tty: bool, print_it: Callable[[], None]) -> str:
    """What reaches the file below `sys.stdout`."""

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return tty

    below = Terminal()
    with contextlib.redirect_stdout(io.TextIOWrapper(below, "utf-8")):
        with contextlib.redirect_stderr(sys.stdout):
            output.prepare()
            print_it()
            sys.stdout.flush()
        return below.getvalue().decode()


EVIL = "a\x1b]0;x\x07b\x9b2Jc\u202ed"
SHOWN = r"a\u001b]0;x\u0007b\u009b2Jc\u202ed"


@pytest.mark.parametrize("tty", [True, False])
def test_whatever_is_printed_does_not_steer_the_terminal(tty: bool) -> None:
    assert written(tty, lambda: print(f"{EVIL}\n\tsecond")) == f"{SHOWN}\n\tsecond\n"
    assert written(tty, lambda: print(EVIL, file=sys.stderr)) == f"{SHOWN}\n"
    assert written(tty, lambda: click.echo(EVIL, err=True)) == f"{SHOWN}\n"
    said = written(tty, lambda: output.as_json({"owner": EVIL}))
    assert json.loads(said) == {"owner": EVIL} and SHOWN in said


def test_programs_get_csv_as_it_is_and_people_do_not() -> None:
    assert written(False, lambda: output.comma_separated([[EVIL]])) == f"{EVIL}\n"
    assert written(True, lambda: output.comma_separated([[EVIL]])) == f"{SHOWN}\n"


def test_colours_of_our_own_stay() -> None:
    assert written(True, lambda: output.picture(["\x1b[32m*\x1b[0m"])) == "\x1b[32m*\x1b[0m\n"
