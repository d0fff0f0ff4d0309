"""What is read through rotations, truncations and restarts: each line once, or counted as lost."""

import os
import shutil
from pathlib import Path

import pytest

from support.tailing import Followed, append, numbered, rotated, source
from tocsin_exporter.tailing.budget import Limits
from tocsin_exporter.tailing.tailed_file import LONGEST_LINE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    append(path, "old line")
    return path


@pytest.fixture
def log(path: Path) -> Followed:
    followed = Followed(source(path))
    assert followed.lines() == []  # what is there at the first start is not news
    return followed


def test_a_line_counts_once_it_has_its_end(log: Followed, path: Path) -> None:
    append(path, "one", "two")
    append(path, "half", end="")
    assert log.lines() == ["one", "two"]
    assert log.lines() == []
    append(path, " and half")
    assert log.lines() == ["half and half"]


def test_a_file_that_is_renamed_is_read_to_its_end(log: Followed, path: Path) -> None:
    append(path, "before")
    rotated(path)
    append(path.with_name("app.log.1"), "late")
    append(path, "after")
    assert log.lines() == ["before", "late", "after"]
    append(path.with_name("app.log.1"), "later")
    append(path, "next")
    assert log.lines() == ["later", "next"]
    assert log.counts.rotations == 1


def test_files_that_came_and_went_between_two_looks_are_read(log: Followed, path: Path) -> None:
    for number in range(0, 40, 10):
        append(path, *numbered(number, number + 10))
        rotated(path)
    append(path, *numbered(40, 45))
    assert log.lines() == numbered(0, 45)
    assert log.lines() == []


def test_a_rotation_without_a_new_file_yet(log: Followed, path: Path) -> None:
    append(path, "one")
    rotated(path)
    assert log.lines() == ["one"]
    append(path.with_name("app.log.1"), "two")
    assert log.lines() == ["two"]
    append(path, "three")
    assert log.lines() == ["three"]


def test_the_end_of_an_old_file_counts_without_its_newline(log: Followed, path: Path) -> None:
    append(path, "whole")
    append(path, "half", end="")
    rotated(path)
    append(path, "new")
    assert log.lines() == ["whole", "new"]
    assert log.lines(6) == ["half"]
    assert log.lines(6) == []


@pytest.mark.parametrize("each", [7, 0])
def test_an_inode_that_is_used_again_is_another_file(log: Followed, path: Path, each: int) -> None:
    for number in range(20):
        wanted = numbered(number * each, number * each + 7)  # 0: it says the same each time
        append(path, *wanted)
        assert log.lines() == wanted
        rotated(path, keep=1)
        log.lines(6)
        log.lines(6)


def test_a_truncated_file_is_read_from_its_start_and_the_loss_is_counted(
    log: Followed, path: Path
) -> None:
    append(path, *numbered(0, 9))
    log.lines()
    os.truncate(path, 0)
    append(path, "new")
    assert log.lines() == ["new"]
    assert (log.counts.truncations, log.counts.losses.lines) == (1, {"truncated": 1})


def test_a_file_that_has_grown_again_since_it_was_truncated(log: Followed, path: Path) -> None:
    append(path, *numbered(0, 9))
    log.lines()
    os.truncate(path, 0)
    append(path, *numbered(100, 130))
    assert log.lines() == numbered(100, 130)
    assert log.counts.truncations == 1


def test_what_was_not_read_before_a_copytruncate_is_read_in_the_copy(
    log: Followed, path: Path
) -> None:
    append(path, *numbered(0, 9))
    log.lines()
    append(path, *numbered(9, 20))
    shutil.copyfile(path, path.with_name("app.log.1"))
    os.truncate(path, 0)
    append(path, *numbered(20, 22))
    assert sorted(log.lines()) == sorted(numbered(9, 22))
    assert (log.counts.truncations, log.counts.losses.lines) == (1, {})
    rotated(path)
    append(path, "after")
    assert log.lines() == ["after"]  # the copy does not count again


def test_an_empty_file_that_is_touched_has_lost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.touch()
    log = Followed(source(path))
    log.lines()
    os.utime(path, (1, 1))
    assert log.lines() == []
    assert (log.counts.truncations, log.counts.losses.lines) == (0, {})


def test_a_restart_goes_on_where_it_was(log: Followed, path: Path) -> None:
    append(path, *numbered(0, 5))
    log.lines()
    append(path, *numbered(5, 8))
    log = log.again(source(path))
    assert log.lines() == numbered(5, 8)
    rotated(path)
    append(path.with_name("app.log.1"), *numbered(8, 10))
    append(path, *numbered(10, 12))
    rotated(path)
    append(path, *numbered(12, 13))
    log = log.again(source(path))
    assert log.lines() == numbered(8, 13)
    os.truncate(path, 0)
    append(path, "anew")
    log = log.again(source(path))
    assert log.lines() == ["anew"]


def test_a_restart_after_a_copytruncate(log: Followed, path: Path) -> None:
    append(path, *numbered(0, 5))
    log.lines()
    append(path, *numbered(5, 8))
    shutil.copyfile(path, path.with_name("app.log.1"))
    os.truncate(path, 0)
    log = log.again(source(path))
    assert log.lines() == numbered(5, 8)


def test_a_line_without_an_end_is_cut_and_counts_once(log: Followed, path: Path) -> None:
    append(path, "x" * (LONGEST_LINE * 20), end="")
    assert log.lines() == ["x" * LONGEST_LINE]
    append(path, "y" * LONGEST_LINE, end="")
    log = log.again(source(path))
    assert log.lines() == []
    append(path, "", "next")
    assert log.lines() == ["next"]
    append(path, "z" * (LONGEST_LINE + 7), "after")
    assert log.lines() == ["z" * LONGEST_LINE, "after"]


def test_bytes_that_are_no_text(log: Followed, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\xff\xfe CUDA\x00\r\n\n")
    assert log.lines() == ["\ufffd\ufffd CUDA\x00\r", ""]


def test_above_the_budget_lines_wait_and_then_the_oldest_are_lost(path: Path) -> None:
    limits = Limits(lines=100, bytes=1 << 20, behind_bytes=20_000)
    log = Followed(source(path, limits=limits))
    log.lines()
    append(path, *numbered(0, 250))
    assert log.lines() == numbered(0, 100)
    assert log.reader.behind == sum(len(line) + 1 for line in numbered(100, 250))
    assert [*log.lines(), *log.lines()] == numbered(100, 250)
    append(path, *numbered(0, 5_000))
    found = log.lines()
    while more := log.lines():
        found += more
    assert len(found) + log.counts.losses.lines["behind"] == 5_000
    assert found[-1] == numbered(4_999, 5_000)[0] and found[:100] == numbered(0, 100)
    lost = sum(len(line) + 1 for line in set(numbered(0, 5_000)) - set(found))
    assert log.counts.losses.bytes == {"behind": lost}


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    directory = tmp_path / "app.log"
    directory.mkdir()
    log = Followed(source(directory))
    assert log.lines() == []
    assert log.reader.trouble == f"{directory}: Is a directory"
