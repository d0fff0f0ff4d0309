"""The alerts that fire, for people and for programs."""

import json

from support.agent_process import AgentProcess
from support.command_line import alertctl


def test_the_list(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "alerts")
    header, row = ended.out.splitlines()
    assert header.split()[:3] == ["SEVERITY", "ALERT", "STATE"]
    assert row.split()[:3] == ["P1", "AlwaysFiring", "firing"]
    assert row.endswith('4.2e+01  {place="here"}')


def test_the_list_for_programs(agent: AgentProcess) -> None:
    (alert,) = json.loads(alertctl("--url", agent.url, "alerts", "-o", "json").out)["alerts"]
    assert alert["labels"] == {"alertname": "AlwaysFiring", "severity": "P1", "place": "here"}
