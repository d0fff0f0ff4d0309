"""How values are shown to people."""

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable

import click
import pytest
import yaml

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
    assert max(map(len, lines)) <= 80
    assert "".join(line.strip() for line in lines[2:-1]).count("x") == 90


def test_a_table_that_is_too_wide_goes_on_in_further_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["short", "a b c " * 20, "x" * 100], ["1", "2", "3"]]
    output.table(["A", "TEXT", "WORD"], rows, "none")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40 and lines[0].split() == ["A", "TEXT", "WORD"]
    assert lines[-1].split() == ["1", "2", "3"]
    text = " ".join(lines)
    assert (text.count("x"), text.count("a"), text.count("short")) == (100, 20, 1)
    output.table(["A", "TEXT", "WORD"], rows, "none", 0)
    assert len(capsys.readouterr().out.splitlines()) == 3
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


def written(tty: bool, print_it: Callable[[], object]) -> str:
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
    said = written(tty, lambda: output.as_data({"owner": EVIL}, "json"))
    assert json.loads(said) == {"owner": EVIL} and SHOWN in said


def test_programs_get_csv_as_it_is_and_people_do_not() -> None:
    assert written(False, lambda: output.comma_separated([[EVIL]])) == f"{EVIL}\n"
    assert written(True, lambda: output.comma_separated([[EVIL]])) == f"{SHOWN}\n"


def test_colours_of_our_own_stay() -> None:
    assert written(True, lambda: output.picture(["\x1b[32m*\x1b[0m"])) == "\x1b[32m*\x1b[0m\n"


def test_the_same_object_as_yaml() -> None:
    data = {"owner": EVIL, "note": "a: b\n- c", "number": 1, "none": None, "zh": "显卡"}
    text = written(True, lambda: output.as_data(data, "yaml"))
    assert yaml.safe_load(text) == data and "\x1b" not in text and "显卡" in text
    assert written(True, lambda: output.as_data(data, "table")) == ""


ROW = [(["#1", "P0", "TRIGGERED", "P1"], ["P0 P0"])]


@pytest.mark.parametrize(
    ("term", "no_colour", "coloured"),
    [("xterm", "", True), ("xterm", "1", False), ("dumb", "", False)],
)
def test_severity_and_state_are_coloured_where_one_sees_it(
    monkeypatch: pytest.MonkeyPatch, term: str, no_colour: str, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_colour)
    head = ["ID", "SEVERITY", "STATE", "OTHER"]
    text = written(True, lambda: output.listing(head, ROW, "none", 80))
    assert text.count("\x1b[0m") == (2 if coloured else 0)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain.splitlines()[1].split() == ROW[0][0] and plain.splitlines()[2] == "     P0 P0"
    assert "\x1b" not in written(False, lambda: output.listing(head, ROW, "none", 80))


@pytest.mark.parametrize("long", ["x" * 5000, "word " * 1000])
def test_one_long_text_does_not_hide_the_rows_below_it(long: str) -> None:
    rows = [(["#1"], [long, f"title {long}"]), (["#2"], ["It fires."])]
    text = written(False, lambda: output.listing(["ID"], rows, "none", 80))
    lines = text.splitlines()
    assert lines[-2:] == ["#2", "     It fires."] and len(lines) <= 24
    assert text.count("…") == 2 and max(map(len, lines)) <= 80


def test_a_wide_table_has_it_all_in_a_row() -> None:
    row = [(["#1"], ["It fires. " * 20, "labels"])]
    text = written(False, lambda: output.listing(["ID"], row, "none", output.width("wide")))
    assert len(text.splitlines()) == 2 and text.count("It fires.") == 20
