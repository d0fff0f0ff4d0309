"""Whatever is put where a file is expected, nobody waits for it."""

import os
import socket
from pathlib import Path

import pytest

from tocsin_exporter.files import check_file, file_bytes, open_file


def test_a_file_is_read_to_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10)
    assert file_bytes(file, 10) == b"x" * 10
    with pytest.raises(OSError, match="more than 9 bytes; split it"):
        file_bytes(file, 9, "; split it")
    os.truncate(file, 1 << 40)  # without a byte on the disk
    with pytest.raises(OSError, match="more than 9 bytes"):
        file_bytes(file, 9)


def test_what_says_that_it_is_empty_is_read_too() -> None:
    assert file_bytes("/proc/self/comm", 100).strip()
    assert file_bytes("/dev/null", 100) == b""
    with pytest.raises(OSError, match="more than 100 bytes"):
        file_bytes("/dev/zero", 100)


def test_nobody_waits_for_the_other_end_of_a_pipe(tmp_path: Path) -> None:
    pipe, place = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="it is a pipe or a device; a file is needed"):
            file_bytes(pipe, 100)
        with pytest.raises(OSError):
            open_file(place)
    with pytest.raises(IsADirectoryError):
        check_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        check_file(tmp_path / "none")
    check_file(None)
    assert len(os.listdir("/proc/self/fd")) == before - 1
