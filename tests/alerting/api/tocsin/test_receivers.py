"""`/api/v1/receivers`: what each is for, and whether its messages arrive."""

from pathlib import Path
from typing import Any

from support.alert_events import alert, fires
from support.api_client import api_client
from support.dispatcher_setup import Floor
from support.policies import MINUTE, config, to
from tocsin_alerting.api.tocsin.receivers import routes
from tocsin_alerting.incidents.alert_matcher import alert_matcher
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import Route

TYPES = {"phone": "apprise", "chat": "webhook", "mail": "email", "spare": "log"}
NEVER: dict[str, Any] = {
    "state": "never used",
    "waiting": 0,
    "error": "",
    "last_delivered": None,
    "last_failed": None,
    "last_error": "",
    "rate": [],
    "waits_until": None,
    "fallback": "",
}


async def floor(journal: Any = None) -> Floor:
    roster = Roster({"li": Contact({"phone": Addressee("phone", "li")}), "wang": Contact()})
    routes = (Route((alert_matcher("team", "=", "ml"),), receivers_add=to("chat")),)
    return await Floor(config(roster=roster, routes=routes), journal).open()


async def shown(one: Floor) -> tuple[dict[str, Any], dict[str, Any]]:
    async with api_client(routes(one.dispatcher, TYPES)) as client:
        data = (await client.get("/api/v1/receivers")).json()["data"]
    receivers, contacts = data["receivers"], data["contacts"]
    return {one.pop("name"): one for one in receivers}, {c["name"]: c["ways"] for c in contacts}


async def test_what_they_are_for_and_how_contacts_are_reached() -> None:
    receivers, contacts = await shown(await floor())
    assert {name: one["used_by"] for name, one in receivers.items()} == {
        "chat": ["P0", "P1", "P2", "route 1"],
        "mail": ["P0", "P1", "P2", "P3", "P4"],
        "phone": ["P0", "P1"],
        "spare": [],
    }
    never = {**NEVER, "gone_since": None}
    assert receivers["spare"] == {"type": "log", "used_by": [], "contacts": [], **never}
    assert receivers["phone"]["contacts"] == ["li"]
    assert contacts == {"li": [{"way": "phone", "receiver": "phone", **NEVER}], "wang": []}


async def test_the_last_delivery_and_the_last_error(tmp_path: Path) -> None:
    one = await floor(SqliteJournal(tmp_path / "incidents.db"))
    one.answers["chat"] = lambda sent: Permanent("HTTP 404", final=True)
    one.answers["mail"] = lambda sent: RetryAt("connection refused")
    await one.hear(fires(alert(severity="P0"), one.now))
    await one.advance(31 * MINUTE)
    receivers, contacts = await shown(one)
    assert receivers["phone"]["state"] == contacts["li"][0]["state"] == "ok"
    assert contacts["li"][0]["last_delivered"] == "2026-01-01T00:05:00.000Z"
    assert receivers["phone"]["last_delivered"] == "2026-01-01T00:15:00.000Z"  # to wang
    assert (receivers["chat"]["state"], receivers["chat"]["error"]) == ("failing", "HTTP 404")
    assert receivers["chat"]["last_delivered"] is None
    mail = receivers["mail"]
    assert (mail["state"], mail["error"], mail["waiting"]) == ("failing", "connection refused", 1)

    one.answers["mail"] = one.answers["chat"] = lambda sent: Delivered()
    await one.restart()
    await one.advance(20 * MINUTE)
    receivers, _ = await shown(one)
    assert (receivers["mail"]["state"], receivers["mail"]["error"]) == ("ok", "")
    assert receivers["mail"]["last_error"] == "connection refused"
    assert receivers["mail"]["last_failed"] is not None and receivers["mail"]["waiting"] == 0


async def test_the_last_delivery_is_found_however_many_came_after_it(tmp_path: Path) -> None:
    one = await floor(SqliteJournal(tmp_path / "incidents.db"))
    note = one.dispatcher.working.note
    mail = {"receiver": "mail", "contact": ""}
    note(0, "delivered", one.now, data=mail)
    note(0, "delivery_failed", one.now - 1, data=mail | {"error": "refused"})
    for later in range(1, 2_501):
        note(0, "delivered", one.now + later, data={"receiver": "chat", "contact": ""})
    await one.dispatcher.heartbeat(one.now)
    receivers, _ = await shown(one)
    assert receivers["mail"]["last_delivered"] == "2026-01-01T00:00:00.000Z"
    assert receivers["chat"]["last_delivered"] == "2026-01-01T00:00:02.500Z"
    assert receivers["spare"]["state"] == "never used"
