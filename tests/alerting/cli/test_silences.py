"""`alertctl silence` and `maintenance` on a real agent, on which AlwaysFiring (P1) fires."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from support.agent_process import AgentProcess
from support.command_line import Ended, alertctl

ID = re.compile("id ([0-9a-f-]{36})")


@pytest.fixture
def label(agent: AgentProcess) -> Iterator[str]:
    """A matcher that no other test has; what has it is ended afterwards."""
    mark = f'test="{uuid4()}"'
    yield mark
    listed = json.loads(_run(agent, "silence", "list", "-o", "json").out)["silences"]
    for one in (one for one in listed if mark in one["matchers"]):
        _run(agent, "silence", "expire", one["id"])


def _run(agent: AgentProcess, *words: str) -> Ended:
    return alertctl("--url", agent.url, *words)


def _added(agent: AgentProcess, *words: str) -> str:
    ended = _run(agent, "silence", "add", *words)
    assert ended.code == 0, ended.err
    found = ID.search(ended.out)
    assert found is not None, ended.out
    return found[1]


def _shown(agent: AgentProcess, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(_run(agent, "silence", "show", name, "-o", "json").out)
    return shown


def test_one_is_added_listed_shown_extended_and_expired(agent: AgentProcess, label: str) -> None:
    name = _added(agent, label, "Slow", "--for", "2h", "--by", "li", "--comment", "planned work")
    shown = _shown(agent, name[:12])
    assert shown["matchers"] == [label, 'alertname="Slow"']
    assert (shown["created_by"], shown["comment"], shown["state"]) == (
        "li",
        "planned work",
        "active",
    )
    lines = _run(agent, "silence", "list").out.splitlines()
    assert lines[0].split()[0] == "ID" and lines[0].split()[-3:] == ["LEFT", "MUTES", "BY"]
    (row,) = (line for line in lines if line.startswith(name[:8]))
    assert row.split()[1] == "active" and "1h59m" in row and row.split()[-2:] == ["0", "li"]
    assert max(map(len, lines)) <= 80
    ended = _run(agent, "silence", "extend", name, "--for", "1h")
    assert "2h59m" in ended.out
    ended = _run(agent, "silence", "expire", name[:12], "--by", "wang")
    assert ended.out.startswith(f"silence {name} expired: ")
    assert _shown(agent, name)["state"] == "expired"
    assert name[:8] not in _run(agent, "silence", "list").out
    assert name[:8] in _run(agent, "silence", "list", "--all").out


def test_until_a_time_from_a_time_and_until_it_is_over(agent: AgentProcess, label: str) -> None:
    until = _shown(agent, _added(agent, label, "--until", "2099-01-01T00:00:00Z"))
    assert until["ends_at"] == "2099-01-01T00:00:00.000Z"
    words = ("--start", "2098-01-01T00:00:00Z", "--for", "90m", "--warn-before", "0s")
    later = _shown(agent, _added(agent, label, *words))
    assert (later["state"], later["ends_at"]) == ("pending", "2098-01-01T01:30:00.000Z")
    assert later["warn_before"] is None
    over = _shown(agent, _added(agent, label, "--until-resolved"))
    assert over["until_resolved"] and over["warn_before"] == "15m"


def test_what_it_would_mute_is_shown(agent: AgentProcess) -> None:
    ended = _run(agent, "silence", "preview", "AlwaysFiring")
    assert "mutes now: 1 incident with 1 alert" in ended.out
    assert "[P1] AlwaysFiring" in ended.out and "in the last 7 days: " in ended.out
    seen = json.loads(_run(agent, "silence", "preview", "Nothing", "-o", "json").out)
    assert (seen["firing_count"], seen["everything"]) == (0, False)


def test_every_alert_is_silenced_only_when_that_is_said(agent: AgentProcess) -> None:
    words = ("--for", "1m", "--start", "2099-01-01T00:00Z")
    for matcher in ('alertname=~".+"', 'severity!="P9"'):
        ended = _run(agent, "silence", "add", matcher, *words)
        assert ended.code == 1
        assert "it would silence every alert" in ended.err
    name = _added(agent, 'alertname=~".+"', *words, "--everything")
    assert _run(agent, "silence", "expire", name).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("silence", "add", "a=b", "--for", "1h", "--until", "18:00"), "give one of them"),
        (("silence", "add", "a=b", "--until", "25:00"), "is not an end"),
        (("silence", "add", "a=b", "--until", "2020-01-01 07:00"), "is over"),
        (("silence", "add", "a=b", "--for", "soon"), "soon"),
        (("silence", "extend", "x"), "--for 2h, or --until 18:00"),
        (("maintenance", "add", "w", "a=b"), "--for 2h, or --until 18:00"),
    ],
)
def test_wrong_usage_says_what_to_write(
    agent: AgentProcess, words: tuple[str, ...], said: str
) -> None:
    ended = _run(agent, *words)
    assert ended.code == 2 and said in ended.err


def test_an_id_that_is_none_says_so(agent: AgentProcess) -> None:
    assert 'no silence whose id begins with "zz"' in _run(agent, "silence", "show", "zz").err
    assert "no silence" in _run(agent, "silence", "expire", str(uuid4())).err


def test_a_window_is_added_listed_and_ended(agent: AgentProcess) -> None:
    name = f"rack {uuid4().hex[:6]}"
    words = ("--for", "2h", "--except", 'severity="P0"', "--comment", "new disks", "--by", "li")
    added = _run(agent, "maintenance", "add", name, 'rack="3"', *words)
    assert added.out.startswith(f"maintenance {name} until ")
    lines = _run(agent, "maintenance", "list").out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(name))
    assert lines[at].split()[2] == "active" and lines[at].split()[-2:] == ["0", "li"]
    assert [line.strip() for line in lines[at + 1 : at + 3]] == [
        'rack="3" but not severity="P0"',
        "new disks",
    ]
    listed = json.loads(_run(agent, "maintenance", "list", "-o", "json").out)["windows"]
    assert name in [one["name"] for one in listed]
    assert _run(agent, "maintenance", "end", name).out == f"maintenance {name} ended\n"
    assert "no maintenance window" in _run(agent, "maintenance", "end", name).err
