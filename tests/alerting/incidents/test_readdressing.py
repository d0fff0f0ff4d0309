"""A receiver, a contact or a policy goes while an incident runs: somebody is told all the same."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from support.alert_events import alert, fires
from support.dispatcher_setup import Floor
from support.policies import MINUTE, P0, P1, P2, SECOND, by, config, to
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    EscalationStep,
)
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.incidents.readdressing import (
    also_called,
    current_policy,
    lost_recipients,
    renames,
)
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.severity import Severity

DOWN = alert("EngineDown", "P0", target="a")
ONLY = EscalationPolicy("P0", (EscalationStep(to("ops")),))


def renamed(*there: str, **policies: EscalationPolicy) -> IncidentConfig:
    """What the file says after the rename: `there` are all addressees that it has."""
    return config(policies=policies, addressees=frozenset(by(*there)))


async def started(settings: IncidentConfig, path: Path) -> Floor:
    return await Floor(settings, SqliteJournal(path / "incidents.db")).open()


async def after(one: Floor, settings: IncidentConfig) -> None:
    """A restart with another configuration, in which lost receivers refuse for good."""
    one.settings = settings
    there = {target.receiver for target in settings.addressees}
    for name in {"ops", "phone", "chat", "mail"} - there:
        one.answers[name] = lambda _: Permanent("no receiver is called so any more")
    await one.restart(down_ms=SECOND)
    await one.deliver()


async def test_a_renamed_receiver_is_told_by_its_new_name(tmp_path: Path) -> None:
    """The page never got through under the old name, and there is no further step."""
    one = await started(config(policies={"P0": ONLY}), tmp_path)
    one.answers["ops"] = lambda _: RetryAt("no route")
    await one.hear(fires(DOWN))
    await after(one, renamed("oncall", P0=EscalationPolicy("P0", (EscalationStep(to("oncall")),))))
    assert one.reasons("unreachable") == [(SECOND, "oncall")]
    assert "ops" in one.arrived[-1][1].note
    await one.restart(down_ms=MINUTE)
    await one.advance(MINUTE)
    assert len(one.told) == 1, "told once"
    story = await one.dispatcher.timeline(1)
    lost = [entry.data for entry in story.history if entry.event == "receivers_lost"]
    assert lost == [{"lost": "ops", "instead": "oncall"}]


async def test_who_was_reached_by_the_old_name_is_not_woken_again(tmp_path: Path) -> None:
    two = replace(ONLY, steps=(EscalationStep(to("ops"), 15 * MINUTE), EscalationStep(to("ops"))))
    one = await started(config(policies={"P0": two}), tmp_path)
    await one.hear(fires(DOWN))
    await after(one, renamed("oncall", P0=EscalationPolicy("P0", (EscalationStep(to("oncall")),))))
    assert [who for _, _, who in one.told] == ["ops"]
    await one.advance(15 * MINUTE)
    assert one.reasons("escalated") == [(15 * MINUTE, "oncall")]


async def test_a_rename_that_is_taken_back_wakes_nobody_again(tmp_path: Path) -> None:
    """Who has the page of this step has it; the page of an earlier step is not this one's."""
    steps = (EscalationStep(to("ops"), 15 * MINUTE), EscalationStep(to("phone")))
    old, other = replace(ONLY, steps=steps), replace(ONLY, steps=(EscalationStep(to("chat")),) * 2)
    one = await started(config(policies={"P0": old}), tmp_path)
    one.answers["phone"] = lambda _: RetryAt("no route")
    await one.hear(fires(DOWN))
    await after(one, renamed("chat", "phone", P0=other))
    one.answers["ops"] = lambda _: Delivered()
    await after(one, renamed("ops", "phone", P0=old))
    assert [who for _, _, who in one.told] == ["ops"]
    await one.advance(20 * MINUTE)  # `phone` is not reached
    await after(one, renamed("ops", P0=replace(ONLY, steps=(EscalationStep(to("ops")),))))
    assert [who for _, _, who in one.told] == ["ops", "ops"]


async def test_a_receiver_that_is_renamed_again_and_again_has_the_page(tmp_path: Path) -> None:
    """It is the same by its address. Another one that takes a name of before has nothing."""

    def policy(name: str) -> IncidentConfig:
        return renamed(name, P0=EscalationPolicy("P0", (EscalationStep(to(name), 15 * MINUTE),)))

    one = await started(policy("ops"), tmp_path)
    await one.hear(fires(DOWN))
    await one.dispatcher.reconfigure(policy("oncall"), one.now, {"ops": "oncall"})
    await one.deliver()
    await one.dispatcher.reconfigure(policy("night"), one.now, {"oncall": "night"})
    await one.deliver()
    assert [who for _, _, who in one.told] == ["ops"]
    one.settings = policy("night")
    await one.restart(down_ms=SECOND)
    await one.dispatcher.reconfigure(policy("day"), one.now, {"night": "day"})
    await one.deliver()
    assert [who for _, _, who in one.told] == ["ops"], "a restart knows it too"
    await one.dispatcher.reconfigure(policy("other"), one.now)  # for somebody who was reached
    await one.dispatcher.reconfigure(policy("new"), one.now)  # for somebody who was not
    await one.deliver()
    assert [who for _, _, who in one.told] == ["ops", "new"]


def test_who_is_called_by_a_name_of_before_is_nobody_else() -> None:
    known = renames("", {"a": "b"}, ["b"])
    known = renames(known, {"b": "c"}, ["c"])
    assert also_called(by("a", "x"), known) == {*by("a", "b", "c", "x")}
    assert also_called(by("a"), renames(known, {"c": "a"}, ["a"])) == {*by("a")}, "and no circle"
    many = renames("", {f"old{n}": f"new{n}" for n in range(2_000)}, [])
    assert len(many) < 50_000


async def test_the_steps_and_reminders_that_follow_reach_somebody(tmp_path: Path) -> None:
    one = await started(config(), tmp_path)
    await one.hear(fires(DOWN))
    now = EscalationPolicy("P0", (EscalationStep(to("pager"), 15 * MINUTE),))
    await after(one, renamed("pager", "phone:li", P0=now))
    await one.advance(30 * MINUTE)
    assert [who for _, who in one.reasons("escalated")] == ["pager", "pager"]
    await one.act(Verb.ACK)
    await one.advance(10 * MINUTE)
    assert [who for _, who in one.reasons("ack_remind")] == ["li"]


async def test_an_exhausted_incident_tells_somebody_again(tmp_path: Path) -> None:
    """Every page refused, the last step over, no final: nothing else would ever be said."""
    one = await started(config(policies={"P0": ONLY}), tmp_path)
    one.answers["ops"] = lambda _: Permanent("gone")
    await one.hear(fires(DOWN))
    await one.advance(31 * SECOND)
    assert (await one.dispatcher.incident(1)).exhausted
    await after(one, renamed("oncall", P0=EscalationPolicy("P0", (EscalationStep(to("oncall")),))))
    assert [who for _, who in one.reasons("unreachable")] == ["oncall"]


async def test_a_start_names_the_incident_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = await started(config(), tmp_path)
    await one.hear(fires(DOWN))
    with caplog.at_level(logging.WARNING):
        await after(one, renamed("phone:li", "mail"))
        await after(one, renamed("phone:li", "mail"))
    said = [record.getMessage() for record in caplog.records]
    (line,) = [one for one in said if "no longer in" in one]
    assert "#1 [P0] EngineDown target=a" in line and "chat, phone (wang)" in line


def test_who_is_told_instead() -> None:
    chat = P1.steps[0].notify[0]
    incident = Incident(1, "u", "k", (), replace(P1, name="night"), Severity.P1, 0)
    by_name = renamed(
        "mail", "night", night=EscalationPolicy("night", (EscalationStep(to("night")),))
    )
    assert lost_recipients(incident, by_name) == (chat, *to("phone:wang"))
    steps = current_policy(incident, by_name).steps
    assert [one.notify for one in steps] == [to("mail", "night"), to("night")]
    by_severity = renamed(
        "pager", P1=EscalationPolicy("P1", (EscalationStep(to("pager")),))
    )  # `night` is gone
    assert [one.notify for one in current_policy(incident, by_severity).steps] == [to("pager")] * 2
    of_p0 = renamed("phone:li")  # nobody of P1 is there
    assert {one.notify for one in current_policy(incident, of_p0).steps} == {to("phone:li")}
    assert current_policy(incident, config()) is not None
    assert current_policy(incident, config()).steps == P1.steps


async def test_what_is_quiet_stays_quiet(tmp_path: Path) -> None:
    one = await started(config(policies={"P0": ONLY}), tmp_path)

    def later(_: object) -> Outcome:
        return RetryAt("no route")

    one.answers["ops"] = later
    await one.hear(fires(DOWN))
    await one.act(Verb.SNOOZE, until_ms=one.now + MINUTE)
    await after(one, renamed("oncall", P0=EscalationPolicy("P0", (EscalationStep(to("oncall")),))))
    assert not one.told
    await one.advance(MINUTE)
    assert [(why, who) for _, why, who in one.told] == [("snooze_end", "oncall")]


def test_p2_is_told_as_before_while_nothing_is_missing() -> None:
    incident = Incident(1, "u", "k", (), P2, Severity.P2, 0)
    every = frozenset(
        Addressee(who.receiver, who.contact)
        for policy in (P0, P1, P2)
        for s in policy.steps
        for who in s.notify
    )
    assert lost_recipients(incident, config(addressees=every)) == ()
