"""Another configuration while incidents run: as after a restart, but that nothing is forgotten."""

from dataclasses import replace

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, P0, SECOND, by, config, to
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import AlertMatcher
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, EscalationStep
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.maintenance import MaintenanceWindow
from tocsin_alerting.incidents.outbox_message import RetryAt
from tocsin_alerting.incidents.rates import ReceiverRules, read_rates
from tocsin_alerting.incidents.routing import IncidentConfig, InhibitRule

DOWN = alert("EngineDown", "P0", target="a")
SLOW = alert("EngineSlow", "P0", target="a")


async def reconfigured(floor: Floor, settings: IncidentConfig) -> None:
    await floor.dispatcher.reconfigure(settings, floor.now)
    await floor.deliver()


async def test_an_open_incident_keeps_its_policy_and_its_timers() -> None:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN))
    await floor.advance(10 * MINUTE)
    quick = EscalationPolicy("P0", (EscalationStep(to("mail"), MINUTE), EscalationStep(to("mail"))))
    await reconfigured(floor, config(policies={"P0": quick}))
    await floor.advance(10 * MINUTE)
    assert floor.reasons("escalated") == [(15 * MINUTE, "wang")]
    await floor.hear(fires(alert("Other", "P0", target="b")))
    await floor.advance(2 * MINUTE)
    assert floor.told[-1] == (21 * MINUTE, "escalated", "mail")


async def test_a_page_that_waits_at_a_receiver_that_is_gone_goes_elsewhere() -> None:
    only = EscalationPolicy("P0", (EscalationStep(to("ops")),))
    floor = await Floor(config(policies={"P0": only})).open()
    floor.answers["ops"] = lambda _: RetryAt("no route")
    await floor.hear(fires(DOWN))
    now = EscalationPolicy("P0", (EscalationStep(to("oncall")),))
    known = frozenset(by("oncall", "chat", "mail", "phone:wang"))
    await reconfigured(floor, config(policies={"P0": now}, addressees=known))
    assert floor.reasons("unreachable") == [(0, "oncall")]


async def test_an_acknowledgement_stays() -> None:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN))
    await floor.act(Verb.ACK)
    await reconfigured(floor, config(policies={"P0": replace(P0, name="P0")}))
    incident = await floor.dispatcher.incident(1)
    assert (incident.state, incident.owner) == (IncidentState.ACKED, "li")


async def test_what_went_out_before_counts_for_another_rate() -> None:
    def limited(rate: str) -> IncidentConfig:
        rules = {"chat": ReceiverRules(read_rates([rate]))}
        return config(receiver_rules=rules)

    floor = await Floor(limited("100/h")).open()
    for number in range(6):
        await floor.hear(fires(alert("X", "P2", target=f"t{number}")))
        await floor.advance(MINUTE)
    assert len(floor.told) == 6
    await reconfigured(floor, limited("6/h"))
    await floor.hear(fires(alert("X", "P2", target="late")))
    await floor.advance(10 * MINUTE)
    assert len(floor.told) == 6
    await reconfigured(floor, limited("100/h"))
    await floor.advance(SECOND)
    assert len(floor.told) == 7


async def test_a_window_and_an_inhibition_that_are_new_hold_at_once() -> None:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN), fires(SLOW))
    down, slow = (AlertMatcher("alertname", "=", name) for name in ("EngineDown", "EngineSlow"))
    rule = InhibitRule((down,), (slow,), ("target",))
    await reconfigured(floor, config(inhibit=(rule,)))
    assert [one.muted for one in floor.dispatcher.working.incidents.values()] == [False, True]
    window = MaintenanceWindow("w", (down,), (), None, floor.now - 1, floor.now + HOUR)
    await reconfigured(floor, config(maintenance=(window,)))
    assert [one.muted for one in floor.dispatcher.working.incidents.values()] == [True, False]
    await reconfigured(floor, config())
    assert [one.muted for one in floor.dispatcher.working.incidents.values()] == [False, False]


@pytest.mark.parametrize("expected", [True, False])
async def test_a_heartbeat_that_is_missing_is_missing_still(expected: bool) -> None:
    backup = ExpectedHeartbeat("backup", MINUTE, MINUTE)
    floor = await Floor(config(heartbeats=(backup,))).open()
    await floor.dispatcher.heartbeats.beat("backup", floor.now)
    await floor.advance(5 * MINUTE)
    assert (await floor.dispatcher.incident(1)).is_open
    await reconfigured(floor, config(heartbeats=(backup,) if expected else ()))
    assert (await floor.dispatcher.incident(1)).is_open is expected
    if expected:
        await floor.dispatcher.heartbeats.beat("backup", floor.now)
        assert not (await floor.dispatcher.incident(1)).is_open


async def test_what_fires_on_is_told_no_second_time_and_ends_as_ever() -> None:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN))
    before = list(floor.told)
    await reconfigured(floor, config())
    assert floor.told == before
    await floor.hear(clears(DOWN))
    incident = await floor.dispatcher.incident(1)
    assert incident.state is IncidentState.RESOLVED and floor.now == START_MS
    assert not incident.active
