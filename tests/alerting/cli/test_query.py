"""PromQL from the command line."""

import json

import pytest

from support.agent_process import AgentProcess
from support.command_line import alertctl


def _rows(agent: AgentProcess, *words: str) -> list[list[str]]:
    ended = alertctl("--url", agent.url, "query", "instant", *words)
    assert ended.code == 0, ended.err
    return [line.split(None, 1) for line in ended.out.splitlines()[1:]]


def test_each_kind_of_value(agent: AgentProcess) -> None:
    assert _rows(agent, "1 + 1") == [["scalar", "2"]]
    assert _rows(agent, '"text"') == [["string", "text"]]
    assert _rows(agent, 'label_replace(vector(7), "a", "b", "", "")') == [['{a="b"}', "7"]]
    assert _rows(agent, "ALERTS[1h]")[0][0].startswith('ALERTS{alertname="AlwaysFiring",')


def test_the_api_s_object(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "query", "instant", "-o", "json", "--time", "5", "time()")
    assert json.loads(ended.out) == {"resultType": "scalar", "result": [5.0, "5"]}


def test_no_series_is_no_failure(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "query", "instant", "nothing_like_this")
    assert (ended.code, ended.out, ended.err) == (0, "", "no series\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sum(",), 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'),
        (("up", "--time", "noon"), "Invalid time value for 'time': cannot parse \"noon\""),
        (('vector(1) == on() group_left() label_replace(up, "a", "$1", "x", "(")',), "regular"),
    ],
)
def test_a_query_that_cannot_be_answered_fails(
    agent: AgentProcess, words: tuple[str, ...], said: str
) -> None:
    ended = alertctl("--url", agent.url, "query", "instant", *words)
    assert ended.code == 1
    assert said in ended.err


@pytest.mark.parametrize(
    ("before", "after", "is_json"),
    [("json", "", True), ("json", "table", False), ("table", "json", True), ("table", "", False)],
)
def test_the_format_before_or_after_the_subcommand(
    agent: AgentProcess, before: str, after: str, is_json: bool
) -> None:
    nearer = ["-o", after] if after else []
    ended = alertctl("--url", agent.url, "-o", before, "query", "instant", *nearer, "1 + 1")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("{") == is_json
    assert alertctl("--output", "yaml", "alerts").code == 2
