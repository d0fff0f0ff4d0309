"""A file that changes while we serve: read again when it does, and kept when it is wrong."""

import asyncio
import logging
from pathlib import Path

import pytest

from tocsin_exporter.live_file import LiveFile


def numbers(file: Path) -> LiveFile[int]:
    return LiveFile(file, lambda: int(file.read_text()), "the number")


def test_it_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "number"
    file.write_text("1")
    live = numbers(file)
    live.look()
    file.write_text("22")
    assert live() == 1
    live.look()
    assert live() == 22


def test_one_that_is_wrong_leaves_the_old_one_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "number"
    file.write_text("1")
    live = numbers(file)
    file.write_text("none")
    with caplog.at_level(logging.ERROR):
        live.look()
        live.look()
        file.unlink()
        live.look()
    assert live() == 1
    assert len(caplog.records) == 2
    file.write_text("3")
    live.look()
    assert live() == 3


def test_one_that_could_not_be_read_is_tried_again_though_it_has_not_changed(
    tmp_path: Path,
) -> None:
    """As one whose owner gives it to us: no time of the file tells that."""
    found: list[int | OSError] = [1, PermissionError(), 2]

    def load() -> int:
        value = found.pop(0)
        if isinstance(value, OSError):
            raise value
        return value

    live = LiveFile(tmp_path, load, "the number")
    live.read_again()
    live.look()
    assert live() == 1
    live.look()
    assert live() == 2


def test_it_is_read_when_asked_for_though_nothing_shows_a_change(tmp_path: Path) -> None:
    found = [1, 2]
    live = LiveFile(tmp_path, lambda: found.pop(0), "the number")
    live.look()
    assert live() == 1
    live.read_again()
    live.look()
    assert live() == 2


def test_one_that_is_wrong_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        numbers(tmp_path / "none")


async def test_it_is_looked_at_each_second(tmp_path: Path) -> None:
    file = tmp_path / "number"
    file.write_text("1")
    live = numbers(file)
    following = asyncio.create_task(live.follow())
    file.write_text("22")
    async with asyncio.timeout(10):
        while live() == 1:
            await asyncio.sleep(0.05)
    following.cancel()
    assert live() == 22
