"""`alertctl backtest` on files, and on a real Prometheus with the same samples."""

import json
import math
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen
from xml.etree import ElementTree

import pytest

from support.agent_process import AgentProcess, free_port
from support.command_line import alertctl
from support.prometheus import running_prometheus
from support.remote_write import remote_write
from support.victoria import running_victoria
from tocsin_alerting.cli.backtest import _COLUMNS, _fitting
from tocsin_alerting.tsdb.values import STALE
from tocsin_exporter.snapshot import Labels

START = 1_700_000_000
RULES = """
groups:
- name: g
  interval: 15s
  rules:
  - {record: "pool:load:max", expr: "max by (pool) (load)"}
  - alert: High
    expr: pool:load:max > 8
    for: 1m
    labels: {severity: P1}
    annotations: {summary: "load of {{ $labels.pool }}"}
  - alert: Falling
    expr: rate(requests_total[2m]) < 0.5
    for: 30s
    labels: {severity: P2}
    annotations: {summary: "few requests"}
  - {alert: Never, expr: "load > 1000", labels: {severity: P3}, annotations: {summary: "x"}}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yml"
    path.write_text(RULES)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Two hours: a load that swings, and a counter that stands still now and then."""
    lines, total = [], 0
    for step in range(480):
        at = START + step * 15
        lines.append(f'load{{pool="a"}} {round(5 + 5 * math.sin(step / 30), 3)} {at}')
        lines.append(f'load{{pool="b"}} {round(5 + 4 * math.sin(step / 9), 3)} {at}')
        total += 0 if step % 120 > 100 else 15
        lines.append(f"requests_total {total} {at}")
    by_series = sorted(lines, key=lambda line: line.split()[0])
    path = tmp_path / "samples.om"
    path.write_text("\n".join([*by_series, "# EOF", ""]))
    return path


def test_what_fires_who_is_paged_and_what_else_could_be(
    rules: Path, samples: Path, tmp_path: Path
) -> None:
    svg = tmp_path / "out.svg"
    common = ("backtest", str(rules), "--samples", str(samples))
    ended = alertctl(*common, "--what-if", "--svg", str(svg))
    assert ended.code == 0, ended.err
    assert "High" in ended.out and "threshold 6.4" in ended.out
    assert "1 rule did not fire" in " ".join(ended.out.split())
    assert max(map(len, ended.out.splitlines())) <= 80
    bars = [one for one in ElementTree.parse(svg).getroot() if one.tag.endswith("rect")]
    shown = json.loads(alertctl(*common, "-o", "json").out)
    fired = {rule["rule"]: rule["fired"] for rule in shown["rules"]}
    assert fired["High"] >= 4 and fired["Falling"] >= 3 and fired["Never"] == 0
    assert len(bars) == 1 + sum(fired.values())
    assert shown["pages"] >= shown["incidents"] > 0
    assert json.loads(alertctl(*common, "-o", "json", "--interval", "1m").out) == shown  # of others


def test_too_much_noise_is_a_failure(rules: Path, samples: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"start,end,alertname\n{START},{START + 7200},Falling\n")
    common = ("backtest", str(rules), "--samples", str(samples), "--labels", str(labels))
    noisy = alertctl(*common, "--max-noise", "0.1")
    assert noisy.code == 1
    assert "High: noise" in noisy.err and "is above 0.1" in noisy.err
    assert alertctl(*common, "--max-noise", "1").code == 0
    assert "1 of 1 labelled incident had an alert\n" in alertctl(*common).out
    labels.write_text(f"start,end,alertname\n{START},{START + 7200},Never\n")
    missed = " ".join(alertctl(*common).out.split())
    assert re.search(
        "0 of 1 labelled incident had an alert; not found: [-0-9]+ [:0-9]+ .*Never", missed
    )
    assert [
        one["alertname"] for one in json.loads(alertctl(*common, "-o", "json").out)["missed"]
    ] == ["Never"]


def test_a_narrow_table_does_without_columns_and_keeps_names_whole() -> None:
    row = ["InferenceKvCacheNearlyFull", "P3", "12", "10", "P1:2 P2:10", "27m30s", "0", "0", "1.00",
           "0.04", "0.25"]  # fmt: skip
    assert _fitting([row], None) == (list(_COLUMNS), [row])
    assert _fitting([row], 200) == (list(_COLUMNS), [row])
    header, (narrow,) = _fitting([row], 80)
    assert not {"INCIDENTS", "RECALL", "PREC"} & set(header)
    assert dict(zip(header, narrow, strict=True))["NOISE"] == "0.25"
    assert _fitting([row], 99)[0] == [name for name in _COLUMNS if name != "INCIDENTS"]


def test_a_prometheus_with_the_same_samples_says_the_same(
    rules: Path, samples: Path, tmp_path: Path
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    blocks = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(samples), "data"]
    subprocess.run(blocks, cwd=tmp_path, check=True, capture_output=True)
    window = ("--start", str(START), "--end", str(START + 7200), "-o", "json")
    read = json.loads(alertctl("backtest", str(rules), "--samples", str(samples), *window).out)
    with running_prometheus(tmp_path, "--storage.tsdb.retention.time=100y") as server:
        asked = alertctl("--url", server.url, "backtest", str(rules), *window)
    assert asked.code == 0, asked.err
    assert json.loads(asked.out) == read
    assert sum(rule["fired"] for rule in read["rules"]) > 5


def test_what_is_wrong_is_said_with_its_place(rules: Path, samples: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.om"
    broken.write_text("up 1\n")
    ended = alertctl("backtest", str(rules), "--samples", str(broken))
    assert ended.code == 1
    assert f"{broken}:1:1: no sample with a time" in ended.err
    labels = tmp_path / "labels.csv"
    labels.write_text("begin,end\n")
    common = ("backtest", str(rules), "--samples", str(samples))
    ended = alertctl(*common, "--labels", str(labels))
    assert ended.code == 1 and f'{labels}:1:1: unknown column "begin"' in ended.err
    assert alertctl(*common, "--ack-after", "soon").code == 2
    assert alertctl(*common, "--interval", "0s").code == 2
    assert alertctl(*common, "--max-noise", "nan").code == 2
    labels.write_bytes(b"\xef\xbb\xbfstart,end\r\n1,2\r\n")
    assert alertctl(*common, "--labels", str(labels)).code == 0
    labels.unlink()
    os.mkfifo(labels)
    assert "a file is needed" in alertctl(*common, "--labels", str(labels)).err
    broken.write_text("load 1 0\nload 1 1700000000000\nload 1 99999999999\n")
    ended = alertctl("backtest", str(rules), "--samples", str(broken))
    assert ended.code == 1 and "evaluations; give a shorter time with --start" in ended.err
    rules.write_text("groups: [{name: g, rules: [{alert: A, expr: '('}]}]")
    ended = alertctl(*common)
    assert ended.code == 1 and "rules.yml:1:" in ended.err


def ending(start_ms: int) -> list[tuple[Labels, list[tuple[int, float]]]]:
    """Loads that are zero, high for six minutes, and end, with a stale marker or without."""
    series: list[tuple[Labels, list[tuple[int, float]]]] = []
    for number, marked in enumerate((True, False, True)):
        first = start_ms + number * 1_800_000
        points = [(first + step * 15_000, 9.0 if step >= 24 else 0.0) for step in range(48)]
        points += [(first + 48 * 15_000, STALE)] if marked else []
        series.append(((("__name__", "load"), ("pool", f"p{number}")), points))
    return series


def test_store_prometheus_and_file_say_the_same(rules: Path, tmp_path: Path) -> None:
    """A file has no stale markers: there each alert lasts five minutes, as the one without one."""
    start_ms = int(time.time() - 7_200) // 60 * 60_000
    window = (
        "--start",
        str(start_ms // 1000),
        "--end",
        str(start_ms // 1000 + 7_000),
        "-o",
        "json",
    )
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "tocsin.yml").write_text(
        "collect: {host: 0s, engines: 0s, gpu: 0s, processes: 0s}\nrule_files: []\n"
    )
    receiving = "--web.enable-remote-write-receiver"
    config = ("--config.file=tocsin.yml", "--storage.path=data", "--no-worker")
    (tmp_path / "theirs").mkdir()
    with (
        running_prometheus(tmp_path / "theirs", receiving) as theirs,
        AgentProcess(tmp_path / "ours", *config) as ours,
    ):
        for url in (theirs.url, ours.url):
            remote_write(url, ending(start_ms))
        answers = [
            alertctl("--url", url, "backtest", str(rules), *window)
            for url in (theirs.url, ours.url)
        ]
    file = tmp_path / "x.om"
    file.write_text("".join(
        f'load{{pool="{labels[1][1]}"}} {value} {at_ms / 1000}\n'
        for labels, points in ending(start_ms) for at_ms, value in points if value == value
    ))  # fmt: skip
    answers.append(alertctl("backtest", str(rules), "--samples", str(file), *window))
    assert [one.code for one in answers] == [0, 0, 0], [one.err for one in answers]
    assert not any(one.err for one in answers)
    high = [json.loads(one.out)["rules"][0] for one in answers]
    assert [one["fired"] for one in high] == [3, 3, 3]
    # From the first high sample a minute passes; the last one is 5:45 after it, the marker 6:00.
    marked, unmarked = 300, 285 + 300
    assert [one["firing_seconds"] for one in high[:2]] == [2 * marked + unmarked] * 2
    assert high[2]["firing_seconds"] == 3 * unmarked


def test_a_server_without_remote_read_is_asked_by_queries(rules: Path, tmp_path: Path) -> None:
    start_ms = int(time.time() - 7_200) // 60 * 60_000
    window = (
        "--start",
        str(start_ms // 1000),
        "--end",
        str(start_ms // 1000 + 7_000),
        "-o",
        "json",
    )
    with running_victoria(tmp_path, free_port()) as server:
        remote_write(server.url, ending(start_ms))
        urlopen(f"{server.url}/internal/force_flush").close()
        asked = alertctl("--url", server.url, "backtest", str(rules), *window)
    assert asked.code == 0, asked.err
    assert asked.err.count("no remote read (/api/v1/read) there") == 1
    assert json.loads(asked.out)["rules"][0]["fired"] == 3
