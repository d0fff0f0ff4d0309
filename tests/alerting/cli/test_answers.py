"""What people do about incidents by the command line: one, several, or the one that is open."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.command_line import Ended, alertctl
from support.webhook_sink import Answer, WebhookSink

INCIDENT: dict[str, Any] = {
    **{"number": 42, "title": "Slow target=a:1", "severity": "P1", "state": "TRIGGERED"},
    **{"owner": "", "source": "firing", "closed_by_hand": False, "assigned_by": ""},
}


def _data(data: object) -> Answer:
    return Answer(body=json.dumps({"status": "success", "data": data}).encode())


def _list(*numbers: int, more: str | None = None) -> Answer:
    some = [{**INCIDENT, "number": number} for number in numbers]
    return _data({"incidents": some, "next": more, "open": len(numbers)})


def _done(*results: dict[str, Any]) -> Answer:
    return _data({"results": list(results)})


def _result(number: int = 42, **changes: Any) -> dict[str, Any]:
    return {"number": number, "incident": {**INCIDENT, "number": number, **changes}}


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[WebhookSink]:
    async with WebhookSink(*answers) as sink:
        yield sink


async def _run(sink: WebhookSink, *words: str) -> Ended:
    return await asyncio.to_thread(alertctl, "--url", f"127.0.0.1:{sink.port}", *words)


def _sent(sink: WebhookSink, at: int = -1) -> dict[str, Any]:
    return dict(json.loads(sink.requests[at].body))


async def test_several_are_one_request_and_each_has_its_result() -> None:
    refused = {"number": 44, "errorType": "conflict", "error": "incident #44 is CLOSED: over"}
    acked = [_result(n, state="ACKED", owner="li") for n in (42, 43)]
    async with answering(_done(*acked, refused)) as sink:
        ended = await _run(sink, "ack", "#42", "43", "44", "--by", "li", "--note", "on it")
    (request,) = sink.requests
    assert request.path == "/api/v1/incidents/bulk"
    sent = _sent(sink)
    assert sent.pop("request_id") and sent.pop("user")
    assert sent == {"action": "ack", "incidents": [42, 43, 44], "by": "li", "note": "on it"}
    assert ended.out.splitlines() == [
        "#42 Slow target=a:1: ACKED, owned by li",
        "#43 Slow target=a:1: ACKED, owned by li",
    ]
    assert (ended.code, ended.err) == (1, "alertctl: incident #44 is CLOSED: over\n")


@pytest.mark.parametrize("verb", ["ack", "unack", "resolve", "escalate"])
async def test_without_a_number_it_is_the_one_that_is_open(verb: str) -> None:
    async with answering(_list(42), _done(_result())) as sink:
        ended = await _run(sink, verb)
    assert ended.code == 0, ended.err
    assert (_sent(sink)["action"], _sent(sink)["incidents"]) == (verb, [42])


async def test_of_several_it_says_what_to_type() -> None:
    async with answering(_list(42, 43)) as sink:
        ended = await _run(sink, "ack")
    assert ended.code == 2 and ended.out == "" and len(sink.requests) == 1
    assert ended.err.splitlines() == [
        "alertctl: 2 incidents are open; say which:",
        "  alertctl ack 42     P1 TRIGGERED Slow target=a:1",
        "  alertctl ack 43     P1 TRIGGERED Slow target=a:1",
    ]


async def test_a_title_is_one_line_whatever_its_labels_hold() -> None:
    title = "Slow target=a\r\n#43 Down: RESOLVED"
    listed = [{**INCIDENT, "number": number, "title": title} for number in (42, 43)]
    several = _data({"incidents": listed, "next": None, "open": 2})
    async with answering(_done(_result(title=title, state="ACKED", owner="li")), several) as sink:
        acked, asked = await _run(sink, "ack", "42"), await _run(sink, "ack")
    assert acked.out == "#42 Slow target=a #43 Down: RESOLVED: ACKED, owned by li\n"
    assert len(asked.err.splitlines()) == 3


async def test_where_none_is_open_it_says_so() -> None:
    async with answering(_list()) as sink:
        ended = await _run(sink, "resolve")
    assert ended.code == 1 and "no incident is open" in ended.err


async def test_a_snooze_until_a_time() -> None:
    soon = time.time() + 7200
    async with answering(_done(_result(state="SNOOZED"))) as sink:
        ended = await _run(sink, "snooze", "42", "2h", "--note", "lunch")
    assert abs(float(_sent(sink)["until"]) - soon) < 60
    assert "SNOOZED" in ended.out and "quiet until 20" in ended.out
    async with answering(_list(7), _done(_result(7, state="SNOOZED"))) as sink:
        await _run(sink, "snooze", "until", "tomorrow", "07:00")
    at = time.localtime(float(_sent(sink)["until"]))
    assert (at.tm_hour, at.tm_min) == (7, 0) and _sent(sink)["incidents"] == [7]


@pytest.mark.parametrize(
    "words", [("42",), ("2h", "42"), ("42", "soon"), ("42", "0s"), ("0", "1h")]
)
def test_what_is_no_end_of_a_snooze_is_wrong_usage(words: tuple[str, ...]) -> None:
    assert alertctl("--url", "127.0.0.1:9", "snooze", *words).code == 2


async def test_handing_over_and_escalating() -> None:
    given = _result(state="ACKED", owner="wang", assigned_by="li")
    async with answering(_done(given), _done(_result())) as sink:
        ended = await _run(sink, "assign", "42", "--to", "wang", "--by", "li")
        await _run(sink, "escalate", "42", "--step", "2")
    assert _sent(sink, 0)["to"] == "wang"
    assert "wang is paged, and must acknowledge" in ended.out
    assert _sent(sink, 1)["step"] == 2


async def test_fields_of_the_record() -> None:
    async with answering(_done(_result())) as sink:
        words = ("--field", "root_cause=fan = off", "--field", "cause=thermal", "--note", "seen")
        ended = await _run(sink, "comment", "42", *words)
    assert _sent(sink)["fields"] == {"root_cause": "fan = off", "cause": "thermal"}
    assert ended.out == "#42 Slow target=a:1: noted (root_cause, cause)\n"
    for wrong in ("root_cause", "=x"):
        refused = alertctl("comment", "42", "--field", wrong)
        assert refused.code == 2 and "write NAME=TEXT" in refused.err


async def test_for_programs() -> None:
    async with answering(_done(_result()), _done(_result())) as sink:
        as_json = await _run(sink, "resolve", "42", "--cause", "oom", "-o", "json")
        as_yaml = await _run(sink, "unack", "42", "-o", "yaml")
    assert json.loads(as_json.out)["results"][0]["incident"] == INCIDENT
    assert as_yaml.out.startswith("results:\n- number: 42\n")
    assert _sent(sink, 0)["cause"] == "oom"
