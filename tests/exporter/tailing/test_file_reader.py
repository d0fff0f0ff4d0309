"""Which files a source is, as they come and go."""

import os
from pathlib import Path

import pytest

from support.tailing import Followed, append, rotated, source
from tocsin_exporter.tailing.file_reader import MOST_FILES, FileReader
from tocsin_exporter.tailing.settings import Containers, LogSource
from tocsin_exporter.tailing.tailed_file import TailedFile, most_descriptors


def test_a_file_that_comes_later_is_read_from_its_start(tmp_path: Path) -> None:
    log = Followed(source(tmp_path / "*.log"))
    assert (log.lines(), log.reader.trouble) == ([], "no file is found")
    append(tmp_path / "b.log", "first")
    assert log.lines() == ["first"]
    assert (log.reader.files, log.reader.trouble) == (1, "")


def test_rotated_files_are_not_followed_for_themselves(tmp_path: Path) -> None:
    append(tmp_path / "a.log", "old")
    append(tmp_path / "a.log.1", "older")
    log = Followed(source(tmp_path / "a.log*"))
    assert (log.lines(), log.reader.files) == ([], 1)
    append(tmp_path / "a.log", "new")
    rotated(tmp_path / "a.log")
    append(tmp_path / "a.log", "newer")
    assert log.lines() == ["new", "newer"]


def test_a_file_that_is_gone_is_let_go_of(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append(path, "old")
    log = Followed(source(path))
    log.lines()
    path.unlink()
    for _ in range(4):
        log.lines(40)
    assert (log.reader.files, log.reader.position()) == (0, [])
    append(path, "back")
    assert log.lines() == ["back"]


def test_two_files_take_turns(tmp_path: Path) -> None:
    paths = tmp_path / "a.log", tmp_path / "b.log"
    log = Followed(source(*paths))
    log.lines()
    for path in paths:
        append(path, *["x" * 99] * 3000)
    log.clock.wait(2)
    first = log.reader.read(log.budget), log.reader.read(log.budget)
    assert [len(batch.lines) for batch in first] == [1310, 1310]  # 128 KiB of each


def test_positions_that_are_none_are_begun_anew(tmp_path: Path) -> None:
    append(tmp_path / "a.log", "there")
    log = Followed(source(tmp_path / "a.log"), [{"device": "x"}])
    assert log.lines() == ["there"]
    assert isinstance(log.reader, FileReader)


def test_containers_by_name(tmp_path: Path) -> None:
    docker, pods = tmp_path / "containers", tmp_path / "pods"
    for name, config in {"c1": '{"Name": "/vllm-1"}', "c2": '{"Name": "/db"}', "c3": "{"}.items():
        (docker / name).mkdir(parents=True)
        (docker / name / "config.v2.json").write_text(config)
        (docker / name / f"{name}-json.log").touch()
    pod = pods / "llm_vllm-0_uid-1" / "engine"
    pod.mkdir(parents=True)
    (pod / "0.log").touch()
    wanted = Containers(
        ("vllm*",), ("llm/*/engine",), f"{docker}/*/*-json.log", f"{pods}/*/*/*.log"
    )
    log = Followed(LogSource("c", containers=wanted))
    assert (log.lines(), log.reader.files) == ([], 2)
    append(docker / "c1" / "c1-json.log", r'{"log":"hello\n","stream":"stderr","time":"t"}')
    append(docker / "c2" / "c2-json.log", r'{"log":"no\n","stream":"stderr","time":"t"}')
    append(pod / "0.log", "2026-11-30T10:00:00.123456789Z stdout P half",
           "2026-11-30T10:00:00.123456790Z stdout F  a line")  # fmt: skip
    assert sorted(log.lines()) == ["half a line", "hello"]


def test_of_too_many_files_those_written_last_are_read(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 2):
        path = tmp_path / f"{number:03}.log"
        path.touch()
        os.utime(path, (number, number))
    log = Followed(source(tmp_path / "*.log"))
    log.lines()
    assert (log.reader.files, log.reader.trouble[:7]) == (MOST_FILES, "2 files")
    append(tmp_path / "000.log", "not read")
    append(tmp_path / f"{MOST_FILES + 1:03}.log", "the newest")
    assert log.lines() == ["the newest"]
    log.reader.close()


def test_logs_leave_descriptors_to_others(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append(path, "there")
    before = len(os.listdir("/proc/self/fd"))
    most, opened = before + 9, list[TailedFile]()
    with pytest.raises(OSError, match="LimitNOFILE"):
        for _ in range(20):
            opened.append(TailedFile(str(path), most))
    assert 0 < len(opened) < 12
    for file in opened:
        file.close()
    assert len(os.listdir("/proc/self/fd")) == before and most_descriptors() > 3
