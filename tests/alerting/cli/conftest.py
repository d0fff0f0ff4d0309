"""A real agent on which one alert fires, for the commands that talk to one."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.agent_process import AgentProcess

CONFIG = """
evaluation_interval: 1s
collect: {host: 1s, gpu: 0s, processes: 0s}
rule_files: [rules.yml]
"""
RULES = """
groups:
- name: test
  rules:
  - alert: AlwaysFiring
    expr: vector(42)
    labels: {severity: P1, place: "here"}
    annotations: {summary: "It fires at {{ $value }}."}
"""


@pytest.fixture(scope="package")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One for all tests that only look: the others take `own_agent`."""
    with _started(tmp_path_factory.mktemp("agent")) as process:
        yield process


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[AgentProcess]:
    """One for a test that answers the incident."""
    with _started(tmp_path) as process:
        yield process


@contextmanager
def _started(folder: Path) -> Iterator[AgentProcess]:
    (folder / "tocsin.yml").write_text(CONFIG)
    (folder / "rules.yml").write_text(RULES)
    options = ("--config.file=tocsin.yml", "--no-worker", "--engine.url=http://127.0.0.1:9")
    with AgentProcess(folder, *options) as process:
        _await_incident(process)
        yield process


def _await_incident(agent: AgentProcess) -> None:
    deadline = time.monotonic() + 20
    while not agent.get("/api/v1/incidents")["incidents"]:
        assert time.monotonic() < deadline, agent.said()
        time.sleep(0.1)
    assert json.dumps(agent.get("/api/v1/alerts"))
