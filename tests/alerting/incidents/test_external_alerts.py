"""Alerts of other senders: by whose word they stand, and how each of them ends."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from support.posted_alerts import external
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.external_alerts import ExternalAlert, ExternalAlerts, merged
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.rules.alert import EventKind

DAY = 24 * HOUR
OTHER = "http://prom-2:9090"


async def floor(journal: object = None) -> Floor:
    return await Floor(config(), journal).open()  # type: ignore[arg-type]


async def says(one: Floor, *posted: ExternalAlert, lasts: int = 4 * MINUTE) -> None:
    """The senders say now that these fire, for `lasts` milliseconds from now."""
    now = one.now
    alive = [
        replace(a, starts_at_ms=START_MS, ends_at_ms=now + lasts, updated_at_ms=now) for a in posted
    ]
    receipt = await one.dispatcher.receive(alive, now)
    assert receipt.recorded
    await one.deliver()


async def resolves(one: Floor, *posted: ExternalAlert) -> None:
    ended = [replace(a, starts_at_ms=START_MS, ends_at_ms=one.now) for a in posted]
    assert (await one.dispatcher.receive(ended, one.now)).recorded
    await one.deliver()


async def only(one: Floor) -> Incident:
    (incident,) = await one.dispatcher.incidents(tuple(IncidentState))
    return incident


async def test_an_alert_of_others_is_paged_by_the_same_policy() -> None:
    one = await floor()
    await says(one, external())
    await one.advance(1)
    assert one.told == [(0, "opened", "li"), (0, "opened", "chat")]
    assert (await only(one)).severity == "P0"


@pytest.mark.parametrize(
    ("severity", "policy"),
    [("critical", "P0"), ("warning", "P1"), ("info", "P2"), ("P3", "P3"), ("page", "P2")],
)
async def test_severities_mean_what_they_mean_in_rules(severity: str, policy: str) -> None:
    one = await floor()
    await says(one, external(severity=severity))
    assert (await only(one)).policy.name == policy


async def test_severity_none_pages_nobody_and_is_kept() -> None:
    one = await floor()
    await says(one, external(severity="none"))
    assert await one.dispatcher.incidents(tuple(IncidentState)) == []
    assert len(one.dispatcher.working.external) == 1


async def test_only_the_sender_s_word_resolves() -> None:
    one = await floor()
    await says(one, external())
    await resolves(one, external())
    incident = await only(one)
    assert (incident.state, incident.source) == (IncidentState.RESOLVED, Condition.CLEAR)
    assert len(one.dispatcher.working.external) == 0


async def test_an_end_that_passes_without_a_word_is_unknown() -> None:
    one = await floor()
    await says(one, external())
    await one.advance(4 * MINUTE - 1)
    assert (await only(one)).source is Condition.FIRING
    await one.advance(1)
    incident = await only(one)
    assert (incident.state, incident.source) == (IncidentState.TRIGGERED, Condition.UNKNOWN)
    await one.advance(5 * MINUTE)
    assert [who for _, who in one.reasons("unknown")] == ["li", "chat"]


async def test_who_renews_in_time_keeps_it_firing() -> None:
    one = await floor()
    for _ in range(20):
        await says(one, external())
        await one.advance(MINUTE)
    assert (await only(one)).source is Condition.FIRING
    assert one.reasons("unknown") == []


async def test_a_sender_that_returns_ends_the_doubt() -> None:
    one = await floor()
    await says(one, external())
    await one.advance(HOUR)
    assert (await only(one)).source is Condition.UNKNOWN
    await says(one, external())
    assert (await only(one)).source is Condition.FIRING
    await one.advance(HOUR)
    await resolves(one, external())
    assert (await only(one)).state is IncidentState.RESOLVED


async def test_after_a_day_it_is_given_up_and_nobody_hears_resolved() -> None:
    one = await floor()
    await says(one, external())
    await one.advance(DAY + 5 * MINUTE)
    (incident,) = await one.dispatcher.incidents(tuple(IncidentState))
    assert not incident.is_open
    assert one.reasons("given_up")
    assert one.reasons("resolved") == []
    assert len(one.dispatcher.working.external) == 0
    assert one.dispatcher.working.external.next_due_ms() is None


async def test_what_two_senders_say_fires_until_both_have_ended_it() -> None:
    one = await floor()
    await says(one, external(), external(sender=OTHER))
    await resolves(one, external())
    assert (await only(one)).source is Condition.FIRING
    await resolves(one, external(sender=OTHER))
    assert (await only(one)).source is Condition.CLEAR


async def test_rules_and_senders_do_not_end_each_other_s_alerts() -> None:
    one = await floor()
    ours = alert("Down", "critical")
    await one.hear(fires(ours))
    await says(one, external())
    await resolves(one, external())
    assert (await only(one)).source is Condition.FIRING
    await one.hear(clears(ours))
    assert (await only(one)).source is Condition.CLEAR


async def test_the_rules_start_clears_nothing_of_a_sender() -> None:
    one = await floor()
    ours = alert("Down", "critical")
    await one.hear(fires(ours))
    await says(one, external("Other"))
    await one.restart()
    await one.dispatcher.reconcile([], ["rules;test.yml;test/Down/0"], one.now)
    sources = {i.group_labels: i.source for i in await one.dispatcher.incidents()}
    assert sources == {(("alertname", "Other"),): Condition.FIRING}


async def test_a_person_resolves_without_naming_the_generator() -> None:
    """With `amtool alert add NAME --end=...` or curl, from the address that said it."""
    one = await floor()
    await says(one, external(client="10.0.0.7"))
    await resolves(one, external(client="10.0.0.8", sender=""))
    assert (await only(one)).source is Condition.FIRING
    await resolves(one, external(client="10.0.0.7", sender=""))
    assert (await only(one)).source is Condition.CLEAR


async def test_another_sender_s_end_is_not_its_word() -> None:
    one = await floor()
    await says(one, external())
    await resolves(one, external(sender=OTHER))
    assert (await only(one)).source is Condition.FIRING
    assert len(one.dispatcher.working.external) == 1


@pytest.mark.parametrize("down", [0, MINUTE, HOUR])
async def test_a_kill_forgets_nothing(down: int) -> None:
    one = await floor()
    await says(one, external(), external("None", severity="none"))
    await one.restart(down)
    await one.advance(1)
    incident = await only(one)
    assert incident.source is (Condition.UNKNOWN if down == HOUR else Condition.FIRING)
    assert incident.is_open
    assert len(one.dispatcher.working.external) == 2
    await resolves(one, external())
    assert (await only(one)).state is IncidentState.RESOLVED


async def test_a_page_that_is_overdue_after_a_start_goes_when_its_sender_has_spoken() -> None:
    one = await floor()
    await says(one, external(severity="warning"))
    await one.restart(MINUTE)
    await one.advance(10 * SECOND)
    assert one.told == []
    await says(one, external(severity="warning"))
    await one.advance(1)
    assert [reason for _, reason, _ in one.told] == ["opened", "opened"]


async def test_what_a_crash_kept_from_the_incidents_is_said_again() -> None:
    one = await floor()
    await says(one, external())
    journal = one.journal
    assert isinstance(journal, MemoryJournal)
    state = journal._state
    state.incidents, state.members, state.timers = {}, {}, {}  # the rows of others were first
    await one.restart()
    assert (await only(one)).source is Condition.FIRING


async def test_what_stands_in_an_incident_alone_is_unknown() -> None:
    one = await floor()
    await says(one, external())
    journal = one.journal
    assert isinstance(journal, MemoryJournal)
    journal._state.external = {}
    await one.restart()
    incident = await only(one)
    assert (incident.is_open, incident.source) == (True, Condition.UNKNOWN)


class DeadJournal(MemoryJournal):
    """Takes nothing once it is dead."""

    dead = False

    async def commit(self, changeset: object) -> None:
        if self.dead:
            raise JournalDown("the disk is full")
        await super().commit(changeset)  # type: ignore[arg-type]


async def test_without_a_disk_it_pages_and_the_sender_is_told() -> None:
    journal = DeadJournal()
    one = await floor(journal)
    journal.dead = True
    posted = external(starts=one.now, ends=one.now + HOUR, at=one.now)
    receipt = await one.dispatcher.receive([posted], one.now)
    assert not receipt.recorded
    await one.advance(1)
    assert [reason for _, reason, _ in one.told] == ["opened", "opened"]


async def test_a_clock_that_is_set_ends_nothing() -> None:
    one = await floor()
    await says(one, external())
    one.now += HOUR
    one.dispatcher.clock_jumped(HOUR, one.now)
    await one.advance(MINUTE)
    assert (await only(one)).source is Condition.FIRING
    await one.advance(3 * MINUTE)
    assert (await only(one)).source is Condition.UNKNOWN


async def test_closed_by_hand_and_renewed_it_is_raised_again() -> None:
    one = await floor()
    await says(one, external())
    await one.act(Verb.RESOLVE)
    for _ in range(30):
        await says(one, external())
        await one.advance(MINUTE)
    assert one.reasons("still_firing")


async def test_a_journal_of_sqlite_reads_back_what_was_said(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "incidents.db")
    posted = external(starts=1, ends=2, at=3, 中="文", settings={"times_out": True})
    doubted = replace(external("Other"), unknown_since_ms=7)
    one = ExternalAlerts(DAY)
    one.load([posted, doubted])
    await journal.load()
    changes = {a.key: a for a in one}
    await journal.commit(Changeset(external=dict(changes)))
    again = await SqliteJournal(tmp_path / "incidents.db").load()
    assert set(again.external) == {posted, doubted}
    await journal.commit(Changeset(external={posted.key: None}))
    assert (await SqliteJournal(tmp_path / "incidents.db").load()).external == (doubted,)
    await journal.close()


def held(*alerts: ExternalAlert) -> ExternalAlerts:
    one = ExternalAlerts(DAY, 3)
    for each in alerts:
        one.receive(each, each.updated_at_ms, lambda name: None)
    return one


def test_an_address_has_room_for_so_many() -> None:
    one = held(*(external(str(n)) for n in range(3)))
    assert not one.has_room(external("4"), 0)
    assert one.has_room(external("2"), 0), "it is known"
    assert one.has_room(external("4", client="10.0.0.2"), 0)
    assert one.has_room(external("4", ends=0), 0), "it is over"
    one.receive(external("1", ends=0), 0, lambda name: None)
    assert one.has_room(external("4"), 0)


def test_an_alert_that_is_renewed_for_ever_takes_no_more_room() -> None:
    one = ExternalAlerts(DAY)
    for at in range(20_000):
        one.receive(external(ends=10**12 - at, at=at), at, lambda name: None)
    assert len(one._times) < 2_000


TIMES = st.integers(0, 10)


@given(st.lists(st.tuples(TIMES, TIMES, TIMES, st.booleans()), min_size=1, max_size=8))
def test_an_alert_is_renewed_or_expires_or_ends(steps: list[tuple[int, int, int, bool]]) -> None:
    """By an account that is kept apart: the end that counts, and whether it is unknown."""
    one, now = ExternalAlerts(DAY), 0
    end: int | None = None
    for wait, start, lasts, times_out in steps:
        now += wait
        events = one.expire(now)
        if end is not None and end <= now:
            assert [event.kind for event in events] in ([EventKind.UNKNOWN], [])
        posted = external(
            starts=now - start, ends=now + lasts, at=now, settings={"times_out": times_out}
        )
        before = next(iter(one), None)
        one.receive(posted, now, lambda name: None)
        if lasts == 0:
            end = None
            assert len(one) == 0
            continue
        (alert_now,) = one
        assert alert_now == (merged(before, posted) if before else posted)
        assert alert_now.unknown_since_ms is None
        end = alert_now.ends_at_ms
        due = one.next_due_ms()
        assert due is not None
        assert due <= end


@pytest.mark.parametrize(
    ("before", "posted", "starts", "ends"),
    [
        ((0, 100), (50, 200), 0, 200),  # starts within: the earlier start
        ((0, 100), (100, 200), 100, 200),  # begins where the other ended: another one
        ((50, 100), (0, 80), 0, 100),  # ends within: the end that was named counts
        ((0, 100), (0, 80), 0, 100),
        ((0, 100), (0, 200), 0, 200),
        ((0, 100), (150, 200), 150, 200),
    ],
)
def test_where_two_overlap_the_earlier_start_counts(
    before: tuple[int, int], posted: tuple[int, int], starts: int, ends: int
) -> None:
    first = external(starts=before[0], ends=before[1])
    result = merged(first, external(starts=posted[0], ends=posted[1]))
    assert (result.starts_at_ms, result.ends_at_ms) == (starts, ends)


def test_a_default_end_gives_way_to_one_that_was_named() -> None:
    first = external(starts=0, ends=100, settings={"times_out": True})
    assert merged(first, external(starts=0, ends=80)).ends_at_ms == 80
