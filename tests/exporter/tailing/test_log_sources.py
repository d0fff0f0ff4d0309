"""Sources as they come, change and go; and what the metrics say of them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.tailing import append
from tocsin_exporter.catalogue.logs import LOGS
from tocsin_exporter.tailing.line_patterns import LinePatterns
from tocsin_exporter.tailing.log_sources import LogSources
from tocsin_exporter.tailing.settings import LogPattern, LogSource

STEP = LogPattern("step", r"step (?P<value>\d+)")


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[LogSources]:
    sources = LogSources(tmp_path / "state", time.time, time.monotonic)
    yield sources
    sources.close()


def named(path: Path, *patterns: LogPattern) -> LogSource:
    return LogSource(path.stem, (str(path),), patterns=patterns)


def values(sources: LogSources, name: str) -> dict[tuple[str, ...], float]:
    found = (sample for sample in sources.samples() if sample.family.name == name)
    return {tuple(value for _, value in one.labels): one.value for one in found}


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sources_go_on_through_a_reload(tmp_path: Path, sources: LogSources) -> None:
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    a.touch()
    sources.configure([named(a, STEP)])
    until(lambda: values(sources, "tocsin_log_files") == {("a",): 1})
    append(a, "step 1", "step 2")
    until(lambda: values(sources, "tocsin_log_matches_total") == {
        ("step", "a", "1"): 1, ("step", "a", "2"): 1,
    })  # fmt: skip
    b.touch()
    sources.configure([named(a, STEP, LogPattern("x", "x")), named(b)])  # it is another one now
    append(a, "step 1", "x")
    until(lambda: values(sources, "tocsin_log_matches_total") == {
        ("step", "a", "1"): 2, ("step", "a", "2"): 1, ("x", "a"): 1,
    })  # fmt: skip
    assert [(line.pattern, line.text) for line in sources.recent(9)] == [
        *(("x", "x"), ("step", "step 1")),
    ]
    sources.configure([named(b)])
    assert values(sources, "tocsin_log_matches_total") == {}
    assert {one.labels[-1] for one in sources.samples()} == {("source", "b")}


def test_each_series_has_the_labels_of_its_row(tmp_path: Path, sources: LogSources) -> None:
    (tmp_path / "a.log").touch()
    sources.configure([named(tmp_path / "a.log", STEP)])
    until(lambda: values(sources, "tocsin_log_files") == {("a",): 1})
    append(tmp_path / "a.log", "step 1")
    until(lambda: values(sources, "tocsin_log_last_match_timestamp_seconds"))
    shown = {sample.family.name: set(dict(sample.labels)) for sample in sources.samples()}
    assert shown.keys() == LOGS.keys()
    assert all(of <= set(LOGS.labels[name]) for name, of in shown.items())
    assert values(sources, "tocsin_log_lost_lines_total") == {
        ("behind", "a"): 0, ("truncated", "a"): 0,
    }  # fmt: skip


def test_a_source_without_files_is_not_up(tmp_path: Path, sources: LogSources) -> None:
    sources.configure([named(tmp_path / "a.log")])
    until(lambda: (tmp_path / "state" / "a.json").exists())
    assert values(sources, "tocsin_log_source_up") == {("a",): 0}
    append(tmp_path / "a.log", "one")
    until(lambda: values(sources, "tocsin_log_source_up") == {("a",): 1})


def test_a_value_is_a_label_and_holds_no_secret() -> None:
    own = LogPattern("refused", r"refused (?P<value>.*)")
    (match,) = LinePatterns(LogSource("a", patterns=[own])).matches(b"refused token=abcd li@x.org")
    assert match.value == "token=<secret> <address>"
