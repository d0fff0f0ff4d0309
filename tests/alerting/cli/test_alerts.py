"""The alerts that fire, for people and for programs."""

import json

from support.agent_process import AgentProcess
from support.command_line import alertctl


def test_the_list(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "alerts")
    header, row, *texts = ended.out.splitlines()
    assert header.split()[:2] == ["SEVERITY", "STATE"] and header.split()[-1] == "ALERT"
    assert row.split()[:2] == ["P1", "firing"] and row.split()[-2:] == ["42", "AlwaysFiring"]
    assert [text.strip() for text in texts] == ["It fires at 42.", '{place="here"}']


def test_the_list_for_programs(agent: AgentProcess) -> None:
    (alert,) = json.loads(alertctl("--url", agent.url, "alerts", "-o", "json").out)["alerts"]
    assert alert["labels"] == {"alertname": "AlwaysFiring", "severity": "P1", "place": "here"}
