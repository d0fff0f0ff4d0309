"""`/api/v1/oncall`, `/policies`, `/route`: who is on call, and who would be notified."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support.alert_events import alert, fires
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin import oncall
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Recipient,
)
from tocsin_alerting.incidents.oncall import Rotation, Schedule
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import Route

SHANGHAI = ZoneInfo("Asia/Shanghai")  # the floor begins on 2026-01-01 at 8:00 there
ROTATION = Rotation(
    datetime.fromisoformat("2026-01-01T07:00"), timedelta(hours=12), ("li", "wang"), SHANGHAI
)
PEOPLE = {
    name: Contact({"mail": Addressee("mail", name), "chat": Addressee(f"{name}-chat", name)})
    for name in ("li", "wang")
}
PRIMARY = Recipient(schedule="primary")
POLICY = EscalationPolicy(
    "P0",
    (EscalationStep((PRIMARY,), 15 * MINUTE), EscalationStep((Recipient("ops"),), 15 * MINUTE)),
    repeat=1,
    final=FinalStep((Recipient("ops"),), 15 * MINUTE, 30 * MINUTE),
    recover_within_ms=5 * MINUTE,
)
P2 = EscalationPolicy("P2", (EscalationStep((PRIMARY,), 12 * HOUR), EscalationStep((PRIMARY,))))


async def floor() -> Floor:
    schedules = {"primary": Schedule("primary", (ROTATION,), SHANGHAI)}
    hours = {"night": TimeInterval(SHANGHAI, (time_span("22:00", "06:00"),))}
    night = EscalationPolicy("night", (EscalationStep((Recipient("ops"),)),))
    routing = (Route((parse_matcher('team="ml"'),), "night"), Route())
    return await Floor(
        config(
            policies={"P0": POLICY, "P2": P2, "night": night},
            roster=Roster(PEOPLE, schedules, hours),
            routes=routing,
        )
    ).open()


def client(at: Floor, token: str | None = None, address: str = "127.0.0.1") -> httpx.AsyncClient:
    served = oncall.routes(at.dispatcher, new_guard(), lambda: at.now)
    return api_client(served, address, token=token)


async def test_who_is_on_call_now_and_next() -> None:
    async with client(await floor()) as api:
        (shown,) = (await api.get("/api/v1/oncall")).json()["data"]["schedules"]
    assert shown["now"] == {"contact": "li", "until": "2026-01-01T11:00:00.000Z"}
    assert shown["next"]["contact"] == "wang"
    assert shown["time_zone"] == "Asia/Shanghai" and shown["overrides"] == []


async def test_who_was_or_will_be_at_a_time() -> None:
    async with client(await floor()) as api:
        at = {"at": "2026-01-01T12:00:00Z"}
        (shown,) = (await api.get("/api/v1/oncall", params=at)).json()["data"]["schedules"]
        span = {"from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
        one = (await api.get("/api/v1/oncall/primary", params=span)).json()["data"]
    assert shown["now"]["contact"] == "wang"
    assert [shift["contact"] for shift in one["shifts"]] == ["li", "wang", "li"]
    assert one["shifts"][1]["from"] == "2026-01-01T11:00:00.000Z"


SWAP = {"schedule": "primary", "contact": "wang", "for": "2h", "by": "li", "comment": "dentist"}


async def test_an_override_holds_at_once_and_can_be_removed() -> None:
    at = await floor()
    async with client(at) as api:
        made = (await api.post("/api/v1/oncall/overrides", json=SWAP)).json()["data"]
        assert made["until"] == "2026-01-01T02:00:00.000Z" and made["recorded"]
        assert (made["by"], made["comment"]) == ("li", "dentist")
        await at.hear(fires(alert("Down", "P0", target="a")))
        (shown,) = (await api.get("/api/v1/oncall")).json()["data"]["schedules"]
        assert shown["now"] == {"contact": "wang", "until": "2026-01-01T02:00:00.000Z"}
        listed = (await api.get("/api/v1/oncall/overrides")).json()["data"]["overrides"]
        assert [one["id"] for one in listed] == [made["id"]]
        gone = await api.post(f"/api/v1/oncall/overrides/{made['id']}/remove", json={"by": "li"})
        assert gone.status_code == 200
        again = await api.post(f"/api/v1/oncall/overrides/{made['id']}/remove", json={})
        assert again.status_code == 404
    assert {who for _, _, who in at.told} == {"wang"}
    assert at.dispatcher.working.config.roster.schedules["primary"].on_call(START_MS) == "li"


async def test_a_repeated_request_makes_one() -> None:
    at = await floor()
    async with client(at) as api:
        for _ in range(2):
            await api.post("/api/v1/oncall/overrides", json=SWAP | {"request_id": "r1"})
    assert list(at.dispatcher.working.overrides) == ["r1"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"schedule": "primry"}, 404, 'no schedule is called "primry"; did you mean "primary"'),
        ({"contact": "wong"}, 400, 'no contact is called "wong"; did you mean "wang"'),
        ({"contact": 3}, 400, '"contact" is not text'),
        ({"for": ""}, 400, 'either "until" or "for"'),
        ({"until": "2026-02-01T00:00:00Z"}, 400, 'either "until" or "for"'),
        ({"for": "1 fortnight"}, 400, "for"),
        ({"from": "2025-01-01T00:00:00Z"}, 400, "in the future"),
        ({"for": "", "until": "2025-01-01T00:00:00Z"}, 400, "in the future"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_changed(
    body: dict[str, Any], status: int, said: str
) -> None:
    at = await floor()
    async with client(at) as api:
        answer = await api.post("/api/v1/oncall/overrides", json=SWAP | body)
    assert answer.status_code == status and said in answer.json()["error"]
    assert not at.dispatcher.working.overrides


async def test_another_machine_needs_the_token() -> None:
    async with client(await floor(), "secret", "192.0.2.1") as api:
        assert (await api.post("/api/v1/oncall/overrides", json=SWAP)).status_code == 401
        removal = await api.post("/api/v1/oncall/overrides/x/remove", json={})
        assert removal.status_code == 401
        assert (await api.get("/api/v1/oncall")).status_code == 401


async def route(at: Floor, *labels: str, when: str = "") -> dict[str, Any]:
    async with client(at) as api:
        params: dict[str, list[str]] = {"label": list(labels), "at": [when] if when else []}
        answer: dict[str, Any] = (await api.get("/api/v1/route", params=params)).json()["data"]
        return answer


def pages(answer: dict[str, Any]) -> list[tuple[int, str, list[str]]]:
    return [
        (page["after_ms"] // MINUTE, page["reason"], [to["receiver"] for to in page["to"]])
        for page in answer["pages"]
    ]


async def test_the_route_of_labels_is_what_happens_to_such_an_alert() -> None:
    """The dispatcher itself, with nobody who answers, is what it is held against."""
    at = await floor()
    said = await route(at, "alertname=Down", "severity=P0", "target=a")
    assert said["policy"] == "P0" and said["group"] == {"alertname": "Down", "target": "a"}
    assert said["complete"] and said["routes"] == [2]
    await at.hear(fires(alert("Down", "P0", target="a")))
    await at.advance(6 * HOUR)
    happened = [(ms // MINUTE, one.reason.value, one.receiver) for ms, one in at.arrived]
    flat = [(after, why, who) for after, why, to in pages(said) for who in to]
    assert sorted(flat) == sorted(happened) and len(flat) > 8


async def test_it_names_who_is_on_call_at_each_time() -> None:
    said = await route(await floor(), "alertname=Slow", when="2026-01-01T08:00:00Z")
    people = [[to["contact"] for to in page["to"]] for page in said["pages"]]
    assert said["severity"] == "P2" and people == [["li"], ["wang"]]


async def test_hours_and_routes_count() -> None:
    said = await route(await floor(), "team=ml", "severity=P1")
    assert said["policy"] == "night" and said["routes"] == [1]
    assert pages(said) == [(14 * 60, "opened", ["ops"])]


async def test_what_nobody_is_paged_for() -> None:
    said = await route(await floor(), "severity=none")
    assert said["severity"] is None and said["pages"] == []


async def test_nothing_is_sent_or_kept_by_asking() -> None:
    at = await floor()
    await route(at, "severity=P0")
    await at.advance(HOUR)
    assert not at.sent and not at.dispatcher.working.incidents


async def test_policies_name_who_they_are_now() -> None:
    async with client(await floor()) as api:
        data = (await api.get("/api/v1/policies")).json()["data"]
        wrong = await api.get("/api/v1/route", params={"label": "severity"})
    (p0,) = [one for one in data["policies"] if one["name"] == "P0"]
    (on_call,) = p0["steps"][0]["notify"]
    assert on_call["name"] == "schedule primary"
    assert [to["receiver"] for to in on_call["to"]] == ["mail", "li-chat"]
    assert wrong.status_code == 400 and "write it like severity=P0" in wrong.json()["error"]


@pytest.mark.parametrize("at", ["-1", "9000000000", "9999-12-31T00:00:00Z", "1e10", "NaN"])
async def test_a_time_that_no_calendar_has_is_refused(at: str) -> None:
    async with client(await floor()) as api:
        for path in ("oncall", "policies", "route"):
            assert (await api.get(f"/api/v1/{path}", params={"at": at})).status_code == 400
        far = SWAP | {"for": "200y"}
        assert (await api.post("/api/v1/oncall/overrides", json=far)).status_code == 400


async def test_a_schedule_is_a_calendar_to_subscribe_to() -> None:
    pytest.importorskip("icalendar")
    async with client(await floor()) as api:
        answer = await api.get("/api/v1/oncall/primary.ics")
        assert (await api.get("/api/v1/oncall/gone.ics")).status_code == 404
    assert answer.headers["content-type"].startswith("text/calendar")
    assert "DTSTART:20260101T110000Z" in answer.text.split("\r\n")
    assert answer.text.count("BEGIN:VEVENT") == 2 * 90 + 1, "the one that runs began before"
