"""The rules that are evaluated, for people and for programs, on an agent with one of each kind."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.agent_process import AgentProcess
from support.command_line import Ended, alertctl
from support.webhook_sink import Answer, WebhookSink

CONFIG = """
evaluation_interval: 1s
collect: {host: 1s, gpu: 0s, processes: 0s}
rule_files: [a.yml, b.yml]
"""
A = """
groups:
- name: alerts
  rules:
  - {alert: Quiet, expr: vector(1) > 2, labels: {severity: P3}}
  - {alert: Waiting, expr: vector(1), for: 1h, labels: {severity: P3}}
  - {alert: Loud, expr: vector(42), labels: {severity: P3}}
- name: records
  rules: [{record: "one:two", expr: vector(1)}]
"""
B = """
groups:
- name: broken
  interval: 2s
  rules: [{alert: Wrong, expr: 'label_replace(vector(1), "a", "", "x", "(")'}]
"""


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("agent")
    for name, text in (("tocsin.yml", CONFIG), ("a.yml", A), ("b.yml", B)):
        (folder / name).write_text(text)
    options = ("--config.file=tocsin.yml", "--no-worker", "--engine.url=http://127.0.0.1:9")
    with AgentProcess(folder, *options) as agent:
        deadline = time.monotonic() + 30
        while "unknown" in {r["health"] for g in _groups(agent) for r in g["rules"]}:
            assert time.monotonic() < deadline, agent.said()
            time.sleep(0.1)
        yield agent


def _groups(agent: AgentProcess) -> list[dict[str, Any]]:
    return list(agent.get("/api/v1/rules")["groups"])


def _asked(agent: AgentProcess, *words: str) -> Ended:
    ended = alertctl("--url", agent.url, "rules", *words)
    assert (ended.code, ended.err) == (0, ""), ended
    return ended


def _names(agent: AgentProcess, *words: str) -> list[str]:
    data = json.loads(_asked(agent, *words, "-o", "json").out)
    return [rule["name"] for group in data["groups"] for rule in group["rules"]]


def test_what_fails_comes_first_and_says_why_then_what_fires(ruled: AgentProcess) -> None:
    rules, groups = _asked(ruled).out.split("\n\n")
    header, *lines = rules.splitlines()
    assert header.split()[:2] == ["STATE", "HEALTH"] and header.split()[-2:] == ["GROUP", "RULE"]
    rows = [line.split() for line in lines if not line.startswith(" ")]
    assert [(row[0], row[1], *row[-2:]) for row in rows] == [
        ("inactive", "err", "broken", "Wrong"),
        ("firing", "ok", "alerts", "Loud"),
        ("pending", "ok", "alerts", "Waiting"),
        ("inactive", "ok", "alerts", "Quiet"),
        ("-", "ok", "records", "one:two"),
    ]
    assert lines[1].startswith("     last error: ")
    cells = {line.split()[0]: line.split() for line in groups.splitlines()}
    assert cells["alerts"][1:5] == ["firing", "ok", "3", "1s"] and cells["alerts"][-1] == "a.yml"
    assert cells["records"][1:4] == ["-", "ok", "1"]
    assert cells["broken"][2:5] == ["err", "1", "2s"] and cells["broken"][-1] == "b.yml"
    assert all(cells[name][-2].endswith("s") for name in ("alerts", "records"))


def test_for_programs_it_is_the_api_s_object(ruled: AgentProcess) -> None:
    groups = json.loads(_asked(ruled, "-o", "json").out)["groups"]
    assert [(group["name"], group["file"]) for group in groups] == [
        (group["name"], group["file"]) for group in _groups(ruled)
    ]
    wrong = next(rule for group in groups for rule in group["rules"] if rule["name"] == "Wrong")
    assert wrong["lastError"] and wrong["health"] == "err"


def test_the_options_choose(ruled: AgentProcess) -> None:
    assert _names(ruled, "--group", "records", "--group=broken") == ["one:two", "Wrong"]
    assert _names(ruled, "--file", "b.yml") == ["Wrong"]
    assert _names(ruled, "--rule", "one:two", "--alert", "Loud") == ["Loud", "one:two"]
    assert _names(ruled, "--type", "record") == ["one:two"]
    assert _names(ruled, "--type=alert", "--group=alerts") == ["Quiet", "Waiting", "Loud"]
    assert _names(ruled, "--state", "firing", "--state", "pending") == ["Waiting", "Loud"]
    states = json.loads(_asked(ruled, "--state=firing", "-o", "json").out)["groups"]
    assert [group["name"] for group in states] == ["alerts"]


def test_none_is_said_and_no_failure(ruled: AgentProcess) -> None:
    ended = alertctl("--url", ruled.url, "rules", "--rule", "Other")
    assert (ended.code, ended.out, ended.err) == (0, "", "no rules\n")


def test_a_wide_one_has_the_error_in_its_row(ruled: AgentProcess) -> None:
    row = next(line for line in _asked(ruled, "-o", "wide").out.splitlines() if "Wrong" in line)
    assert row.split()[:2] == ["inactive", "err"] and "last error: " in row


async def test_what_was_never_evaluated_is_never_and_not_ok() -> None:
    import asyncio

    zero = {"lastEvaluation": "0001-01-01T00:00:00Z", "evaluationTime": 0.0}
    rule = {"name": "A", "state": "unknown", "health": "unknown", "warnings": ["w 1"], **zero}
    group = {"name": "g", "file": "f.yml", "interval": 60, "rules": [rule], **zero}
    body = json.dumps({"status": "success", "data": {"groups": [group]}}).encode()
    async with WebhookSink(usual=Answer(body=body)) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        ended = await asyncio.to_thread(alertctl, "--url", url, "rules")
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[1] == ["unknown", "unknown", "never", "-", "g", "A"]
    assert rows[2] == ["warning:", "w", "1"]
    assert rows[5] == ["g", "unknown", "unknown", "1", "1min", "never", "-", "f.yml"]
