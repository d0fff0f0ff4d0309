"""`alertctl log`, `stats`, `status`, and the filters of `incidents`: a real agent, 80 columns."""

import asyncio
import csv
import io
import json
import re
from typing import Any

import pytest

from support.agent_process import AgentProcess
from support.command_line import Ended, alertctl
from support.webhook_sink import Answer, WebhookSink


def _data(data: object) -> Answer:
    return Answer(body=json.dumps({"status": "success", "data": data}).encode())


async def _run(answer: Answer, *words: str) -> tuple[Ended, WebhookSink]:
    async with WebhookSink(usual=answer) as sink:
        ended = await asyncio.to_thread(alertctl, "--url", f"127.0.0.1:{sink.port}", *words)
    return ended, sink


def test_the_log_says_what_happened(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "log", "--since", "1h")
    head, *lines = ended.out.splitlines()
    assert ended.code == 0 and re.fullmatch(r"\w+day \d{4}-\d\d-\d\d, times in \w+", head)
    assert any(re.search("#1 P1 AlwaysFiring: opened: AlwaysFiring, P1", line) for line in lines)
    assert max(map(len, ended.out.splitlines())) <= 80
    data = json.loads(alertctl("--url", agent.url, "log", "-o", "json").out)
    assert {"at", "incident", "text", "event"} <= data["entries"][0].keys()


def test_the_log_is_asked_in_pages_and_says_that_there_is_more(agent: AgentProcess) -> None:
    cut = alertctl("--url", agent.url, "log", "--limit", "1")
    assert len(cut.out.splitlines()) == 2 and "there is more than these 1 lines" in cut.err
    none = alertctl("--url", agent.url, "log", "--person", "nobody")
    assert (none.code, none.out) == (0, "") and none.err.startswith("nothing happened up to 20")


def test_the_filters_reach_the_agent(agent: AgentProcess) -> None:
    def numbers(*words: str) -> list[int]:
        ended = alertctl("--url", agent.url, "incidents", "-o", "json", *words)
        assert ended.code == 0, ended.err
        return [one["number"] for one in json.loads(ended.out)["incidents"]]

    assert numbers("--severity", "p1", "--rule", "AlwaysFiring") == [1]
    assert numbers("--match", 'place=~"h.*"', "--match", 'alertname!="x"') == [1]
    assert numbers("--severity", "P0") == [] == numbers("--rule", "Other")
    assert numbers("--since", "1h") == [1] and numbers("--until", "2020-01-01") == []
    assert numbers("--storm", "7") == []
    assert numbers("--state", "acked") == [] == numbers("--person", "nobody")
    for wrong in (("--since", "soon"), ("--state", "gone")):
        assert alertctl("incidents", *wrong).code == 2
    assert alertctl("--url", agent.url, "incidents", "--severity", "P9").code == 1


def test_the_numbers(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "stats")
    assert ended.code == 0 and max(map(len, ended.out.splitlines())) <= 80
    (row,) = (line for line in ended.out.splitlines() if line.endswith("  AlwaysFiring"))
    assert row.split()[0] == "1"
    rows = list(csv.reader(io.StringIO(alertctl("--url", agent.url, "stats", "-o", "csv").out)))
    assert rows[0][:3] == ["rule", "opened", "reopened"]
    assert rows[1][:2] == ["AlwaysFiring", "1"]
    assert "total:" in alertctl("--url", agent.url, "stats", "-o", "yaml").out


async def test_pages_by_hour_and_person() -> None:
    figures: dict[str, Any] = {
        **dict.fromkeys("opened reopened acked resolved unanswered false_positives".split(), 1),
        **{"pages": 7, "mean_seconds_to_ack": 61.5, "mean_seconds_to_resolve": None},
    }
    data = {
        **{"since": "2026-01-01T00:00:00.000Z", "until": "2026-01-08T00:00:00.000Z"},
        **{"total": figures, "severities": [], "rules": []},
        "people": [{"person": "li", "pages": 7, "acked": 1}],
        "hours": [{"hour": 3, "pages": 7}, {"hour": 4, "pages": 0}],
        "zone": "Europe/Berlin",
    }
    ended, sink = await _run(_data(data), "stats")
    assert ended.code == 0, ended.err
    assert "pages by hour of the day, times in Europe/Berlin\n" in ended.out
    assert "zone=" in sink.requests[0].path
    assert "all       1     1      1      1      1       1      7      1m1s  -" in ended.out
    assert f"03:00  {'#' * 50} 7" in ended.out and "04:00" not in ended.out
    assert "li      7      1" in ended.out


def test_is_it_over(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "status")
    assert ended.code == 1, "a P1 fires"
    first = ended.out.splitlines()[0]
    assert first.startswith("Not well: #1 P1 AlwaysFiring, for ")
    assert "open: 1 (1 P1; 1 unanswered)" in ended.out
    assert "It fires at 42." in ended.out and "next: " in ended.out
    assert re.search(r"(?m)^rules: 1, last evaluated \d\d:", ended.out)
    assert max(map(len, ended.out.splitlines())) <= 80 and len(ended.out.splitlines()) <= 24
    assert json.loads(alertctl("--url", agent.url, "status", "-o", "json").out)["verdict"] == "bad"


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("attention", 1), ("unknown", 1)])
async def test_it_ends_with_0_only_when_all_is_well(verdict: str, code: int) -> None:
    data = {
        **{"verdict": verdict, "sentence": "So it is.", "findings": [], "open": 0},
        **{"unanswered": 0, "severities": {}, "worst": [], "at": "2026-01-01T00:00:00.000Z"},
        "last_ended": {
            **{"number": 4, "title": "Slow", "at": "2026-01-01T00:00:00.000Z"},
            **{"state": "CLOSED", "ended_as": "given_up"},
        },
        "sources": {"read": 1, "silent": []},
        "rules": {"loaded": 1, "last": None, "late_groups": [], "failing": ["Slow"]}
        | {"warnings": ["Load: no series matches nod_load1; did you mean node_load1?"]},
        "engines": {"watched": 0, "up": 0},
        "receivers": [{"receiver": "mail", "waiting": 2, "error": "refused"}],
        "journal": {"up": False, "error": "full"},
        **{"unwatched": "", "heartbeats": {"expected": 0, "missing": [], "never_seen": []}},
    }
    ended, _ = await _run(_data(data), "status")
    assert ended.code == code, ended.err
    assert "last ended: #4 Slow (given up, state unknown), " in ended.out
    assert "failing Slow" in ended.out
    assert "Load: no series matches nod_load1" in ended.out
    assert "receiver mail: 2 waiting, failing: refused" in ended.out
    assert "journal: full" in ended.out and "never" in ended.out


def test_the_fault_record(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "incidents", "export", "1")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("# Fault record #1: AlwaysFiring\n")
    assert "## Root cause" in ended.out and "It fires at 42." in ended.out
    chinese = alertctl("--url", agent.url, "incidents", "export", "--language", "zh")
    assert "## 根本原因" in chinese.out
    record = json.loads(alertctl("--url", agent.url, "incidents", "export", "1", "-o", "json").out)
    assert (record["incident"], record["level"]) == (1, "P1")
    assert alertctl("--url", agent.url, "incidents", "export", "99").code == 1
