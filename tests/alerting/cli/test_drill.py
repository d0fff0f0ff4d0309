"""`alertctl drill` with a real agent: it follows what happens, until it is over."""

import json
import subprocess
import time

import pytest

from support.agent_process import BIN, AgentProcess
from support.command_line import alertctl


def test_it_shows_who_is_to_be_paged_and_who_was(own_agent: AgentProcess) -> None:
    where = ("--url", own_agent.url)
    words = ("drill", "P0", "--note", "first of the month", "--by", "li", "--label", "a=b")
    command = [str(BIN / "alertctl"), *where, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = [running.stdout.readline() for _ in range(4)]
        number = lines[0].split()[1].strip("#:")
        assert lines[0].startswith(f"drill #{number}: P0 by policy P0, ends by itself at ")
        assert lines[1:3] == [
            f"  acknowledge: alertctl ack {number}\n",
            f"  end it:      alertctl resolve {number}\n",
        ]
        _wait_for_page(own_agent, number)  # what is not on its way yet reaches nobody any more
        for verb in ("ack", "resolve"):
            assert alertctl(*where, verb, number, "--by", "wang").code == 0
        rest = running.stdout.read()
        assert running.wait(60) == 0, rest
    said = " ".join(rest.split())
    assert "AFTER REASON TO at once opened log" in said
    assert "acknowledged, by wang" in said or "acknowledged by wang" in said
    assert "the drill ended by wang" in said
    assert rest.endswith(f"drill #{number} reached log\n")
    assert "[DRILL] P0 Drill" in own_agent.said()
    shown = json.loads(alertctl(*where, "show", number, "-o", "json").out)
    assert (shown["drill"], shown["labels"]["alertname"]) == (True, "Drill")


def _wait_for_page(agent: AgentProcess, number: str) -> None:
    deadline = time.monotonic() + 20
    while f"(#{number}): Drill of P0" not in agent.said():
        assert time.monotonic() < deadline, agent.said()
        time.sleep(0.05)


def test_it_need_not_wait(own_agent: AgentProcess) -> None:
    where = ("--url", own_agent.url)
    begun = alertctl(*where, "drill", "P4", "--policy", "P3", "--for", "10s", "--no-wait")
    assert begun.code == 0 and "P4 by policy P3" in begun.out and "how it goes" not in begun.out
    data = json.loads(alertctl(*where, "drill", "P4", "--for", "10s", "-o", "json").out)
    assert data["policy"] == "P4"
    alertctl(*where, "resolve", str(data["incident"]))
    assert alertctl(*where, "stats", "--drills").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("P0", "--label", "x"), 2, "is no NAME=VALUE"),
        (("P0", "--policy", "P7"), 1, 'no policy is called "P7"'),
        (("P0", "--for", "soon"), 1, "from 10s to 24h"),
    ],
)
def test_what_is_wrong_is_said(
    agent: AgentProcess, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = alertctl("--url", agent.url, "drill", *words)
    assert ended.code == code and said in ended.err
