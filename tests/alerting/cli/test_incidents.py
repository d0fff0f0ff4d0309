"""Incidents as people see them and answer them, on a real agent."""

import asyncio
import json
import time
from typing import Any

import pytest

from support.agent_process import AgentProcess
from support.command_line import alertctl
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.cli import times


def test_the_list(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "incidents")
    header, row, *texts = ended.out.splitlines()
    assert header.split()[:3] == ["ID", "SEVERITY", "STATE"]
    assert header.split()[-2:] == ["FOR", "OWNER"] and "SINCE (" in header
    assert row.split()[:2] == ["#1", "P1"]
    assert [text.strip() for text in texts] == ["It fires at 42.", "AlwaysFiring"]


async def _listed(incidents: list[dict[str, Any]], *arguments: str) -> list[str]:
    body = json.dumps({"status": "success", "data": {"incidents": incidents}}).encode()
    async with WebhookSink(usual=Answer(body=body)) as sink:
        words = ("incidents", *arguments, f"--url=127.0.0.1:{sink.port}")
        ended = await asyncio.to_thread(alertctl, *words)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.splitlines()


def _incident(number: int, severity: str, **changes: Any) -> dict[str, Any]:
    return {
        **{"number": number, "severity": severity, "state": "TRIGGERED", "title": f"T{number}"},
        **{"began_at_ms": 1_000, "opened_at_ms": 61_000, "resolved_at_ms": None, "owner": ""},
        **{"muted_by": [], "alerts": []},
        **changes,
    }


async def test_the_worst_is_first_and_what_is_over_last() -> None:
    over = _incident(9, "P0", state="RESOLVED", resolved_at_ms=81_000)
    some = [over, _incident(3, "P2"), _incident(2, "P0"), _incident(4, "P0")]
    lines = await _listed(some, "--all")
    assert [line.split()[0] for line in lines if line.startswith("#")] == ["#4", "#2", "#3", "#9"]
    assert lines[0].split()[-3:] == ["ENDED", "FOR", "OWNER"]
    (ended,) = (line for line in lines if line.startswith("#9"))
    assert ended.split()[-2:] == ["1m20s", "-"]  # from its condition to its end


async def test_that_nobody_can_tell_is_said_and_no_mute_of_what_is_over() -> None:
    muted = {"muted_by": ["silence:a"]}
    some = [
        _incident(1, "P0", source="unknown"),
        _incident(2, "P0", source="firing", **muted),
        _incident(3, "P0", source="unknown", state="ACKED", flapping=True),
        _incident(4, "P0", source="unknown", state="RESOLVED", resolved_at_ms=81_000, **muted),
    ]
    for wide in ([], ["-o", "wide"]):
        text = " ".join(await _listed(some, "--all", *wide))
        assert "T1 (state unknown)" in text and "T2 (muted by silence:a)" in text
        assert "T3 (state unknown, flapping)" in text
        assert "T4 (" not in text


async def test_how_often_it_fired_within_a_day() -> None:
    again = [_incident(1, "P0"), *(_incident(n, "P0", times_in_24h=n) for n in (2, 3, 11, 22))]
    text = " ".join(await _listed(again))
    assert "T1 (" not in text
    for number, words in ((2, "2nd"), (3, "3rd"), (11, "11th"), (22, "22nd")):
        assert f"T{number} ({words} time in 24 h)" in text


async def test_a_list_fits_80_columns_whatever_is_in_it() -> None:
    said = {"summary": "Requests wait while GPU 0 is not busy. " * 5}
    labels = {"instance": "gpu-1", "UUID": "GPU-1a2b3c4d-0000-1111-2222-333344445555"}
    title = "GPUUnderused " + " ".join(f"{name}={value}" for name, value in labels.items()) * 2
    wide = _incident(
        *(123456, "P0"),
        title=title,
        owner="maximilian",
        muted_by=["inhibited:42"],
        alerts=[{"annotations": said, "labels": labels}],
    )
    lines = await _listed([wide], "--all")
    assert max(map(len, lines)) <= 80, lines
    text = " ".join(" ".join(lines).split())
    assert said["summary"].strip() in text and f"{title} (muted by inhibited:42)" in text


def test_the_list_for_programs(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "incidents", "--all", "-o", "json")
    (incident,) = json.loads(ended.out)["incidents"]
    assert incident["number"] == 1
    assert incident["severity"] == "P1"
    assert incident["alerts"][0]["labels"]["place"] == "here"


def test_one_incident_with_its_history(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "incidents", "1")
    assert ended.out.startswith("#1 [P1] ")
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "since 20" in ended.out and "history, times in " in ended.out
    again = alertctl("--url", agent.url, "incidents", "#1")
    assert again.out.splitlines()[0] == ended.out.splitlines()[0]
    assert "summary: It fires at 42." in ended.out
    assert "opened" in ended.out
    for_programs = alertctl("--url", agent.url, "incidents", "1", "-o", "json")
    assert {"history", "timers", "messages"} <= json.loads(for_programs.out).keys()


def test_an_incident_that_is_not_there(agent: AgentProcess) -> None:
    for words in (("incidents", "99"), ("ack", "99"), ("resolve", "99")):
        ended = alertctl("--url", agent.url, *words)
        assert ended.code == 1, words
        assert "99" in ended.err


def test_ack_and_resolve(own_agent: AgentProcess) -> None:
    acked = alertctl("ack", "#1", "--by", "li", "--url", own_agent.url, "--note", "on it")
    assert (acked.code, acked.err) == (0, "")
    assert acked.out.endswith(": ACKED, owned by li\n")
    history = json.loads(alertctl("--url", own_agent.url, "incidents", "1", "-o", "json").out)
    assert [e["actor"] for e in history["history"] if e["event"] == "acked"] == ["li"]
    resolved = alertctl("--url", own_agent.url, "resolve", "1", "--by", "li", "--false-positive")
    assert resolved.code == 0
    said, again = resolved.out.splitlines()
    assert said.endswith("RESOLVED (closed by hand, still firing), owned by li")
    assert again.startswith("  notifies again at 20") and again.endswith(" if it still fires")


async def test_what_would_steer_the_terminal_is_not_printed() -> None:
    lines = await _listed([_incident(1, "P0", title="evil\x1b[2J\nname")])
    assert "\x1b" not in "".join(lines)
    assert len(lines) == 3


@pytest.mark.parametrize("number", ["x", "#", "##1", "1.5", "0", "#0", "9" * 30])
def test_what_is_no_number_is_refused_in_words(number: str) -> None:
    ended = alertctl("ack", number)
    assert ended.code == 2 and "is not an incident number; write 42 or '#42'" in ended.err


async def test_what_was_closed_by_hand_is_shown_as_that() -> None:
    closed = _incident(1, "P0", state="RESOLVED", closed_by_hand=True, source="firing")
    doubtful = {**closed, "number": 2, "source": "unknown"}
    text = "\n".join(await _listed([closed, doubtful], "--all"))
    assert "(closed by hand, still firing)" in text and "(closed by hand, state unknown)" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "RESOLVED", "ended_as": "given_up"}, "given up, state unknown"),
        ({"state": "CLOSED", "ended_as": "given_up"}, "given up, state unknown"),
        ({"state": "CLOSED", "ended_as": "unwatched"}, "no longer watched"),
        ({"flapping": True}, "flapping"),
        ({"resolves_at_ms": 0, "flapping": True}, "flapping, clear, resolved at "),
    ],
)
async def test_what_the_state_alone_would_say_wrongly(changes: dict[str, Any], words: str) -> None:
    one = _incident(1, "P0", **changes)
    assert f" ({words}" in "\n".join(await _listed([one], "--all"))


async def test_what_was_resolved_and_what_fires_again_need_no_more_words() -> None:
    ended = _incident(1, "P0", state="RESOLVED", ended_as="resolved")
    text = "\n".join(await _listed([ended, _incident(2, "P0", ended_as="given_up")], "--all"))
    assert "(" not in text.split("\n", 1)[1]


async def test_a_list_that_is_cut_says_so() -> None:
    import asyncio

    def page(number: int, following: str | None) -> Answer:
        data = {"incidents": [_incident(number, "P0")], "next": following, "open": 1}
        return Answer(body=json.dumps({"status": "success", "data": data}).encode())

    async with WebhookSink(page(9, "P0-9"), page(4, "4"), page(9, "9"), page(4, None)) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        cut = await asyncio.to_thread(alertctl, "--url", url, "incidents", "--limit", "2")
        whole = await asyncio.to_thread(alertctl, "--url", url, "incidents", "--limit", "3")
    found = [line.split()[0] for line in cut.out.splitlines() if line.startswith("#")]
    assert found == ["#9", "#4"]
    assert cut.err == "there are more incidents than these 2; raise --limit to see more\n"
    assert (whole.out, whole.err) == (cut.out, "")
    assert "state=open&order=severity&limit=1&cursor=P0-9" in sink.requests[1].path


async def test_a_list_that_is_cut_says_how_many_are_open_and_how_bad() -> None:
    some = [_incident(3, "P0"), _incident(9, "P2")]
    data = {"incidents": some, "next": "P2-9", "open": 40}
    answer = Answer(body=json.dumps({"status": "success", "data": data}).encode())
    async with WebhookSink(usual=answer) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        cut = await asyncio.to_thread(alertctl, "--url", url, "incidents", "--limit", "2")
    assert cut.err == "38 more are open, none worse than P2; raise --limit to see more\n"


async def test_moments_in_the_history_are_clock_times_and_durations_are_not() -> None:
    at_ms = 1_795_900_800_000
    data = {
        **{"next_at_ms": at_ms, "until_ms": at_ms, "raised_again_at_ms": at_ms},
        **{"after_ms": 61_000, "attempt": 1},
    }
    entry = {"at_ms": at_ms, "event": "delivery_retry", "actor": "", "data": data}
    body = {"status": "success", "data": {**_incident(1, "P0"), "history": [entry]}}
    async with WebhookSink(usual=Answer(body=json.dumps(body).encode())) as sink:
        words = ("incidents", "1", f"--url=127.0.0.1:{sink.port}")
        ended = await asyncio.to_thread(alertctl, *words)
    assert ended.code == 0, ended.err
    text = " ".join(ended.out.partition("history")[2].split())
    clock = times.clock(at_ms, int(time.time() * 1000))
    for name in ("next_at", "until", "raised_again_at"):
        assert f"{name}={clock}" in text, text
    assert "after=1m1s" in text and "attempt=1" in text
