"""`/api/v1/incidents`: lists, one with its story, actions; nothing is changed by looking."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.routing import Route

from support.alert_events import alert, clears, fires
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import MINUTE, config
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin import incident_actions, incidents
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.time_format import rfc3339

INCIDENTS = "/api/v1/incidents"
Told = Callable[[], Any]


async def floor() -> Floor:
    """A dispatcher with one P0 incident open."""
    opened = await Floor(config()).open()
    await opened.reconcile()
    await opened.hear(fires(alert(target="a:1"), opened.now))
    return opened


def routes(at: Floor, external_url: str = "") -> list[Route]:
    acting = (new_guard(), lambda: at.now)
    return [
        *incidents.routes(at.dispatcher, external_url),
        *incident_actions.routes(at.dispatcher, *acting, external_url),
    ]


def client(at: Floor, address: str = "127.0.0.1", token: str | None = None) -> httpx.AsyncClient:
    return api_client(routes(at), address, token=token)


async def test_the_list_and_the_story() -> None:
    at = await floor()
    async with client(at) as api:
        (one,) = (await api.get(INCIDENTS)).json()["data"]["incidents"]
        story = (await api.get(f"{INCIDENTS}/1")).json()["data"]
    assert one["number"] == 1
    assert (one["severity"], one["state"], one["owner"]) == ("P0", "TRIGGERED", "")
    assert (one["opened_at"], one["opened_at_ms"]) == (rfc3339(START_MS), START_MS)
    assert (one["resolved_at"], one["resolved_at_ms"]) == (None, None)
    (member,) = one["alerts"]
    assert member["labels"] == {"alertname": "EngineDown", "severity": "P0", "target": "a:1"}
    assert member["value"] == "1"
    assert {name: story[name] for name in one} == one
    due_ms = START_MS + 5 * MINUTE
    due = {"at": rfc3339(due_ms), "at_ms": due_ms}
    assert one["next"] == {**due, "what": "slo_breach", "who": []}
    assert one["summary"] == "EngineDown fires"
    assert [entry["event"] for entry in story["history"]][0] == "opened"
    assert {message["state"] for message in story["messages"]} == {"sent"}
    assert all(timer["due_at_ms"] > at.now for timer in story["timers"])


async def test_links_to_the_agent_lead_where_people_reach_it() -> None:
    at = await floor()
    notes = (("runbook_url", "http://127.0.0.1:4911/runbooks/HostCpuHigh"),)
    await at.hear(fires(replace(alert("Other", target="b:1"), annotations=notes), at.now))
    reading = routes(at, external_url="https://bell.example")
    async with api_client(reading) as api:
        listed = (await api.get(INCIDENTS)).json()["data"]["incidents"]
        story = (await api.get(f"{INCIDENTS}/2")).json()["data"]
    (one,) = (incident for incident in listed if incident["number"] == 2)
    links = [shown["alerts"][0]["annotations"]["runbook_url"] for shown in (one, story)]
    assert links == ["https://bell.example/runbooks/HostCpuHigh"] * 2


async def test_lists_by_state() -> None:
    at = await floor()
    async with client(at) as api:

        async def numbers(state: str) -> list[int]:
            answer = await api.get(INCIDENTS, params={"state": state})
            return [one["number"] for one in answer.json()["data"]["incidents"]]

        assert [await numbers(s) for s in ("open", "all", "triggered", "acked")] == [
            [1], [1], [1], []
        ]  # fmt: skip
        answer = await api.get(INCIDENTS, params={"state": "new"})
        assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")


async def test_actions() -> None:
    at = await floor()
    async with client(at) as api:
        acked = await api.post(f"{INCIDENTS}/1/ack", json={"by": "li", "note": "mine"})
        assert (acked.json()["data"]["state"], acked.json()["data"]["owner"]) == ("ACKED", "li")
        unacked = await api.post(f"{INCIDENTS}/1/unack", json={"by": "li"})
        assert unacked.json()["data"]["state"] == "TRIGGERED"
        until = (START_MS + 600_000) / 1000
        snoozed = await api.post(f"{INCIDENTS}/1/snooze", json={"by": "li", "until": until})
        assert snoozed.json()["data"]["state"] == "SNOOZED"
        done = await api.post(f"{INCIDENTS}/1/resolve", data={"by": "li", "note": "a form"})
        assert done.json()["data"]["state"] == "RESOLVED"
        again = await api.post(f"{INCIDENTS}/1/ack", json={})
        assert (again.status_code, again.json()["errorType"]) == (409, "conflict")
        story = (await api.get(f"{INCIDENTS}/1")).json()["data"]
    assert "a form" in str(story["history"])


async def test_many_at_once_and_each_has_its_result() -> None:
    at = await floor()
    await at.hear(*(fires(alert(target=f"b:{number}"), at.now) for number in range(60)))
    body = {"action": "ack", "by": "li", "incidents": [1, *range(2, 62), 99, 1], "request_id": "7"}
    async with client(at) as api:
        first, again = [
            (await api.post(f"{INCIDENTS}/bulk", json=body)).json()["data"]["results"]
            for _ in range(2)
        ]
        story = (await api.get(f"{INCIDENTS}/5")).json()["data"]
    assert [one["number"] for one in first] == [*range(1, 62), 99]
    assert {one["incident"]["state"] for one in first[:-1]} == {"ACKED"}
    assert all(one["incident"]["recorded"] for one in first[:-1])
    missing = {"number": 99, "errorType": "not_found", "error": "no incident #99"}
    assert first[-1] == again[-1] == missing
    assert [e["event"] for e in story["history"]].count("acked") == 1


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"action": "ack"}, {"action": "bless", "incidents": [1]}),
        *({"action": "ack", "incidents": wrong} for wrong in ([], 1, ["1"], [True], [0], [1.5])),
        {"action": "ack", "incidents": list(range(1, 1002))},
        *({"action": "assign", "incidents": [1]}, {"action": "comment", "incidents": [1]}),
        {"action": "comment", "incidents": [1], "fields": {"colour": "red"}},
        {"action": "comment", "incidents": [1], "fields": ["lessons"]},
        {"action": "comment", "incidents": [1], "fields": {"cause": "aliens"}},
        {"action": "resolve", "incidents": [1], "cause": "aliens"},
        {"action": "snooze", "incidents": [1]},
    ],
)
async def test_what_nobody_can_do_to_many_is_refused_whole(body: dict[str, Any]) -> None:
    at = await floor()
    async with client(at) as api:
        answer = await api.post(f"{INCIDENTS}/bulk", json=body)
        (one,) = (await api.get(INCIDENTS)).json()["data"]["incidents"]
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data"), answer.text
    assert one["state"] == "TRIGGERED"


async def test_what_is_over_is_commented_on_and_nothing_else_is_done_to_it() -> None:
    at = await floor()
    await at.hear(clears(alert(target="a:1"), at.now))
    await at.advance(31 * MINUTE)
    said = {"by": "li", "note": "a fan", "fields": {"root_cause": "dust", "cause": "thermal"}}
    async with client(at) as api:
        answer = await api.post(f"{INCIDENTS}/1/comment", json=said)
        refused = await api.post(f"{INCIDENTS}/1/ack", json={})
        story = (await api.get(f"{INCIDENTS}/1")).json()["data"]
    assert answer.json()["data"]["state"] == "CLOSED"
    assert refused.status_code == 409
    last = story["history"][-1]
    assert (last["event"], last["actor"]) == ("commented", "li")
    assert last["data"] == {"note": "a fan", "fields": said["fields"]}


async def test_handing_over_says_who_has_not_answered_yet() -> None:
    at = await floor()
    async with client(at) as api:
        given = (await api.post(f"{INCIDENTS}/1/assign", json={"by": "li", "to": "wang"})).json()
        unknown = await api.post(f"{INCIDENTS}/1/assign", json={"by": "li", "to": "wnag"})
    assert (given["data"]["owner"], given["data"]["assigned_by"]) == ("wang", "li")
    assert unknown.status_code == 409 and "li, wang" in unknown.json()["error"]


class _Full(MemoryJournal):
    """A disk that takes nothing while it is `full`."""

    full = False

    async def commit(self, batch: Changeset) -> None:
        if self.full:
            raise JournalDown("incidents.db: database or disk is full")
        await super().commit(batch)


async def test_an_answer_that_is_not_on_disk_says_so_until_it_is() -> None:
    """Also to who asks again, with the same request."""
    journal = _Full()
    at = await Floor(config(), journal).open()
    await at.hear(fires(alert(target="a:1"), at.now))
    body = {"by": "li", "request_id": "7"}
    async with client(at) as api:
        assert (await api.get(f"{INCIDENTS}/1")).json()["data"]["recorded"] is True
        journal.full = True
        for _ in range(2):
            acked = (await api.post(f"{INCIDENTS}/1/ack", json=body)).json()
            assert (acked["data"]["state"], acked["data"]["recorded"]) == ("ACKED", False)
            (warning,) = acked["warnings"]
            assert "not on disk yet: incidents.db: database or disk is full" in warning
        assert (await api.get(f"{INCIDENTS}/1")).json()["data"]["recorded"] is False
        journal.full = False
        await at.advance(MINUTE)
        while at.dispatcher.writer.down:
            await asyncio.sleep(0)
        again = (await api.post(f"{INCIDENTS}/1/ack", json=body)).json()
    assert again["data"]["recorded"] is True
    assert "warnings" not in again


async def test_an_answer_on_its_way_to_a_disk_that_was_full_is_not_on_it() -> None:
    journal = _Full()
    at = await Floor(config(), journal).open()
    await at.hear(fires(alert(target="a:1"), at.now))
    journal.full = True
    await at.act(Verb.ACK)
    seen: list[bool] = []

    async def commit(batch: Changeset) -> None:
        seen.append(at.dispatcher.writer.incident_waits(1))

    at.dispatcher.writer.journal = _Watched(commit)
    await at.dispatcher.writer.flush(at.now)
    assert seen == [True]
    assert not at.dispatcher.writer.incident_waits(1)


class _Watched(MemoryJournal):
    def __init__(self, commit: Callable[[Changeset], Awaitable[None]]) -> None:
        super().__init__()
        self._watched = commit

    async def commit(self, batch: Changeset) -> None:
        await self._watched(batch)


async def test_a_request_that_is_repeated_is_done_once() -> None:
    at = await floor()
    body = {"by": "li", "request_id": "7"}
    async with client(at) as api:
        answers = await asyncio.gather(
            *(api.post(f"{INCIDENTS}/1/ack", json=body) for _ in range(5))
        )
        story = (await api.get(f"{INCIDENTS}/1")).json()["data"]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["data"]["state"] for answer in answers} == {"ACKED"}
    assert [e["event"] for e in story["history"]].count("acked") == 1


@pytest.mark.parametrize("number", ["2", "0", "9" * 18, "9" * 5000, "x", "-1", "1.0", "%20"])
async def test_an_incident_that_is_not_there(number: str) -> None:
    async with client(await floor()) as api:
        for answer in (
            await api.get(f"{INCIDENTS}/{number}"),
            await api.post(f"{INCIDENTS}/{number}/ack", json={}),
        ):
            assert (answer.status_code, answer.json()["errorType"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("bless", b"{}", 404),
        ("ack", b"[]", 400),
        ("ack", b"{", 400),
        ("ack", b"\xff\x00", 400),
        ("ack", b"[" * 60_000, 400),
        ("ack", b'{"by": 5}', 400),
        ("ack", b'{"note": ["a"]}', 400),
        ("ack", b" " * 70_000, 413),
        ("snooze", b"{}", 400),
        ("snooze", b'{"until": "noon"}', 400),
        ("snooze", b'{"until": true}', 400),
        ("snooze", b'{"until": 1e300}', 400),
        ("escalate", b'{"step": "last"}', 400),
        ("escalate", b'{"step": true}', 400),
        ("escalate", b'{"step": -1}', 409),
    ],
)
async def test_what_makes_no_sense_changes_nothing(verb: str, body: bytes, status: int) -> None:
    at = await floor()
    async with client(at) as api:
        before = (await api.get(f"{INCIDENTS}/1")).json()
        headers = {"content-type": "application/json"}
        answer = await api.post(f"{INCIDENTS}/1/{verb}", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.json()["status"] == "error"
        assert (await api.get(f"{INCIDENTS}/1")).json() == before


async def test_looking_changes_nothing() -> None:
    at = await floor()
    async with client(at) as api:
        before = (await api.get(f"{INCIDENTS}/1")).json()
        for verb in ("ack", "unack", "resolve", "snooze", "escalate"):
            for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
                answer = await api.request(method, f"{INCIDENTS}/1/{verb}")
                assert answer.status_code == 405
        assert (await api.get(f"{INCIDENTS}/1")).json() == before


async def test_another_machine_sees_and_changes_nothing_without_the_token() -> None:
    at = await floor()
    async with client(at, "10.0.0.7", "hunter2") as api:
        assert (await api.get(INCIDENTS)).status_code == 401
        assert (await api.post(f"{INCIDENTS}/1/ack", json={})).status_code == 401
        headers = {"authorization": "Bearer hunter2"}
        assert (await api.post(f"{INCIDENTS}/1/ack", json={}, headers=headers)).status_code == 200


async def test_a_list_has_pages_and_says_where_the_next_begins() -> None:
    at = await floor()
    await at.hear(*(fires(alert(target=str(number)), at.now) for number in range(4)))
    for number in (2, 3):
        await at.act(Verb.RESOLVE, number)
        await at.hear(clears(alert(target=str(number - 2)), at.now))
    await at.advance(31 * MINUTE)  # 2 and 3 are closed: the journal has them
    pages: list[list[int]] = []
    async with client(at) as api:
        cursor = ""
        while cursor is not None:
            asked = {"state": "all", "limit": "2", "cursor": cursor}
            data = (await api.get(INCIDENTS, params=asked)).json()["data"]
            pages.append([one["number"] for one in data["incidents"]])
            cursor = data["next"]
        whole = (await api.get(INCIDENTS, params={"state": "all", "limit": "5"})).json()["data"]
        wrong = [
            (await api.get(INCIDENTS, params=one)).status_code
            for one in ({"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"cursor": "-1"})
        ]
    assert pages == [[5, 4], [3, 2], [1]]
    assert [one["number"] for one in whole["incidents"]] == [5, 4, 3, 2, 1]
    assert whole["next"] is None
    assert wrong == [400] * 4


async def test_by_severity_no_old_p0_is_cut_off_and_what_is_over_comes_last() -> None:
    at = await floor()
    for severity, count in (("P2", 3), ("P0", 1), ("P1", 2)):
        alerts = (alert("Slow", severity, target=f"{severity}-{n}") for n in range(count))
        await at.hear(*(fires(one, at.now) for one in alerts))
    over = alert("Slow", "P2", target="P2-1")
    await at.hear(clears(over, at.now))
    numbers = {one.group_labels: one.number for one in await at.dispatcher.incidents()}
    assert sorted(numbers.values()) == [1, 2, 4, 5, 6, 7]

    async def pages(**asked: str) -> list[list[int]]:
        found: list[list[int]] = []
        cursor = ""
        while cursor is not None:
            wanted = {"order": "severity", "cursor": cursor, **asked}
            data = (await api.get(INCIDENTS, params=wanted)).json()["data"]
            found.append([one["number"] for one in data["incidents"]])
            cursor = data["next"]
            assert data["open"] == 6
        return found

    async with client(at) as api:
        assert await pages(limit="2") == [[5, 1], [7, 6], [4, 2]]
        assert await pages(limit="4") == [[5, 1, 7, 6], [4, 2]]
        assert await pages(limit="6") == [[5, 1, 7, 6, 4, 2]]
        assert await pages(limit="6", state="all") == [[5, 1, 7, 6, 4, 2], [3]]
        assert await pages(limit="5", state="all") == [[5, 1, 7, 6, 4], [2, 3]]
        assert await pages(limit="1", state="resolved") == [[3]]
        await at.advance(31 * MINUTE)  # it is closed: the journal has it
        assert await pages(state="all") == [[5, 1, 7, 6, 4, 2, 3]]
        wrong = [
            (await api.get(INCIDENTS, params=one)).json()["error"]
            for one in (
                {"order": "number"},
                {"order": "severity", "cursor": "P7-1"},
                {"cursor": "P1-1"},
            )
        ]
    assert wrong == [
        'invalid order "number"; use newest or severity',
        'invalid cursor "P7-1"; use the `next` of a response',
        'invalid cursor "P1-1"; use the `next` of a response',
    ]


async def test_of_many_alerts_a_list_shows_the_worst() -> None:
    at = await floor()
    some = [alert("Slow", "P3", target="b:1", gpu=str(number)) for number in range(110)]
    worst = alert("Slow", "P0", target="b:1", gpu="last")
    await at.hear(*(fires(one, at.now) for one in some))
    await at.hear(fires(worst, at.now), *(clears(one, at.now) for one in some[:5]))
    async with client(at) as api:
        listed = (await api.get(INCIDENTS)).json()["data"]["incidents"]
    (slow,) = (one for one in listed if one["labels"]["target"] == "b:1")
    assert slow["alerts"][0]["labels"]["gpu"] == "last"
    assert {one["source"] for one in slow["alerts"]} == {"firing"}


async def test_a_list_shows_a_hundred_alerts_of_an_incident_and_counts_all() -> None:
    at = await floor()
    await at.hear(*(fires(alert(target="a:1", gpu=str(number)), at.now) for number in range(150)))
    async with client(at) as api:
        (listed,) = (await api.get(INCIDENTS)).json()["data"]["incidents"]
        alone = (await api.get(f"{INCIDENTS}/1")).json()["data"]
    assert (len(listed["alerts"]), listed["alert_count"]) == (100, 151)
    assert len(alone["alerts"]) == 151
