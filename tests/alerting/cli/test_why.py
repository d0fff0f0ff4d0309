"""`alertctl why`: the rule, its place and its value over time, of a real agent."""

import json

from support.agent_process import AgentProcess
from support.command_line import alertctl


def test_why_it_fires(own_agent: AgentProcess) -> None:
    for words in (("why", "1"), ("why",), ("why", "#1", "--since", "10m")):
        ended = alertctl("--url", own_agent.url, *words)
        assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].startswith("#1 P1 AlwaysFiring: ")
    assert "It fires at 42." in lines
    assert "rule: rules.yml:5" in lines
    assert "fires when: vector(42)" in lines and "value: 42" in lines
    assert any(line.startswith("* ") and line.split()[1] == "42" for line in lines), "the legend"
    assert max(map(len, lines)) <= 80


def test_for_programs(agent: AgentProcess) -> None:
    data = json.loads(alertctl("--url", agent.url, "why", "1", "-o", "json").out)
    rule = data["alerts"][0]["rule"]
    assert (rule["file"], rule["line"], rule["group"]) == ("rules.yml", 5, "test")
    assert (rule["measured"], rule["threshold"], rule["operator"]) == ("vector(42)", None, "")
    assert data["incident"]["number"] == 1 and data["alert_count"] == 1


def test_what_it_cannot_answer(agent: AgentProcess) -> None:
    assert alertctl("--url", agent.url, "why", "99").code == 1
    assert alertctl("why", "1", "2").code == 2
    assert alertctl("why", "1", "--since", "soon").code == 2
