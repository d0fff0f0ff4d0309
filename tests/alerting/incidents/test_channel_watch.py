"""A receiver that delivers nothing is an incident of its own, told by another one."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, SECOND, config, to
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.broken_channels import ALERT_NAME
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationPolicy, EscalationStep
from tocsin_alerting.incidents.history_words import line_words
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.incidents.rates import ReceiverRules
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import BrokenLimit, GroupBy, IncidentConfig, Route
from tocsin_alerting.rules.severity import Severity

RULES = {name: ReceiverRules() for name in ("chat", "mail", "phone", "sms")}
DOWN = alert("EngineDown", "P0", target="a")
SLOW = alert("Slow", "P2", target="b")


def down(_: Notification) -> Outcome:
    return RetryAt("HTTP 503")


def refuses(_: Notification) -> Outcome:
    return Permanent("errcode 93000: invalid key")


def _config(**policies: tuple[str, ...]) -> IncidentConfig:
    """Each policy with one step."""
    every = {"P0": ("chat", "mail"), "P1": ("chat", "mail"), "P2": ("chat",), "P3": ("chat",)}
    made = {
        name: EscalationPolicy(name, (EscalationStep(to(*names)),))
        for name, names in (every | policies).items()
    }
    return config(
        policies=made,
        group=GroupBy(),
        receiver_rules=RULES,
        channel_broken=BrokenLimit(),
        addressees=frozenset(map(Addressee, ("chat", "mail"))),
    )


async def _floor(settings: IncidentConfig | None = None, journal: Any = None) -> Floor:
    return await Floor(settings or _config(), journal).open()


def _broken(floor: Floor) -> list[Incident]:
    known = floor.dispatcher.working.incidents.values()
    return [one for one in known if next(iter(one.members.values())).alert.name == ALERT_NAME]


def _about_it(floor: Floor) -> list[tuple[str, str]]:
    numbers = {one.number for one in _broken(floor)}
    told = [one for one in floor.sent if one.incident in numbers]
    return [(one.receiver, one.reason.value) for one in told]


async def test_after_five_minutes_without_a_delivery_it_is_told_by_another_receiver() -> None:
    floor = await _floor()
    floor.answers["chat"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(4 * MINUTE + 55 * SECOND)
    assert _broken(floor) == []
    await floor.advance(MINUTE + 5 * SECOND)
    (one,) = _broken(floor)
    assert one.severity is Severity.P1 and one.state is IncidentState.TRIGGERED
    assert _about_it(floor) == [("mail", "opened")]
    await floor.advance(30 * MINUTE)
    assert len(_broken(floor)) == 1 and ("chat", "opened") not in _about_it(floor)
    floor.answers.clear()
    await floor.advance(2 * MINUTE)
    (one,) = _broken(floor)
    assert one.state is IncidentState.RESOLVED
    assert _about_it(floor)[-1] == ("mail", "resolved")


async def test_what_waits_goes_at_once_when_it_delivers_again() -> None:
    floor = await _floor()
    floor.answers["chat"] = down
    mild = [alert(f"A{number}", "P3") for number in range(5)]
    await floor.hear(*map(fires, mild))
    await floor.advance(30 * MINUTE)  # each is tried every ten minutes
    floor.answers.clear()
    arrived = len(floor.arrived)
    await floor.hear(fires(SLOW))
    await floor.advance(30 * SECOND)  # the group wait
    titles = [one.title for _, one in floor.arrived[arrived:] if one.receiver == "chat"]
    assert sorted(titles) == ["A0", "A1", "A2", "A3", "A4", "Slow target=b"]


async def test_what_was_told_to_wait_waits_although_another_arrived() -> None:
    floor = await _floor()
    floor.answers["chat"] = lambda one: RetryAt("HTTP 429", floor.now + 20 * MINUTE)
    await floor.hear(fires(alert("A", "P3")))
    await floor.advance(2 * MINUTE)
    floor.answers.clear()
    await floor.hear(fires(SLOW))
    await floor.advance(15 * MINUTE)
    assert [one.title for _, one in floor.arrived] == ["Slow target=b"]
    await floor.advance(5 * MINUTE)
    assert [one.title for _, one in floor.arrived] == ["Slow target=b", "A"]


async def test_what_failed_for_seconds_keeps_its_pause() -> None:
    floor = await _floor()
    tries: list[int] = []

    def busy(one: Notification) -> Outcome:
        if one.title != "A":
            return Delivered()
        tries.append(floor.now)
        return RetryAt("HTTP 503")

    floor.answers["chat"] = busy
    await floor.hear(fires(alert("A", "P3")))
    await floor.advance(20 * SECOND)
    await floor.hear(fires(SLOW))
    await floor.advance(40 * SECOND)
    assert [one.title for _, one in floor.arrived] == ["Slow target=b"]
    assert [at - tries[0] for at in tries] == [s * SECOND for s in (0, 1, 3, 7, 15, 31)]


async def test_the_third_refusal_is_enough() -> None:
    floor = await _floor()
    floor.answers["chat"] = refuses
    for number in range(2):
        await floor.hear(fires(alert(f"A{number}", "P2")))
    await floor.advance(31 * SECOND)
    assert _broken(floor) == []
    await floor.hear(fires(alert("A2", "P2")))
    await floor.advance(MINUTE)
    (one,) = _broken(floor)
    summary = dict(next(iter(one.members.values())).alert.annotations)
    assert summary["summary"] == 'Receiver "chat" delivers nothing'
    assert "errcode 93000: invalid key" in summary["description"]


async def test_one_delivery_between_them_is_enough_to_be_well() -> None:
    floor = await _floor()
    tries: list[str] = []

    def now_and_then(one: Notification) -> Outcome:
        tries.append(one.key)
        return Delivered() if len(tries) % 3 == 0 else Permanent("HTTP 403")

    floor.answers["chat"] = now_and_then
    for number in range(6):
        await floor.hear(fires(alert(f"A{number}", "P2")))
        await floor.advance(2 * MINUTE)
    assert _broken(floor) == [] and len(tries) > 9


@pytest.mark.parametrize(("receiver", "severity"), [("chat", Severity.P1), ("phone", Severity.P3)])
async def test_it_is_as_bad_as_what_goes_through_it(receiver: str, severity: Severity) -> None:
    floor = await _floor(_config(P2=("phone",), P3=("mail",)))
    floor.answers[receiver] = refuses
    for number in range(4):
        await floor.hear(fires(alert(f"A{number}", "P0" if receiver == "chat" else "P2")))
    await floor.advance(MINUTE)
    (one,) = _broken(floor)
    assert one.severity is severity


async def test_a_fallback_of_what_p0_uses_counts_as_used_by_p0() -> None:
    rules = {**RULES, "mail": ReceiverRules(fallback="phone")}
    settings = replace(
        _config(P2=("phone",)),
        receiver_rules=rules,
        addressees=frozenset(map(Addressee, ("chat", "mail", "phone"))),
    )
    floor = await _floor(settings)
    floor.answers["phone"] = refuses
    for number in range(4):
        await floor.hear(fires(alert(f"A{number}", "P2")))
    await floor.advance(MINUTE)
    assert [one.severity for one in _broken(floor)] == [Severity.P1]


async def test_whose_policy_knows_no_other_receiver_is_told_by_one_of_p0() -> None:
    floor = await _floor(_config(P1=("chat",)))
    floor.answers["chat"] = refuses
    for number in range(4):
        await floor.hear(fires(alert(f"A{number}", "P2")))
    await floor.advance(MINUTE)
    assert _about_it(floor) == [("mail", "opened")]


async def test_the_same_person_is_told_by_another_way() -> None:
    people = Contact({"phone": Addressee("phone", "li"), "sms": Addressee("sms", "li")})
    settings = replace(
        _config(P3=("phone:li",), P2=("phone:li",)),
        roster=Roster(contacts={"li": people}),
        addressees=frozenset(),
    )
    floor = await _floor(settings)
    floor.answers["phone"] = refuses
    for number in range(4):
        await floor.hear(fires(alert(f"A{number}", "P2")))
    await floor.advance(MINUTE)
    (one,) = _broken(floor)
    told = [(s.receiver, s.contact) for s in floor.sent if s.incident == one.number]
    assert told == [("sms", "li")]
    await floor.act(Verb.ACK, one.number)
    await floor.advance(3 * HOUR)
    assert all(s.receiver != "phone" for s in floor.sent if s.incident == one.number)


async def test_where_there_is_no_other_the_log_and_the_incident_have_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    only = {name: ("chat",) for name in ("P0", "P1", "P2", "P3")}
    settings = replace(_config(**only), addressees=frozenset({Addressee("chat")}))
    floor = await _floor(settings)
    floor.answers["chat"] = refuses
    with caplog.at_level(logging.ERROR):
        for number in range(4):
            await floor.hear(fires(alert(f"A{number}", "P2")))
        await floor.advance(10 * MINUTE)
    assert _about_it(floor) == []
    assert [one.state for one in _broken(floor)] == [IncidentState.TRIGGERED]
    said = [r.getMessage() for r in caplog.records if "no other to notify by" in r.getMessage()]
    assert said == [
        "receiver chat failed and there is no other to notify by: errcode 93000: invalid key"
    ]


async def test_two_that_are_broken_are_told_by_neither() -> None:
    floor = await _floor(_config(P1=("chat", "mail", "phone")))
    floor.answers |= {"chat": refuses, "mail": refuses}
    for number in range(4):
        await floor.hear(fires(alert(f"A{number}", "P0")))
    await floor.advance(2 * MINUTE)
    numbers = _receivers(floor)
    assert sorted(numbers.values()) == ["chat", "mail"]
    through = {(numbers[s.incident], s.receiver) for s in floor.sent if s.incident in numbers}
    assert ("chat", "chat") not in through and ("mail", "mail") not in through
    assert {("chat", "phone"), ("mail", "phone")} <= through


GROUPINGS = [(), ("alertname",), ("instance",), ("alertname", "target"), ("team",), ("...",)]


@pytest.mark.parametrize("of_route", [False, True])
@pytest.mark.parametrize("by", GROUPINGS)
async def test_however_alerts_are_grouped_each_has_an_incident_told_by_the_one_that_works(
    by: tuple[str, ...], of_route: bool
) -> None:
    routes = (Route(group_by=by),) if of_route else ()
    group = GroupBy() if of_route else GroupBy(by)
    three = frozenset(map(Addressee, ("chat", "mail", "phone")))
    both = replace(_config(P2=("chat", "mail")), group=group, routes=routes, addressees=three)
    floor = await _floor(both)
    floor.answers |= {"chat": down, "mail": down}
    await floor.hear(fires(alert("A", "P2", target="t")))
    await floor.advance(20 * MINUTE)
    about = _receivers(floor)
    assert sorted(about.values()) == ["chat", "mail"]
    through = {(about[s.incident], s.receiver) for s in floor.sent if s.incident in about}
    assert ("chat", "chat") not in through and ("mail", "mail") not in through
    assert {("chat", "phone"), ("mail", "phone")} <= through
    del floor.answers["chat"]
    await floor.advance(10 * MINUTE)
    states = {about[one.number]: one.state for one in _broken(floor)}
    assert states == {"chat": IncidentState.RESOLVED, "mail": IncidentState.TRIGGERED}
    ends = {s.receiver for s in floor.sent if s.reason.value == "resolved" and s.incident in about}
    assert "phone" in ends and "chat" not in ends


async def test_what_opens_while_all_of_its_policy_are_broken_goes_to_another_at_once() -> None:
    three = frozenset(map(Addressee, ("chat", "mail", "phone")))
    floor = await _floor(replace(_config(), addressees=three))
    floor.answers |= {"chat": down, "mail": down}
    await floor.hear(fires(DOWN))
    await floor.advance(5 * MINUTE + 40 * SECOND)
    about = _receivers(floor)
    assert sorted(about.values()) == ["chat", "mail"]
    assert [s.receiver for s in floor.sent if s.incident == max(about)] == ["phone"]
    await floor.advance(6 * MINUTE)
    through = {(s.incident, s.receiver) for s in floor.sent if s.incident in about}
    assert {(number, "phone") for number in about} <= through


async def test_of_several_that_are_broken_one_is_tried_if_there_is_no_other() -> None:
    floor = await _floor()
    floor.answers |= {"chat": down, "mail": down}
    await floor.hear(fires(DOWN))
    await floor.advance(20 * MINUTE)
    about = _receivers(floor)
    through = {(about[s.incident], s.receiver) for s in floor.sent if s.incident in about}
    assert through == {("chat", "mail"), ("mail", "chat")}


async def test_after_a_restart_it_is_known_which_are_broken(tmp_path: Path) -> None:
    three = frozenset(map(Addressee, ("chat", "mail", "phone")))
    settings = replace(_config(), addressees=three)
    floor = await _floor(settings, SqliteJournal(tmp_path / "i.db"))
    floor.answers["chat"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(7 * MINUTE)
    assert sorted(_receivers(floor).values()) == ["chat"]
    await _restarted(floor, tmp_path)
    floor.answers["mail"] = down
    await floor.hear(fires(alert("B", "P0")))
    await floor.advance(7 * MINUTE)
    about = {receiver: number for number, receiver in _receivers(floor).items()}
    assert {s.receiver for s in floor.sent if s.incident == about["mail"]} == {"phone"}
    await floor.dispatcher.close(floor.now)


async def test_what_was_not_sent_is_no_delivery() -> None:
    floor = await _floor()
    outcomes: list[Outcome] = [Delivered()]

    def phone(one: Notification) -> Outcome:
        """Calls for pages alone."""
        if one.reason.value in ("acked", "resolved"):
            return Delivered(detail="only pages ring", unsent=True)
        return outcomes.pop() if outcomes else Permanent("HTTP 401")

    floor.answers["chat"] = phone
    for number in range(4):
        await floor.hear(fires(alert(f"A{number}", "P2")))
        await floor.advance(31 * SECOND)
    await floor.act(Verb.ACK)
    assert [one.state for one in _broken(floor)] == [IncidentState.TRIGGERED]
    told = (await floor.dispatcher.timeline(1)).history
    lines = [line_words(e.event, "", e.data, 0) for e in told if e.event.startswith("deliver")]
    assert lines == ["notified chat (opened)", "chat not told (acked): only pages ring"]


@pytest.mark.parametrize("arrives", [False, True])
async def test_a_phone_that_rings_nobody_for_short_incidents_is_broken_the_third_time(
    arrives: bool,
) -> None:
    """What is over is not tried on: it fails for a minute, once in an hour."""
    floor = await _floor(_config(P2=("phone",)))
    pages = 0

    def phone(one: Notification) -> Outcome:
        nonlocal pages
        if one.reason.value.endswith("resolved"):
            return Delivered(detail="only pages ring", unsent=True)
        pages += 1
        return Delivered() if arrives and pages == 8 else RetryAt("HTTP 503")

    floor.answers["phone"] = phone
    broken = []
    for number in range(3):
        slow = alert(f"Slow{number}", "P2")
        await floor.hear(fires(slow, floor.now))
        await floor.advance(MINUTE)
        await floor.hear(clears(slow))
        broken.append(len(_broken(floor)))
        await floor.advance(HOUR)
    assert broken == [0, 0, 0 if arrives else 1]


async def test_one_that_delivers_again_is_one_to_tell_by() -> None:
    three = frozenset(map(Addressee, ("chat", "mail", "phone")))
    floor = await _floor(replace(_config(), addressees=three))
    floor.answers["chat"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(7 * MINUTE)
    floor.answers = {"mail": down}
    await floor.advance(2 * MINUTE)
    await floor.hear(fires(alert("B", "P0")))
    await floor.advance(7 * MINUTE)
    about = {receiver: number for number, receiver in _receivers(floor).items()}
    assert {s.receiver for s in floor.sent if s.incident == about["mail"]} == {"chat"}


def _receivers(floor: Floor) -> dict[int, str]:
    """Which receiver each incident is about."""
    members = {one.number: next(iter(one.members.values())) for one in _broken(floor)}
    return {number: dict(one.alert.labels)["receiver"] for number, one in members.items()}


async def test_a_restart_keeps_it_and_how_long_it_has_lasted(tmp_path: Path) -> None:
    floor = await _floor(None, SqliteJournal(tmp_path / "i.db"))
    floor.answers["chat"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(3 * MINUTE)
    await _restarted(floor, tmp_path)
    await floor.advance(2 * MINUTE + 30 * SECOND)
    (one,) = _broken(floor)
    await _restarted(floor, tmp_path)
    await floor.advance(10 * MINUTE)
    assert [(i.number, i.state) for i in _broken(floor)] == [(one.number, IncidentState.TRIGGERED)]
    floor.answers.clear()
    await floor.advance(2 * MINUTE)
    assert [i.state for i in _broken(floor)] == [IncidentState.RESOLVED]
    await floor.dispatcher.close(floor.now)


async def _restarted(floor: Floor, tmp_path: Path) -> None:
    await floor.dispatcher.close(floor.now)
    floor.journal = SqliteJournal(tmp_path / "i.db")
    await floor.restart()
    await floor.reconcile(fires(DOWN))


async def test_refusals_of_the_last_run_count(tmp_path: Path) -> None:
    floor = await _floor(None, SqliteJournal(tmp_path / "i.db"))
    floor.answers["chat"] = refuses
    for number in range(2):
        await floor.hear(fires(alert(f"A{number}", "P2")))
    await floor.advance(31 * SECOND)
    await floor.dispatcher.close(floor.now)
    floor.journal = SqliteJournal(tmp_path / "i.db")
    await floor.restart()
    await floor.hear(fires(alert("A2", "P2")))
    await floor.advance(31 * SECOND)
    assert _receivers(floor) == {4: "chat"}
    await floor.dispatcher.close(floor.now)


async def test_one_that_is_no_longer_configured_is_no_longer_watched() -> None:
    floor = await _floor()
    floor.answers["chat"] = refuses
    for number in range(4):
        await floor.hear(fires(alert(f"A{number}", "P2")))
    await floor.advance(MINUTE)
    rules = {name: rule for name, rule in RULES.items() if name != "chat"}
    floor.settings = replace(floor.settings, receiver_rules=rules)
    await floor.restart()
    assert [one.state for one in _broken(floor)] == [IncidentState.RESOLVED]
    assert [one.reason.value for one in floor.sent][-1] != "resolved"


async def test_it_can_be_turned_off() -> None:
    floor = await _floor(replace(_config(), channel_broken=None))
    floor.answers["chat"] = refuses
    await floor.hear(fires(DOWN), fires(SLOW))
    await floor.advance(HOUR)
    assert _broken(floor) == []


async def test_what_a_rule_says_under_the_same_name_goes_by_every_receiver() -> None:
    floor = await _floor()
    own = alert(ALERT_NAME, "P1", receiver="chat", instance="chat")
    await floor.hear(fires(own))
    await floor.advance(MINUTE)
    assert sorted(one.receiver for one in floor.sent) == ["chat", "mail"]
    await floor.hear(clears(own))


MOODS = st.lists(
    st.tuples(st.sampled_from(["well", "down", "refuses"]), st.integers(1, 900)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(MOODS)
def test_whatever_a_receiver_does_it_has_one_incident_that_tells_how_it_is(
    moods: list[tuple[str, int]],
) -> None:
    assert asyncio.run(_played(moods)) == []


async def _played(moods: list[tuple[str, int]]) -> list[str]:
    """What was wrong."""
    floor, wrong = await _floor(), list[str]()
    answers = {"down": down, "refuses": refuses}
    for number, (mood, seconds) in enumerate(moods):
        floor.answers.pop("chat", None)
        if mood in answers:
            floor.answers["chat"] = answers[mood]
        await floor.hear(fires(alert(f"A{number}", "P0")))
        before = len(floor.sent)
        await floor.advance(seconds * SECOND)
        tried = any(one.receiver == "chat" for one in floor.sent[before:])
        standing = [one for one in _broken(floor) if one.is_open]
        if len(_broken(floor)) > 1:
            wrong.append(f"{len(_broken(floor))} incidents")
        if mood == "well" and tried and standing:
            wrong.append("it delivers, and the incident is open")
        if mood == "down" and seconds > 420 and not standing:
            wrong.append(f"down for {seconds} s, and there is none")
        if any(receiver == "chat" for receiver, _ in _about_it(floor)):
            wrong.append("told through itself")
    return wrong
