"""Every command fits a terminal of 80 columns, whatever names, labels and texts hold."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.command_line import Ended, alertctl
from tocsin_alerting.cli.alertctl import main

LONG = "n" * 60 + "-" + "m" * 90
CONFIG = f"""
evaluation_interval: 1s
collect: {{host: 1s, gpu: 0s, processes: 0s}}
rule_files: [rules.yml]
contacts:
  {LONG}: {{email: {"a" * 60}@example.com}}
  li: {{email: li@example.com}}
schedules:
  primary-{LONG}:
    rotation: {{type: daily, at: "10:00", start: 2026-01-05, members: [{LONG}, li]}}
receivers:
  log: {{type: log}}
  receiver-{LONG}: {{type: webhook, url: "http://127.0.0.1:9/"}}
policies:
  P0:
    steps:
    - {{notify: [{{receiver: receiver-{LONG}}}, {{receiver: log}}], escalate_after: 1h}}
"""
RULES = f"""
groups:
- name: test-{LONG}
  rules:
  - alert: Long
    expr: label_replace(vector(42), "host", "{LONG}", "", "")
    labels: {{severity: P0, place: "{"x" * 200}", word: "{"w " * 90}"}}
    annotations: {{summary: "{"It fires at. " * 30}", dashboard_url: "http://h/{"u" * 150}"}}
  - record: broken:{LONG.replace("-", "_")}
    expr: label_replace(vector(1), "a", "$1", "", "(") or label_replace(vector(1), "!", "", "", "")
"""
BY = ("--by", "li")
DONE = (  # before the others look
    ("ack", "1", "--note", LONG),
    ("comment", "1", "--note", "x" * 300, "--field", f"impact={LONG}"),
    ("silence", "add", f"place=~{LONG}.*", "--for", "1h", "--comment", "c" * 200),
    ("maintenance", "add", f"window-{LONG}", "place=a", "--for", "1h", "--comment", "c" * 200),
    ("oncall", "override", f"primary-{LONG}", LONG, "--for", "1h", "--comment", "c" * 200),
    ("heartbeat", "add", "backup", "--every", "1h"),
)
LOOKED_AT = (
    ("alerts",),
    ("engines",),
    ("health",),
    ("heartbeat", "list"),
    ("incidents",),
    ("incidents", "--all"),
    ("log",),
    ("maintenance", "list"),
    ("oncall", "show"),
    ("oncall", "show", f"primary-{LONG}"),
    ("query", "instant", "up"),
    ("query", "instant", 'ALERTS{alertname="Long"}'),
    ("query", "range", "ALERTS", "--since", "1m"),
    ("query", "labels"),
    ("receivers",),
    ("route", f"place={LONG}", "severity=P0"),
    ("rules",),
    ("show", "1"),
    ("silence", "list"),
    ("silence", "preview", "alertname=Long"),
    ("stats",),
    ("status",),
    ("why", "1"),
    ("unack", "1"),
    ("snooze", "1", "2h"),
    ("escalate", "1"),
    ("assign", "1", "--to", "li"),
    ("resolve", "1"),
)
ELSEWHERE = {
    "backtest",
    "channels",
    "check",
    "completion",
    "drill",
    "slo",
    "reload",
    "templates",
    "test",
    "token",
    "incidents export",
}
"""What prints a file, a transcript or a token, or has tests of its own."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder: Path = tmp_path_factory.mktemp("agent")
    (folder / "tocsin.yml").write_text(CONFIG)
    (folder / "rules.yml").write_text(RULES)
    options = ("--config.file=tocsin.yml", "--no-worker", "--engine.url=http://127.0.0.1:9")
    with AgentProcess(folder, *options, environment={"COLUMNS": "80"}) as agent:
        deadline = time.monotonic() + 30
        while not agent.get("/api/v1/incidents")["incidents"]:
            assert time.monotonic() < deadline, agent.said()
            time.sleep(0.1)
        yield agent


def _too_long(done: Ended) -> list[str]:
    return [line for line in (done.out + done.err).splitlines() if len(line) > 80]


def test_no_line_is_longer_than_80_columns(
    busy: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wrong: dict[str, list[str]] = {}
    for words in (*DONE, *LOOKED_AT):
        done = alertctl("--url", busy.url, *words)
        assert done.code in (0, 1), (words, done)
        assert done.out + done.err, words
        if lines := _too_long(done):
            wrong[" ".join(words)[:40]] = lines[:3]
    assert wrong == {}


def test_every_command_is_tried(busy: AgentProcess) -> None:
    tried = {words[0] for words in (*DONE, *LOOKED_AT)}
    assert tried | ELSEWHERE == set(main.commands)


def test_a_wide_table_is_cut_nowhere(busy: AgentProcess) -> None:
    assert LONG in busy.alertctl("oncall", "show", "-o", "wide").stdout
    assert LONG in busy.alertctl("alerts", "-o", "wide").stdout
