"""A caret under the place of an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.cli.error_caret import with_caret

SAID = "{}: parse error: x"


def below(place: str, query: str, width: int = 80) -> list[str]:
    return with_caret(SAID.format(place), query, width).split("\n")[1:]


def test_the_line_and_the_caret_below_the_message() -> None:
    assert with_caret("1:5: parse error: x", "sum(", 80) == "1:5: parse error: x\n  sum(\n      ^"
    assert below("2:3", "up +\n\tdo{") == ["   do{", "    ^"]
    assert below("1:1", "") == ["  ", "  ^"]


def test_wide_characters_move_it_by_their_width() -> None:
    assert below("1:5", '{"日志"') == ['  {"日志"', "        ^"]


def test_of_a_long_line_the_part_around_the_place() -> None:
    query = "a" * 300 + "!" + "b" * 300
    line, caret = below("1:301", query, 40)
    assert len(line) <= 40
    assert line[caret.index("^")] == "!"


@pytest.mark.parametrize("place", ["3:1", "0:1", "1:9", "1:0", "999999:999999"])
def test_a_place_that_is_not_there_is_left_out(place: str) -> None:
    assert below(place, "up\ndown") == []
    assert with_caret("no place", "up", 80) == "no place"


@given(st.text(max_size=60), st.integers(0, 5), st.integers(0, 70), st.integers(0, 100))
def test_any_text_at_any_width(query: str, line: int, column: int, width: int) -> None:
    from rich.cells import cell_len

    shown = below(f"{line}:{column}", query, width)
    assert len(shown) in (0, 2)
    assert all(cell_len(one) <= max(12, width) for one in shown)
