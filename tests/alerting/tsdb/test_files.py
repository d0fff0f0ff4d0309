"""The files of the samples' directory: their order, their numbers, and that none is replaced."""

import os
from pathlib import Path

import pytest

from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.files import (
    ASIDE,
    next_path,
    numbered_files,
    remove_same,
    rename_new,
    same_file,
    set_aside,
)


def test_files_are_in_the_order_of_their_numbers_and_others_are_none_of_ours(
    tmp_path: Path,
) -> None:
    names = ["0000000002.log", "0000000010.log", "9999999999.log", "10000000000.log"]
    for name in [*reversed(names), "my.log", "3.seg", "1" * 19 + ".log", "0000000004.log.broken"]:
        (tmp_path / name).touch()
    assert [one.name for one in numbered_files(tmp_path, ".log")] == names


def test_a_directory_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        numbered_files(tmp_path / "gone", ".log")


def test_the_next_number_is_after_all_that_are_there_and_after_the_last(tmp_path: Path) -> None:
    assert next_path(tmp_path, ".seg").name == "0000000001.seg"
    (tmp_path / "0000000007.seg").touch()
    (tmp_path / "0000000009.log").touch()
    assert next_path(tmp_path, ".seg").name == "0000000008.seg"
    assert next_path(tmp_path, ".seg", 11).name == "0000000012.seg"
    assert next_path(tmp_path, ".seg", 3).name == "0000000008.seg"


def test_no_file_is_put_in_the_place_of_another(tmp_path: Path) -> None:
    fresh, there = tmp_path / "1.tmp", tmp_path / "1.seg"
    fresh.write_text("new")
    there.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        rename_new(fresh, there)
    assert there.is_symlink() and fresh.read_text() == "new"
    there.unlink()
    rename_new(fresh, there)
    assert there.read_text() == "new" and not fresh.exists()


def test_whether_a_file_was_set_aside_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "1.log"
    path.write_text("damaged")
    assert set_aside(path, ValueError("why"), "the rest", 1e9)
    aside = tmp_path / f"1.log{ASIDE}"
    assert aside.read_text() == "damaged" and aside.stat().st_mtime == 1e9
    assert not set_aside(path, ValueError("why"), "the rest", 1e9)
    assert "setting it aside failed" in caplog.text


def test_a_file_that_cannot_be_set_aside_is_told_of_once(tmp_path: Path) -> None:
    """It is tried again with every new log: an incident about it would never end."""
    blocks, now_s = BlockStore(tmp_path, 1, 1), iter([1e9, 1e9, 1e9 + 3600, 1e9 + 7200])
    blocks.open(lambda: next(now_s))
    for _ in range(2):
        assert not blocks.put_aside(tmp_path / "gone.log", ValueError("why"), "the rest")
    assert blocks.set_aside.newest() == 1e9


def test_only_the_file_that_was_there_is_removed(tmp_path: Path) -> None:
    path, other = tmp_path / "1.log", tmp_path / "other"
    path.write_text("ours")
    was = path.stat()
    other.write_text("theirs")
    os.replace(other, path)
    assert not same_file(path, was)
    assert remove_same(path, was)
    assert path.read_text() == "theirs"
    assert remove_same(path, path.stat())
    assert not path.exists() and not same_file(path, was)
    assert remove_same(path, was)
    path.mkdir()
    assert not remove_same(path, path.stat())  # as what the disk does not let go
