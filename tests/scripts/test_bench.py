"""Each bench that has Prometheus beside it runs, small; nothing here looks at a time."""

import gzip
import json
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus and promtool are not installed",
)


def ran(folder: Path, name: str, *arguments: str) -> tuple[str, dict[str, Any]]:
    """The table and the figures of one measurement."""
    figures = folder / "figures.json"
    script = str(SCRIPTS / f"bench_{name}.py")
    command = [sys.executable, script, *arguments, "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(figures.read_text())


@needs_prometheus
def test_rules_fire_the_same_alerts_on_both_sides(tmp_path: Path) -> None:
    small = ["--series=300", "--each=1", "--every=0.5", "--for=0s", "--warm-up=0.5"]
    more = ["--seconds=0", "--history=330", "--only=firing"]
    table, figures = ran(tmp_path, "rules", *small, *more)
    found = figures["firing"]
    assert found["firing"]["ours"] == found["firing"]["theirs"]
    assert set(found["firing"]["ours"]) == set(found["kinds"]) - {"group"}
    assert found["evaluations"] >= 1
    assert "histogram_quantile" in table


@needs_prometheus
def test_both_answer_each_query_alike(tmp_path: Path) -> None:
    small = ["--series=120", "--hours=1.2", "--days=0.1", "--turns=1", "--settle=0"]
    table, figures = ran(tmp_path, "query", *small)
    assert [one["difference"] for one in figures["questions"].values()] == [""] * 10
    assert all(one["bytes"] > 30 for one in figures["questions"].values())
    assert "ours / faster one" in table


@needs_prometheus
def test_pages_become_blocks_and_segments_and_history_is_served(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    for number in range(40):
        path = pages / f"{1_790_000_000_000 + number * 5000}.prom.gz"
        path.write_bytes(gzip.compress(page(number).encode()))
    small = ["--series=90", "--days=0.1", "--seconds=0.5", "--settle=0", "--no-peer"]
    _, figures = ran(tmp_path, "memory", f"--pages={pages}", *small)
    disk, memory = figures["disk"], figures["memory"]["ours"]
    assert (disk["pages"], disk["samples"]) == (40, 40 * (3 + 3) - 20)
    assert disk["ratio"] == disk["ours_bytes"] / disk["theirs_bytes"] > 0
    assert 20 < memory["rest_mb"]
    assert len(memory["ms"]) == 9


def page(number: int) -> str:
    """Three series, one of which ends half-way; one label is named like a target's, and quoted."""
    text = f'# TYPE a gauge\na {number}\nb_total{{job="x \\"y\\"",z="1"}} {number * 10}\n'
    return text + ("c 1\n" if number < 20 else "")


@pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager")),
    reason="Prometheus or Alertmanager is not installed",
)
def test_a_threshold_is_told_by_both(tmp_path: Path) -> None:
    _, figures = ran(tmp_path, "latency", "--trials=2", "--groups", "queue")
    for side in ("ours", "theirs"):
        assert [0 < seconds < 30 for seconds in figures["groups"]["queue"][side]] == [True, True]


@pytest.mark.long
@pytest.mark.skipif(
    not shutil.which("prometheus-alertmanager"), reason="Alertmanager is not installed"
)
def test_a_storm_is_told_whole_by_both(tmp_path: Path) -> None:
    _, figures = ran(tmp_path, "storm", "--alerts=20", "--patience=20")
    for kind, messages in (("one", 1), ("each", 20)):
        for side in ("ours", "theirs"):
            found = figures[kind][side]
            assert found["messages"] >= messages and found["ends"] >= messages
            assert found["P0 after s"] < 20


def test_bench_worker_runs_wherever_the_usual_port_is_taken(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from support.tiny_model import write_tiny_model

    path = write_tiny_model(tmp_path / "tiny-qwen3")
    small = ("--pairs", "1", "--streams", "2", "--tokens", "4", "--at-least", "0")
    with socket.socket() as taken:
        with suppress(OSError):  # then somebody else has it
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        said, figures = ran(tmp_path, "worker", "--model-path", str(path), *small)
    assert "tiny-qwen3" in said
    assert {mode: len(one["rates"]["http"]) for mode, one in figures.items()} == {
        "greedy": 1,
        "sampled": 1,
    }
