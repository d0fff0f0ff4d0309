"""A source on its thread: what is counted and kept, and what a killed process leaves."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import log_writer
from support.tailing import Hand, append
from tocsin_exporter.state_file import StateFile
from tocsin_exporter.tailing.budget import LineBudget
from tocsin_exporter.tailing.counts import MOST_VALUES, LogCounts, counts_of
from tocsin_exporter.tailing.library import known_patterns
from tocsin_exporter.tailing.reader import LogReader
from tocsin_exporter.tailing.settings import LogPattern, LogSource
from tocsin_exporter.tailing.tailer import LogTailer

PATTERNS = tuple(known_patterns().values())
OWN = LogPattern("step", r"step (?P<value>\d+)")


class Stepped:
    """A tailer whose rounds a test makes."""

    def __init__(self, path: Path, state: Path | None) -> None:
        self.clock = Hand()
        source = LogSource("app", (str(path),), patterns=(*PATTERNS, OWN), from_start=True)
        self.tailer = LogTailer(source, state, lambda: 1.7e9, self.clock)
        self.reader: LogReader = self.tailer._resumed()
        self.budget = LineBudget(source.limits, self.clock)

    def round(self) -> LogCounts:
        self.clock.wait(1)
        self.tailer.round(self.reader, self.budget)
        return self.tailer.state.counts


def test_lines_by_level_and_pattern(tmp_path: Path) -> None:
    append(tmp_path / "a.log", "ERROR CUDA out of memory", "INFO step 7", "INFO step 8", "x")
    stepped = Stepped(tmp_path / "a.log", None)
    counts = stepped.round()
    assert {level: n for level, n in counts.levels.items() if n} == {
        **{"error": 1, "info": 2, "unknown": 1},
    }
    assert {name: values for name, values in counts.matches.items() if values} == {
        "cuda_oom": {"": 1}, "step": {"7": 1, "8": 1},
    }  # fmt: skip
    assert counts.last == {"cuda_oom": {"": 1.7e9}, "step": {"7": 1.7e9, "8": 1.7e9}}
    assert counts.bytes == 47


def test_values_are_bounded(tmp_path: Path) -> None:
    append(tmp_path / "a.log", *(f"step {number}" for number in range(100)))
    values = Stepped(tmp_path / "a.log", None).round().matches["step"]
    assert len(values) == MOST_VALUES + 1 and values["other"] == 100 - MOST_VALUES


def test_who_writes_to_a_model_makes_no_match(tmp_path: Path) -> None:
    line = "INFO Received request cmpl-1: prompt: 'CUDA out of memory EngineDeadError'"
    append(tmp_path / "a.log", line, "ERROR CUDA out of memory")
    stepped = Stepped(tmp_path / "a.log", tmp_path)
    counts = stepped.round()
    assert (counts.matches["cuda_oom"], counts.matches["engine_dead"]) == ({"": 1}, {})
    assert (counts.withheld, counts.levels["info"]) == (1, 1)
    assert [name for _, _, name, _ in stepped.tailer.recent()] == ["cuda_oom"]
    assert b"EngineDeadError" not in (tmp_path / "app.json").read_bytes()


def test_what_is_shown_was_saved_before(tmp_path: Path) -> None:
    """A process that is killed goes back to what it saved, and its counters never do."""
    log, state = tmp_path / "a.log", tmp_path / "state"
    append(log, "one")
    stepped = Stepped(log, state)
    assert sum(stepped.round().levels.values()) == 1
    append(log, "two")
    stepped.tailer.round(stepped.reader, stepped.budget)  # less than a second since
    assert sum(stepped.tailer.state.counts.levels.values()) == 1
    killed = Stepped(log, state)
    append(log, "three")
    assert sum(killed.round().levels.values()) == 3


def test_without_a_disk_it_counts_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").touch()  # where a directory is to be
    append(tmp_path / "a.log", "one")
    stepped = Stepped(tmp_path / "a.log", tmp_path / "state")
    assert sum(stepped.round().levels.values()) == 1
    stepped.round()
    assert not stepped.tailer.state.saved
    assert [record.message for record in caplog.records] == [
        f"state lost: [Errno 20] Not a directory: '{tmp_path}/state/app.json'",
        "failed to write state, retrying: File exists",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2}', "\x00" * 100, "9" * 5000])
def test_a_state_file_that_is_none_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "app.json").write_text(text)
    assert StateFile(tmp_path / "app.json").read() == {}
    append(tmp_path / "a.log", "one")
    assert sum(Stepped(tmp_path / "a.log", tmp_path).round().levels.values()) == 1


def test_counts_as_they_are_written() -> None:
    counts = LogCounts()
    counts.match("step", "7", 5.0)
    counts.files.losses.add("behind", 3, 99)
    assert counts_of(counts.as_json()) == counts
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        counts_of({"levels": []})


def _wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _tailed(path: Path, patterns: tuple[LogPattern, ...] = PATTERNS) -> LogTailer:
    """One that runs, and has seen the file."""
    source = LogSource("app", (str(path),), patterns=patterns)
    tailer = LogTailer(source, path.parent / "state", time.time, time.monotonic)
    tailer.begin()
    _wait(lambda: tailer.state.files == 1)
    return tailer


def _written(tmp_path: Path, lines: int, rate: int, lines_a_file: int, how: str) -> LogTailer:
    """The tailer of a log that another process writes, once it has read all of it."""
    path = tmp_path / "app.log"
    path.touch()
    tailer = _tailed(path)
    began, cpu = time.monotonic(), time.process_time()
    about = [str(path), *map(str, (lines, rate, lines_a_file)), how, "5"]
    subprocess.run([sys.executable, log_writer.__file__, *about], check=True, timeout=3000)
    wall, used = time.monotonic() - began, time.process_time() - cpu
    counts = tailer.state.counts

    def settled() -> bool:
        nonlocal counts
        before, counts = counts, tailer.state.counts
        time.sleep(1.2)
        return before == counts and tailer.state.behind == 0

    _wait(settled)
    tailer.close()
    tailer.join(10)
    load = os.getloadavg()[0]
    print(f"{lines} lines, {tailer.state.counts.files.rotations} rotations seen,"
          f" {used / wall:.2%} of a core in {wall:.0f} s, load {load:.1f}")  # fmt: skip
    return tailer


def test_rotations_while_it_is_written(tmp_path: Path) -> None:
    """10,000 lines a second, ten rotations a second, for a second."""
    counts = _written(tmp_path, 10_000, 10_000, 1_000, "rename").state.counts
    assert (counts.levels["info"], counts.levels["error"]) == (9_900, 100)
    assert (counts.bytes, counts.files.losses.lines) == (990_000, {})


@pytest.mark.long
def test_a_thousand_rotations(tmp_path: Path) -> None:
    """10,000 lines of 100 bytes a second, ten rotations a second."""
    counts = _written(tmp_path, 1_000_000, 10_000, 1_000, "rename").state.counts
    assert (counts.levels["info"], counts.levels["error"]) == (990_000, 10_000)
    assert (counts.bytes, counts.files.losses.lines) == (99_000_000, {})


@pytest.mark.long
def test_a_hundred_copytruncates(tmp_path: Path) -> None:
    """What is written between a copy and a truncation no reader can see: this writer waits."""
    counts = _written(tmp_path, 500_000, 10_000, 5_000, "copytruncate").state.counts
    assert sum(counts.levels.values()) == 500_000
    assert counts.files.truncations == 99


@pytest.mark.long
def test_above_the_budget_each_line_is_counted_or_lost(tmp_path: Path) -> None:
    counts = _written(tmp_path, 3_000_000, 0, 100_000, "rename").state.counts
    assert sum(counts.levels.values()) + counts.files.losses.lines["behind"] == 3_000_000


@pytest.mark.long
def test_what_a_thousand_lines_a_second_cost(tmp_path: Path) -> None:
    counts = _written(tmp_path, 60_000, 1_000, 100_000, "rename").state.counts
    assert sum(counts.levels.values()) == 60_000
