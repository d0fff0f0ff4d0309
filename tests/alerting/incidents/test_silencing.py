"""Silences and maintenance windows through the dispatcher: who hears what, and when."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, clears, fires, unknown
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from support.silences import silence
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span, time_zone
from tocsin_alerting.incidents.errors import NoSuchSilence
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import IncidentState, TimerKind
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.maintenance import MaintenanceWindow
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import GroupBy
from tocsin_alerting.incidents.silences import InvalidSilence, Silence, SilenceState

SLOW = alert("Slow", "P1", target="a")
DOWN = alert("Down", "P0", target="a")


async def opened(**changes: Any) -> Floor:
    return await Floor(config(**changes)).open()


async def put(floor: Floor, *matchers: str, name: str = "s1", **changes: Any) -> Silence:
    wanted = silence(floor.now, *matchers, **changes)
    set_one = await floor.dispatcher.silencing.put(wanted, name, floor.now)
    await floor.deliver()
    return set_one


def muted(floor: Floor, number: int = 1) -> set[str]:
    return set(floor.dispatcher.working.incidents[number].muted_by)


async def history(floor: Floor, number: int) -> list[str]:
    return [entry.event for entry in await floor.journal.history(number)]


async def test_what_a_silence_matches_pages_nobody_until_it_ends() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"')
    await floor.hear(fires(SLOW))
    assert muted(floor) == {"silence:s1"}
    await floor.advance(59 * MINUTE)
    assert floor.told == []
    assert "suppressed" in await history(floor, 1)
    await floor.advance(2 * MINUTE)
    assert floor.told == [(HOUR, "unmuted", "chat"), (HOUR, "unmuted", "mail")]
    assert floor.arrived[0][1].note == "was muted for 1h"
    assert muted(floor) == set()


async def test_another_alert_is_heard() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"')
    await floor.hear(fires(DOWN))
    assert {who for _, _, who in floor.told} == {"li", "chat"}


async def test_a_silence_on_what_pages_withdraws_it_and_stops_the_escalation() -> None:
    floor = await opened()
    await floor.hear(fires(DOWN))
    await put(floor, 'alertname="Down"', for_ms=2 * HOUR)
    before = len(floor.told)
    await floor.advance(110 * MINUTE)
    assert floor.told[before:] == []
    await floor.hear(clears(DOWN))
    assert {why for _, why, _ in floor.told[before:]} == {"resolved"}


async def test_what_is_acknowledged_stays_quiet_after_the_silence() -> None:
    floor = await opened()
    await floor.hear(fires(SLOW))
    await put(floor, 'alertname="Slow"', for_ms=10 * MINUTE)
    await floor.act(Verb.ACK)
    before = len(floor.told)
    await floor.advance(30 * MINUTE)
    assert floor.told[before:] == []


async def test_a_pending_silence_mutes_from_its_start() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', starts_at_ms=START_MS + 10 * MINUTE)
    await floor.advance(10 * MINUTE)
    await floor.hear(fires(SLOW))
    await floor.advance(MINUTE)
    assert floor.told == [] and muted(floor) == {"silence:s1"}


BOTH = {"group": GroupBy(("target",))}


async def test_of_an_incident_with_a_silenced_alert_only_the_others_are_told() -> None:
    """The worse of the two is silenced: the incident has the severity of the other."""
    floor = await opened(**BOTH)
    await put(floor, 'alertname="Down"')
    await floor.hear(fires(DOWN), fires(SLOW))
    await floor.advance(15 * SECOND)
    assert [one.alerts[0].labels["alertname"] for _, one in floor.arrived] == ["Slow", "Slow"]
    assert {len(one.alerts) for _, one in floor.arrived} == {1}
    assert {one.severity for _, one in floor.arrived} == {"P1"}
    assert muted(floor) == set()


async def test_a_silenced_alert_that_joins_pages_nobody_again() -> None:
    floor = await opened(**BOTH)
    await put(floor, 'alertname="Down"', for_ms=30 * MINUTE)
    await floor.hear(fires(SLOW))
    await floor.advance(MINUTE)
    told = len(floor.told)
    await floor.hear(fires(DOWN))
    assert floor.told[told:] == []
    assert floor.dispatcher.working.incidents[1].severity == "P1"
    await floor.advance(30 * MINUTE)  # and when it is heard again, the incident gets worse
    worse = [one for _, one in floor.arrived[told:] if one.reason == "worse"]
    assert {one.contact or one.receiver for one in worse} == {"li", "chat"}
    assert worse[0].severity == "P0" and len(worse[0].alerts) == 2


async def test_when_the_others_are_over_the_rest_is_muted_and_pages_at_the_end() -> None:
    floor = await opened(**BOTH)
    await put(floor, 'alertname="Slow"')
    await floor.hear(fires(SLOW), fires(DOWN))
    await floor.hear(clears(DOWN))
    assert muted(floor) == {"silence:s1"}
    told = len(floor.told)
    await floor.advance(50 * MINUTE)
    assert {why for _, why, _ in floor.told[told:]} <= {"silence_ends"}
    await floor.advance(20 * MINUTE)
    assert "unmuted" in {why for _, why, _ in floor.told[told:]}


async def test_a_loud_alert_that_joins_a_muted_incident_is_told_at_once() -> None:
    floor = await opened(**BOTH)
    await put(floor, 'alertname="Slow"')
    await floor.hear(fires(SLOW))
    await floor.advance(MINUTE)
    await floor.hear(fires(DOWN))
    assert [one.alerts[0].labels["alertname"] for _, one in floor.arrived] == ["Down", "Down"]
    assert {one.severity for _, one in floor.arrived} == {"P0"}


async def test_reopening_under_a_silence_pages_nobody() -> None:
    floor = await opened()
    await floor.hear(fires(SLOW))
    await floor.advance(MINUTE)
    await floor.hear(clears(SLOW))
    await put(floor, 'alertname="Slow"')
    told = len(floor.told)
    await floor.hear(fires(SLOW))
    assert floor.told[told:] == [] and muted(floor) == {"silence:s1"}


async def test_closed_by_hand_and_silenced_it_is_not_raised_again() -> None:
    floor = await opened()
    await floor.hear(fires(SLOW))
    await floor.advance(MINUTE)
    await floor.act(Verb.RESOLVE)
    await put(floor, 'alertname="Slow"', for_ms=3 * HOUR)
    told = len(floor.told)
    await floor.advance(2 * HOUR)
    assert floor.told[told:] == []
    assert floor.dispatcher.working.incidents[1].state is IncidentState.TRIGGERED


async def test_inhibited_and_silenced_alerts_make_a_quiet_incident() -> None:
    """Each of its alerts is quiet, by one or by the other."""
    floor = await opened(**BOTH)
    await put(floor, 'alertname="Slow"')
    await floor.hear(fires(SLOW), fires(alert("Warm", "P2", target="a")))
    assert muted(floor) == set()
    await put(floor, 'alertname="Warm"', name="s2")
    assert muted(floor) == {"silence:s1", "silence:s2"}


# until it is over


async def test_until_it_is_over_ends_with_what_it_matched() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', until_resolved=True, for_ms=48 * HOUR)
    await floor.advance(HOUR)
    assert _state(floor) is SilenceState.ACTIVE  # it has matched nothing yet
    await floor.hear(fires(SLOW))
    await floor.hear(unknown(SLOW))
    await floor.advance(MINUTE)
    assert _state(floor) is SilenceState.ACTIVE  # unknown is not over
    await floor.restart()
    await floor.reconcile(unknown(SLOW))
    await floor.hear(clears(SLOW))
    await floor.advance(SECOND)
    assert _state(floor) is SilenceState.EXPIRED
    assert "silence_ended" in await history(floor, 0)
    await floor.hear(fires(SLOW))
    assert "reopened" in {why for _, why, _ in floor.told}


def _state(floor: Floor, name: str = "s1") -> SilenceState:
    return floor.dispatcher.silencing.get(name).state(floor.now)


# the warning before its end


async def test_its_author_hears_before_the_end_that_something_fires_under_it() -> None:
    people = {name: Contact({"email": Addressee("mail", name)}) for name in ("li", "wang")}
    floor = await opened(roster=Roster(people))
    await put(floor, 'alertname="Slow"', warn_before_ms=15 * MINUTE)
    await floor.hear(fires(SLOW))
    await floor.restart()
    await floor.advance(46 * MINUTE)
    ((at_ms, sent),) = floor.arrived
    assert (at_ms, sent.reason, sent.contact) == (45 * MINUTE, "silence_ends", "li")
    assert (sent.incident, sent.incidents) == (0, (1,))
    assert sent.next_at_ms == START_MS + HOUR
    assert sent.alerts[0].labels["alertname"] == "Slow"
    await floor.restart()
    await floor.advance(10 * MINUTE)
    assert len(floor.arrived) == 1


async def test_an_author_who_is_no_contact_has_the_policy_told() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', warn_before_ms=15 * MINUTE)
    await floor.hear(fires(SLOW))
    await floor.advance(46 * MINUTE)
    assert floor.told == [
        (45 * MINUTE, "silence_ends", "chat"),
        (45 * MINUTE, "silence_ends", "mail"),
    ]


@pytest.mark.parametrize("for_ms", [15 * MINUTE, MINUTE])
async def test_a_short_silence_warns_nobody(for_ms: int) -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', for_ms=for_ms, warn_before_ms=15 * MINUTE)
    await floor.hear(fires(SLOW))
    await floor.advance(HOUR)
    assert "silence_ends" not in {why for _, why, _ in floor.told}


async def test_nothing_fires_under_it_and_nobody_is_warned() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', warn_before_ms=15 * MINUTE)
    await floor.hear(fires(SLOW))
    await floor.hear(clears(SLOW))
    await floor.advance(HOUR)
    assert floor.told == []
    assert floor.dispatcher.working.subject_timers == {}


# what people do with them


async def test_expiring_it_pages_at_once() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"')
    await floor.hear(fires(SLOW))
    await floor.advance(5 * MINUTE)
    ended = await floor.dispatcher.silencing.expire("s1", "wang", floor.now)
    await floor.deliver()
    assert ended.state(floor.now) is SilenceState.EXPIRED
    assert {why for _, why, _ in floor.told} == {"unmuted"}
    again = await floor.dispatcher.silencing.expire("s1", "wang", floor.now)
    assert again == ended


async def test_extending_it_moves_its_end_and_its_warning() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', warn_before_ms=15 * MINUTE)
    await floor.hear(fires(SLOW))
    await floor.dispatcher.silencing.extend("s1", START_MS + 3 * HOUR, "wang", floor.now)
    await floor.advance(2 * HOUR)
    assert floor.told == []
    await floor.advance(HOUR)
    assert [at for at, why, _ in floor.told if why == "silence_ends"] == [165 * MINUTE] * 2


async def test_an_update_keeps_the_id_or_makes_a_new_one_as_in_alertmanager() -> None:
    floor = await opened()
    first = await put(floor, 'alertname="Slow"')
    desk = floor.dispatcher.silencing
    await floor.advance(MINUTE)
    longer = replace(first, ends_at_ms=first.ends_at_ms + HOUR, comment="longer")
    assert (await desk.put(longer, "s2", floor.now)).id == "s1"
    other = replace(longer, matchers=(parse_matcher('alertname="Down"'),))
    assert (await desk.put(other, "s3", floor.now)).id == "s3"
    assert desk.get("s1").state(floor.now) is SilenceState.EXPIRED
    assert desk.get("s3").starts_at_ms == floor.now
    again = replace(desk.get("s1"), ends_at_ms=floor.now + HOUR)
    assert (await desk.put(again, "s4", floor.now)).id == "s4"
    with pytest.raises(NoSuchSilence):
        await desk.put(replace(first, id="gone"), "s5", floor.now)


async def test_a_pending_one_that_expires_never_begins() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', starts_at_ms=START_MS + MINUTE)
    await floor.dispatcher.silencing.expire("s1", "li", floor.now)
    await floor.advance(2 * MINUTE)
    await floor.hear(fires(SLOW))
    assert muted(floor) == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matchers": ()}, "at least one matcher"),
        ({"matchers": ('severity=~".*"',)}, "would silence every alert"),
        ({"matchers": ('alertname=~".+"',)}, "would silence every alert"),
        ({"matchers": ('instance!="a"',)}, "would silence every alert"),
        ({"matchers": ('alertname="A"',), "for_ms": 0}, "ends before it starts"),
        ({"matchers": ('alertname="A"',), "starts_at_ms": 0, "ends_at_ms": 5}, "in the past"),
    ],
)
async def test_what_no_silence_can_be_says_why(changes: dict[str, Any], words: str) -> None:
    floor = await opened()
    matchers = changes.pop("matchers")
    with pytest.raises(InvalidSilence, match=words):
        await put(floor, *matchers, **changes)
    assert not floor.dispatcher.silencing.all


async def test_everything_is_silenced_when_that_is_said() -> None:
    floor = await opened()
    wanted = silence(floor.now, 'alertname=~".+"')
    await floor.dispatcher.silencing.put(wanted, "s1", floor.now, everything=True)
    await floor.hear(fires(SLOW), fires(DOWN))
    await floor.advance(MINUTE)
    assert floor.told == []


async def test_the_same_request_once_more_is_the_same_silence() -> None:
    floor = await opened()
    first = await put(floor, 'alertname="Slow"')
    assert await put(floor, 'alertname="Slow"') == first
    assert list(floor.dispatcher.silencing.all) == ["s1"]


async def test_the_preview_counts_what_fires_and_what_fired(tmp_path: Path) -> None:
    journals = MemoryJournal(), SqliteJournal(tmp_path / "incidents.db")
    for journal in journals:
        floor = await Floor(config(), journal).open()
        old = alert("Slow", "P0", target="old")
        await floor.hear(fires(old))
        await floor.hear(clears(old))
        await floor.advance(8 * 24 * HOUR)
        await floor.hear(fires(DOWN), fires(alert("Slow", "P0", target="c")))
        await floor.hear(clears(alert("Slow", "P0", target="c")))
        await floor.advance(HOUR)
        await floor.hear(fires(SLOW))
        wanted = silence(floor.now, 'alertname="Slow"')
        seen = await floor.dispatcher.silencing.preview(wanted, floor.now)
        assert [one.number for one in seen.firing] == [4]
        assert (seen.alerts, seen.recent, seen.recent_p0) == (1, 2, 1)
        await floor.dispatcher.close(floor.now)


# what it survives


async def test_it_survives_a_kill_and_holds_before_anything_pages(tmp_path: Path) -> None:
    floor = await Floor(config(), SqliteJournal(tmp_path / "incidents.db")).open()
    await put(floor, 'alertname="Down"', warn_before_ms=15 * MINUTE)
    await floor.hear(fires(DOWN))
    await floor.restart(down_ms=20 * MINUTE)
    await floor.reconcile(fires(DOWN))
    await floor.advance(20 * MINUTE)
    assert floor.told == [] and muted(floor) == {"silence:s1"}
    await floor.advance(21 * MINUTE)
    assert {why for _, why, _ in floor.told} == {"silence_ends", "unmuted"}


async def test_a_clock_that_is_set_makes_it_neither_longer_nor_shorter() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"', warn_before_ms=15 * MINUTE)
    await floor.hear(fires(SLOW))
    jump_ms = 5 * HOUR
    floor.now += jump_ms
    floor.dispatcher.clock_jumped(jump_ms, floor.now)
    await floor.advance(SECOND)
    await floor.restart()
    await floor.advance(44 * MINUTE)
    assert floor.told == []
    await floor.advance(17 * MINUTE)
    assert {at - jump_ms for at, _, _ in floor.told} == {45 * MINUTE, HOUR}


async def test_old_ones_are_forgotten() -> None:
    floor = await opened()
    await put(floor, 'alertname="Slow"')
    await floor.advance(121 * HOUR)
    await floor.dispatcher.prune(floor.now, 400 * 24 * HOUR)
    assert floor.dispatcher.silencing.all
    await floor.advance(HOUR)
    await floor.dispatcher.prune(floor.now, 400 * 24 * HOUR)
    await floor.restart()
    assert not floor.dispatcher.silencing.all


# maintenance windows


BERLIN = time_zone("Europe/Berlin")
NIGHTLY = MaintenanceWindow(
    "drivers",
    (parse_matcher('target="a"'),),
    (parse_matcher('severity="P0"'),),
    TimeInterval(BERLIN, (time_span("02:00", "04:00"),)),
)


async def test_a_window_mutes_what_it_matches_but_its_exceptions() -> None:
    floor = await opened(maintenance=(NIGHTLY,))
    await floor.advance(90 * MINUTE)  # 02:30 in Berlin, as the story starts at 00:00 UTC
    await floor.hear(fires(SLOW), fires(DOWN))
    slow, down = floor.dispatcher.working.incidents.values()
    names = {one.group_labels: one.muted_by for one in (slow, down)}
    assert {next(iter(dict(k).values())): set(v) for k, v in names.items()} == {
        "Slow": {"maintenance:drivers"},
        "Down": set(),
    }
    await floor.advance(89 * MINUTE)
    assert {why for _, why, _ in floor.told if why == "unmuted"} == set()
    await floor.advance(2 * MINUTE)
    assert {at for at, why, _ in floor.told if why == "unmuted"} == {3 * HOUR}


async def test_a_window_begins_by_itself_and_holds_over_a_restart() -> None:
    floor = await opened(maintenance=(NIGHTLY,))
    await floor.hear(fires(SLOW))
    await floor.advance(61 * MINUTE)
    assert muted(floor) == {"maintenance:drivers"}
    told = len(floor.told)
    await floor.restart(down_ms=30 * MINUTE)
    await floor.reconcile(fires(SLOW))
    await floor.advance(30 * MINUTE)
    assert floor.told[told:] == [] and muted(floor) == {"maintenance:drivers"}


async def test_a_window_over_a_clock_change_lasts_as_the_wall_clock_says() -> None:
    """On 2026-03-29 there is no 02:00 to 03:00 in Berlin: an hour is left of the window."""
    floor = Floor(config(maintenance=(NIGHTLY,)))
    floor.now = 1_774_742_400_000  # 2026-03-29 00:00 UTC, 01:00 in Berlin
    await floor.open()
    await floor.hear(fires(SLOW))
    await floor.advance(MINUTE)
    await floor.advance(60 * MINUTE)
    assert muted(floor) == {"maintenance:drivers"}
    await floor.advance(60 * MINUTE)
    assert muted(floor) == set()


async def test_an_ad_hoc_window_is_set_and_ended_like_a_silence() -> None:
    floor = await opened(maintenance=(NIGHTLY,))
    await put(floor, 'alertname="Slow"', window="rack-3", name="w1")
    await floor.hear(fires(SLOW))
    assert muted(floor) == {"maintenance:rack-3"}
    with pytest.raises(InvalidSilence, match='"rack-3" exists already'):
        await put(floor, 'alertname="Slow"', window="rack-3", name="w2")
    with pytest.raises(InvalidSilence, match='"drivers" exists in the configuration'):
        await put(floor, 'alertname="Slow"', window="drivers", name="w2")
    await floor.dispatcher.silencing.expire("w1", "li", floor.now)
    assert muted(floor) == set()
    assert TimerKind.GROUP_WAIT in floor.dispatcher.working.schedule.of_incident(1)
