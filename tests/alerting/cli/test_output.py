"""How values are shown to people."""

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
