"""`alertctl heartbeat` with a real agent."""

import json
import subprocess

import pytest

from support.agent_process import AgentProcess
from support.command_line import alertctl


def test_what_is_added_is_sent_by_curl_and_listed(agent: AgentProcess) -> None:
    where = ("--url", agent.url)
    made = alertctl(
        *where, "heartbeat", "add", "nightly-1", "--every", "24h", "--grace", "1h",
        "--severity", "P4", "--label", "team=ml", "--annotation", "summary=no backup", "--by", "li",
    )  # fmt: skip
    assert made.code == 0 and "expected every 1d from its first on" in made.err
    token = made.out.strip()
    listed = alertctl(*where, "heartbeat", "list").out.splitlines()
    assert listed[0].split() == "NAME STATE EVERY GRACE SEVERITY LAST INCIDENT".split()
    assert "nightly-1  never seen  1d     1h     P4        never" in listed
    url = f"{agent.url}/api/v1/heartbeat/nightly-1"
    curl = ("curl", "-fsS", "-X", "POST", "-H", f"Authorization: Bearer {token}", url)
    sent = subprocess.run(curl, capture_output=True, text=True, timeout=30)
    assert (sent.returncode, sent.stderr) == (0, ""), sent.stderr
    assert "nightly-1  ok" in alertctl(*where, "heartbeat", "list").out
    data = json.loads(alertctl(*where, "heartbeat", "list", "-o", "json").out)
    (row,) = (row for row in data["heartbeats"] if row["name"] == "nightly-1")
    assert (row["labels"], row["created_by"]) == ({"team": "ml"}, "li")
    assert "nobody is paged if this machine dies" in alertctl(*where, "status").out
    gone = alertctl(*where, "heartbeat", "forget", "nightly-1", "--by", "li")
    assert (gone.code, gone.out) == (0, "nightly-1: forgotten\n")
    assert alertctl(*where, "heartbeat", "forget", "nightly-1").code == 1
    assert subprocess.run(curl, capture_output=True, timeout=30).returncode == 22  # 401


@pytest.mark.parametrize(
    "words",
    [
        ("add", "x", "--every", "1h", "--label", "team"),
        ("add", "x", "--every", "1h", "--severity", "P9"),
        ("add", "x", "--grace", "1h"),
        ("forget",),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    assert alertctl("heartbeat", *words).code == 2
