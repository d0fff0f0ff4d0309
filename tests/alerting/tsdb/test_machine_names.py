"""A machine that is renamed keeps its history, in the log and in segments that never change."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from support.archives import Kept
from support.faults import in_child
from support.small_disk import small_disk
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.tsdb.disk_persistence import WriterIntervals
from tocsin_alerting.tsdb.machine_names import FILE, renaming
from tocsin_alerting.tsdb.store import HOUR_MS
from tocsin_exporter.snapshot import Family, Layout, MachineName, Series, Snapshot, Source, labels

START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
STEP_MS = 60_000
LISTEN = "127.0.0.1:4911"
FORM = Layout((Series(Family("m", "counter", ""), "m", labels(s="0")),))
RULES = Source("rules", "g")


def machine(name: str) -> MachineName:
    return MachineName(frozenset({"node", "tocsin"}), name, LISTEN)


def hours(kept: Kept, instance: str, first: int, last: int) -> None:
    """A counter of the machine and one of an engine, an hour sealed when it is over."""
    for at_ms in range(START_MS + first * HOUR_MS, START_MS + last * HOUR_MS, STEP_MS):
        values = np.array([float((at_ms - START_MS) // STEP_MS)])
        for source in (Source("node", instance), Source("llm", "127.0.0.1:8000")):
            kept.store.append(Snapshot(source, at_ms, True, FORM, values))
        alert = labels(__name__="ALERTS", alertname="A", instance=instance)
        kept.store.append_rule_samples(RULES, at_ms, [(alert, 1.0)])
        if at_ms % HOUR_MS == STEP_MS:
            kept.store.expire(at_ms)
            kept.disk.tick()
    kept.disk.tick()


def asked(kept: Kept, query: str, hour: int) -> dict[str, float]:
    """Values by `instance`, at the last column of that hour."""
    found = QueryEngine(kept.store).evaluate(query, START_MS + hour * HOUR_MS - STEP_MS).value
    assert isinstance(found, InstantVector)
    names = [dict(one).get("instance", "") for one in found.labels]
    assert len(set(names)) == len(names)
    return dict(zip(names, found.values.tolist(), strict=True))


def test_history_goes_on_under_the_new_name(tmp_path: Path) -> None:
    old = Kept(tmp_path)  # a version that took the listen address for a name, and noted none
    hours(old, LISTEN, 0, 4)
    new = old.again(machine("gpu7"))
    hours(new, "gpu7", 4, 6)
    engine = {"127.0.0.1:8000": 359.0}
    assert asked(new, "m", 6) == engine | {"gpu7": 359.0}
    for later in (new, new.again(machine("gpu7"))):
        assert asked(later, "count_over_time(m[6h])", 6) == {"127.0.0.1:8000": 360, "gpu7": 360}
        assert asked(later, "resets(m[6h])", 6) == {"127.0.0.1:8000": 0, "gpu7": 0}
        assert asked(later, "count_over_time(ALERTS[6h])", 6) == {"gpu7": 360}
        assert asked(later, "count_over_time(up[6h])", 6) == {"127.0.0.1:8000": 360, "gpu7": 360}
        later.disk.abandon_wal()


def test_each_name_that_it_ever_had_counts(tmp_path: Path) -> None:
    kept = Kept(tmp_path, machine=machine("a"))
    for number, name in enumerate(("a", "b", "c", "a", "b")):
        hours(kept, name, 2 * number, 2 * number + 2)
        assert asked(kept, "count_over_time(m[1d])", 2 * number + 2)[name] == 120 * (number + 1)
        following = ("b", "c", "a", "b", "d")[number]
        kept = kept.again(machine(following))
        assert asked(kept, "count_over_time(m[1d])", 2 * number + 2)[following] == 120 * (
            number + 1
        )
    kept.disk.abandon_wal()


def test_what_others_send_keeps_its_name(tmp_path: Path) -> None:
    kept = Kept(tmp_path, machine=machine("a"))
    foreign = labels(__name__="m", job="other", instance="a", s="9")
    kept.store.write([(foreign, START_MS, 1.0)])
    kept.disk.tick()
    kept = kept.again(machine("b"))
    assert asked(kept, 'm{s="9"}', 0) == {} and asked(kept, "last_over_time(m[1h])", 1) == {"a": 1}
    kept.disk.abandon_wal()


@pytest.mark.parametrize("said", ["", "{", '"a"', "[1, 2]"])
def test_names_that_cannot_be_read_cost_no_start(tmp_path: Path, said: str) -> None:
    (tmp_path / FILE).write_text(said)
    kept = Kept(tmp_path, machine=machine("a"))
    assert json.loads((tmp_path / FILE).read_text())[-1] == "a"
    hours(kept, "a", 0, 2)
    assert asked(kept, "m", 2)["a"] == 119
    kept.disk.abandon_wal()


def test_a_full_disk_at_the_start_under_a_new_name_costs_no_history(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        kept = Kept(disk.path / "samples", machine=machine("a"))
        hours(kept, "a", 0, 4)
        disk.fill()
        kept = kept.again(machine("b"))
        assert asked(kept, "count_over_time(m[1d])", 4)["b"] == 240
        disk.free()
        for _ in range(WriterIntervals().ticks_per_retry):
            kept.disk.tick()
        hours(kept, "b", 4, 6)
        kept = kept.again(machine("b"))
        assert asked(kept, "count_over_time(m[1d])", 6)["b"] == 360
        assert json.loads((kept.directory / FILE).read_text()) == ["127.0.0.1:4911", "a", "b"]
        kept.disk.abandon_wal()


@pytest.mark.parametrize("content", [b"[", b"[" * 200_000, b"\xff\xfe", b""])
def test_damaged_names_are_set_aside_and_noted_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)
    machine = MachineName(frozenset({"node"}), "new", "old")
    assert renaming(tmp_path, machine).former == {"old"}
    assert path.with_name(path.name + ".broken").read_bytes() == content
    assert json.loads(path.read_text()) == ["old", "new"]
    path.write_bytes(b"{")
    assert renaming(tmp_path, machine).former == {"old"}
    assert len(list(tmp_path.glob("*.broken"))) == 2


def test_names_that_the_disk_does_not_give_are_not_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start may read them."""
    renaming(tmp_path, machine("first"))
    renaming(tmp_path, machine("second"))
    noted = tmp_path / FILE
    before = noted.read_bytes()
    noted.rename(tmp_path / "kept")
    noted.symlink_to("/proc/self/mem")  # a file whose first byte is an I/O error
    renaming(tmp_path, machine("third"))
    assert noted.is_symlink() and "former machine names" in caplog.text
    (tmp_path / "kept").replace(noted)
    assert noted.read_bytes() == before
    assert renaming(tmp_path, machine("third")).former == frozenset({LISTEN, "first", "second"})


def test_damaged_names_that_cannot_be_set_aside_are_not_replaced(tmp_path: Path) -> None:
    noted = tmp_path / FILE
    noted.write_text("[damaged")

    def refused(event: str, path: str) -> OSError | None:
        aside = event == "os.rename" and path == str(noted)
        return PermissionError(errno.EPERM, os.strerror(errno.EPERM), path) if aside else None

    assert in_child(lambda: renaming(tmp_path, machine("first")), refused)
    assert noted.read_text() == "[damaged"
