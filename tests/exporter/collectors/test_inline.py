import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.inline import (
    BLANK,
    MALFORMED,
    InlineCollector,
    LineParser,
    line_parser,
    text,
)
from tocsin_exporter.snapshot import Family, Sample

ONE = Family("one", "gauge", "One.")


def test_all_of_a_file_is_read_and_bad_bytes_are_marked(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000 + b"\xff")
    assert text(path) == "x" * 100_000 + "\ufffd"


async def test_a_missing_file_is_nothing_to_read(tmp_path: Path) -> None:
    reading = InlineCollector("r", lambda: [Sample(ONE, float(text(tmp_path / "no")))])
    with pytest.raises(Unavailable, match="no does not exist"):
        await reading.collect()


async def test_what_does_not_parse_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("three")
    reading = InlineCollector("r", lambda: [Sample(ONE, float(text(tmp_path / "f")))])
    with pytest.raises(CollectorError, match="three"):
        await reading.collect()


async def test_a_directory_instead_of_a_file_is_named(tmp_path: Path) -> None:
    reading = InlineCollector("r", lambda: [Sample(ONE, float(text(tmp_path)))])
    with pytest.raises(CollectorError, match="cannot read"):
        await reading.collect()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stat")
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(text, tmp_path / "stat")
        try:
            assert reading.result(5) == ""
        finally:  # one that waits is let go
            os.close(os.open(tmp_path / "stat", os.O_RDWR))
    writer = os.open(tmp_path / "stat", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        text(tmp_path / "stat")
    os.close(writer)


def test_a_function_is_asked_for_the_lines_that_are_new_and_anything_else_for_each() -> None:
    asked: list[str] = []

    def parse(line: str) -> list[str]:
        asked.append(line)
        if line == "bad":
            raise ValueError(line)
        return [] if line == "nothing" else [line.upper()]

    lines = LineParser("test")
    assert list(lines.parse("a\nnothing\nbad\n\nb\n", parse)) == ["A", "B"]
    assert list(lines.parse("b\nbad\nnothing\n\na\nc", parse)) == ["B", "A", "C"]
    assert asked == ["a", "nothing", "bad", "b", "bad", "c"]
    assert lines.skipped == {MALFORMED: 2, BLANK: 2}, "what is left out is counted each time"
    list(lines.parse("b\nbad\nnothing\n\na\nc", parse))
    assert lines.skipped == {MALFORMED: 3, BLANK: 3} and asked.pop() == "bad"
    assert list(lines.parse("c\n", parse)) == ["C"] and asked[6:] == []
    assert list(lines.parse("a\n", parse)) == ["A"] and asked[6:] == ["a"], "the last time alone"
    for _ in range(2):
        assert list(lines.parse("a", partial(parse))) == ["A"]
    assert asked[7:] == ["a", "a"]
    long = "x" * 70_000
    for _ in range(2):
        assert list(lines.parse(long, parse)) == [long.upper()]
    assert asked[9:] == [long, long], "a table of that size is not kept"


def test_lines_of_a_function_with_what_stands_before_them_are_remembered() -> None:
    asked: list[str] = []

    def parse(before: str, line: str) -> list[str]:
        asked.append(line)
        return [before + line]

    lines, first, second = LineParser("test"), line_parser(parse, "1"), line_parser(parse, "2")
    for _ in range(2):
        assert list(lines.parse("a\nb\n", first)) == ["1a", "1b"]
        assert list(lines.parse("b\n", second)) == ["2b"], "each remembers its own file"
    assert asked == ["a", "b", "b"]
    assert list(lines.parse("a\nc\n", first)) == ["1a", "1c"] and asked[3:] == ["c"]
    assert list(lines.parse("", first)) == [], "an empty file says nothing"


def test_functions_that_are_made_for_each_reading_are_let_go() -> None:
    def parse(before: str, line: str) -> list[str]:
        return [before + line]

    lines, made = LineParser("test"), list[weakref.ref[object]]()
    for number in range(200):
        new = line_parser(parse, str(number))
        made.append(weakref.ref(new))
        assert list(lines.parse("a", new)) == [f"{number}a"]
    del new
    gc.collect()
    assert sum(each() is not None for each in made) <= 32
