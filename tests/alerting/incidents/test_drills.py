"""Drills: they page for real, say that they are drills, touch nothing else, and end."""

from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, fires
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import alert_matcher
from tocsin_alerting.incidents.drills import Drill
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.routing import InhibitRule, Route
from tocsin_alerting.incidents.silences import Silence
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.webhook.body import webhook_body
from tocsin_alerting.rules.severity import Severity


def a_drill(one: Floor, severity: Severity = Severity.P0, **more: Any) -> Drill:
    settings = {"labels": {}, "ends_at_ms": one.now + 30 * MINUTE, "started_by": "li", **more}
    return Drill(settings.pop("id", "7f3a"), severity, **settings)


async def begun(one: Floor, severity: Severity = Severity.P0, **more: Any) -> int:
    number = await one.dispatcher.drills.begin(a_drill(one, severity, **more), one.now)
    await one.advance(1)
    return number


async def floor(journal: Any = None, **settings: Any) -> Floor:
    return await Floor(config(**settings), journal).open()


async def found(one: Floor, number: int) -> Incident:
    return await one.dispatcher.incident(number)


async def test_it_pages_escalates_and_ends_by_itself() -> None:
    one = await floor()
    number = await begun(one)
    assert one.told == [(0, "opened", "li"), (0, "opened", "chat")]
    await one.advance(20 * MINUTE)
    assert one.reasons("escalated") == [(15 * MINUTE, "wang")]
    assert (await found(one, number)).is_open
    await one.advance(11 * MINUTE)
    assert {at for at, _ in one.reasons("resolved")} == {30 * MINUTE}
    assert {who for _, who in one.reasons("resolved")} == {"li", "chat", "wang"}
    assert (await found(one, number)).state is IncidentState.RESOLVED
    await one.advance(2 * HOUR)
    told = len(one.told)
    assert (await found(one, number)).state is IncidentState.CLOSED
    await one.advance(24 * HOUR)
    assert len(one.told) == told


async def test_who_acknowledges_stops_it_and_who_resolves_ends_it() -> None:
    one = await floor()
    number = await begun(one)
    await one.act(Verb.ACK, number)
    await one.advance(20 * MINUTE)
    assert one.reasons("escalated") == []
    await one.act(Verb.RESOLVE, number, actor="wang")
    after = await found(one, number)
    assert (after.state, after.closed_by_hand, after.active) == (IncidentState.RESOLVED, False, ())
    assert one.reasons("resolved") and not one.reasons("closed_by_hand")
    history = {entry.event: entry for entry in await one.journal.history(number)}
    assert history["opened"].data["drill"] is True
    assert (history["drill_started"].actor, history["drill_ended"].actor) == ("li", "wang")
    await one.advance(12 * HOUR)
    assert not one.reasons("still_firing")
    events = [entry.event for entry in await one.journal.history(number)]
    assert (events.count("drill_ended"), events.count("resolved")) == (1, 1)


async def test_a_restart_neither_ends_nor_prolongs_it(tmp_path: Path) -> None:
    one = await floor(SqliteJournal(tmp_path / "incidents.db"))
    number = await begun(one)
    await one.restart(down_ms=10 * MINUTE)
    assert (await found(one, number)).is_open and (await found(one, number)).drill
    await one.restart(down_ms=HOUR)
    await one.advance(MINUTE)
    assert not (await found(one, number)).is_open


async def test_the_labels_or_a_name_choose_the_policy() -> None:
    routes = (Route((alert_matcher("alertname", "=", "EngineDown"),), "P2"),)
    one = await floor(routes=routes)
    number = await begun(one, labels={"alertname": "EngineDown"})
    incident = await found(one, number)
    assert (incident.policy.name, incident.severity) == ("P2", "P0")
    assert dict(incident.active[0].alert.labels)["alertname"] == "Drill"
    assert (await found(one, await begun(one, id="8", policy="P1"))).policy.name == "P1"
    with pytest.raises(KeyError):
        await begun(one, id="9", policy="night")


async def test_it_inhibits_nothing_and_nothing_inhibits_it() -> None:
    p0, p1 = (alert_matcher("severity", "=", name) for name in ("P0", "P1"))
    one = await floor(inhibit=(InhibitRule((p0,), (p1,)),))
    await one.hear(fires(alert(severity="P1", target="a"), one.now))
    await begun(one)
    await one.hear(fires(alert(severity="P1", target="b"), one.now))
    await one.advance(MINUTE)
    incidents = await one.dispatcher.incidents((IncidentState.TRIGGERED,))
    assert len(incidents) == 3 and not any(incident.muted for incident in incidents)
    await one.hear(fires(alert(severity="P0", target="c"), one.now))
    milder = await begun(one, Severity.P1, id="8")
    await one.advance(MINUTE)
    assert not (await found(one, milder)).muted
    real = await one.dispatcher.incidents((IncidentState.TRIGGERED,))
    assert {one.severity: one.muted for one in real if not one.drill} == {"P0": False, "P1": True}


async def test_a_silence_keeps_it_quiet_as_it_would_a_real_one() -> None:
    one = await floor()
    matcher = alert_matcher("alertname", "=", "Drill")
    silence = Silence("", (matcher,), one.now, one.now + HOUR, "li", "test")
    await one.dispatcher.silencing.put(silence, "s", one.now)
    assert (await found(one, await begun(one))).muted and one.told == []


async def test_the_same_request_begins_one() -> None:
    one = await floor()
    assert await begun(one) == await begun(one)
    assert await begun(one, id="other") != 1


async def test_every_message_says_that_it_is_a_drill_in_both_languages() -> None:
    one = await floor()
    number = await begun(one, note="the first of the month")
    await one.act(Verb.ACK, number)
    await one.act(Verb.RESOLVE, number)
    assert {sent.reason for sent in one.sent} == {"opened", "acked", "resolved"}
    for language, word, why in (
        ("en", "DRILL", "nothing is wrong"),
        ("zh", "演练", "没有发生故障"),
    ):
        templates = MessageTemplates(language)
        for sent in one.sent:
            assert templates.subject(sent).startswith(f"[{word}] [P0"), sent.reason
            assert templates.line(sent).startswith(f"[{word}] P0")
            assert why in templates.text(sent) and why in templates.html(sent)
    text = MessageTemplates("en").text(one.sent[0])
    assert "li drills how P0 reaches people." in text and "the first of the month" in text
    assert webhook_body(one.sent[0])["tocsin"]["drill"] is True


async def test_a_real_incident_says_nothing_of_a_drill() -> None:
    one = await floor()
    await one.hear(fires(alert(severity="P0"), one.now))
    await one.advance(SECOND)
    assert "DRILL" not in MessageTemplates("en").text(one.sent[0])
    assert webhook_body(one.sent[0])["tocsin"]["drill"] is False


async def test_statistics_leave_it_out_unless_asked() -> None:
    one = await floor()
    number = await begun(one)
    await one.act(Verb.ACK, number)
    await one.act(Verb.RESOLVE, number)
    span = (one.now - HOUR, one.now + HOUR)
    counted = (await one.dispatcher.records.statistics(*span)).severities
    assert counted == {}
    with_drills = await one.dispatcher.records.statistics(*span, drills=True)
    assert (with_drills.severities["P0"].acked, with_drills.severities["P0"].pages) == (1, 2)
