"""Ten thousand alerts at once: one step for an incident, and no scan for a delivery."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import MINUTE, SECOND, config
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import JournalState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.journal.writer import MAX_ROWS
from tocsin_alerting.incidents.outbox import MAX_SENDING
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.incidents.routing import InhibitRule
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.snapshot import Source

MANY = 5_000
INHIBIT = InhibitRule(
    (parse_matcher('alertname="EngineDown"'),),
    (parse_matcher('alertname!="EngineDown"'),),
    ("target",),
)


async def test_many_alerts_of_one_incident_are_one_step(tmp_path: Path) -> None:
    """Each used to cost a walk over all: ten seconds for 2,000, and the journal declared down."""
    settings = config(inhibit=(INHIBIT,))
    one = await Floor(settings, SqliteJournal(tmp_path / "incidents.db")).open()
    every = [alert("Hot", target="a", gpu=str(number)) for number in range(MANY)]
    began = time.process_time()
    for moment in (fires, clears):
        await one.hear(*(moment(alert) for alert in every))
        await one.dispatcher.writer.flush(one.now)  # nobody waits for all of it
        await one.deliver()
    assert time.process_time() - began < 6
    assert not one.dispatcher.writer.down
    assert [reason for _, reason, _ in one.told] == ["opened"] * 2 + ["resolved"] * 2
    story = await one.dispatcher.timeline(1)
    changes = [(e.event, e.data.get("alerts")) for e in story.history if e.event != "delivered"]
    assert changes == [("opened", None), ("joined", MANY - 1), ("step", None), ("resolved", None)]
    assert len(story.incident.members) == MANY


async def test_between_hearing_of_many_and_telling_of_them_others_have_a_turn() -> None:
    """Hearing alone of ten thousand alerts of one incident takes a tenth of a second."""
    one = await Floor(config()).open()
    running = asyncio.ensure_future(
        one.hear(*(fires(alert("Hot", target="a", gpu=str(n))) for n in range(MANY)))
    )
    seen: set[tuple[int, bool]] = set()  # how many incidents there are, and whether one is told
    while not running.done():
        told = one.dispatcher.working.outbox.next_due_ms(one.now, lambda _: 0) is not None
        seen.add((len(one.dispatcher.working.incidents), told))
        await asyncio.sleep(0)
    assert (0, False) in seen and (1, False) in seen


class _Late(MemoryJournal):
    unreadable = False

    async def load(self) -> JournalState:
        if self.unreadable:
            raise JournalDown("the disk hangs")
        return await super().load()


async def test_a_late_journal_with_many_alerts_of_rules_that_are_gone_is_one_step() -> None:
    """Each was a walk over all: half a minute in which nobody was paged."""
    journal = _Late()
    old = await Floor(config(), journal).open()
    await old.hear(*(fires(alert("Hot", target="a", gpu=str(n))) for n in range(MANY)))
    await old.dispatcher.close(old.now)
    journal.unreadable = True
    one = await Floor(config(), journal).open()
    journal.unreadable = False
    one.now += MINUTE
    began = time.process_time()
    await one.dispatcher.due(one.now)
    while one.dispatcher.writer.down:
        await asyncio.sleep(0.005)
    assert time.process_time() - began < 6
    await one.deliver()
    assert sorted(one.told) == [(MINUTE, "unwatched", who) for who in ("chat", "li")]
    story = await one.dispatcher.timeline(1)
    assert len(story.history) < 20
    assert not story.incident.active


async def test_a_delivery_costs_no_scan_of_what_else_waits() -> None:
    """The time for one must not grow with the number of open incidents."""

    async def seconds(count: int) -> float:
        one = await Floor(config()).open()
        every = [alert("Hot", target=str(number)) for number in range(count)]
        await one.dispatcher.handle([fires(alert) for alert in every], one.now)
        return min([await _round(one.dispatcher) for _ in range(5)])

    few, many = await seconds(100), await seconds(3_000)
    assert many < 6 * few + 0.005


async def _round(dispatcher: Dispatcher) -> float:
    began = time.process_time()
    for delivery in await dispatcher.claim(START_MS, 10):
        await dispatcher.delivered(delivery, Delivered(), START_MS)
        dispatcher.next_claim_ms(START_MS)
        await dispatcher.due(START_MS)
    return time.process_time() - began


async def test_the_worst_goes_first_whatever_waits() -> None:
    one = await Floor(config()).open()
    mild = [fires(alert("Warm", "P2", target=str(number))) for number in range(300)]
    await one.dispatcher.handle(mild, one.now)
    one.now += 31 * SECOND
    await one.dispatcher.due(one.now)
    await one.dispatcher.handle([fires(alert("EngineDown", "P0", target="a"))], one.now)
    first = await one.dispatcher.claim(one.now, 3)
    assert [d.notification.severity for d in first] == ["P0", "P0", "P2"]


async def test_many_that_open_again_ask_once_who_is_kept_quiet() -> None:
    one = await Floor(config(inhibit=(INHIBIT,))).open()
    every = [alert("Hot", target=str(number)) for number in range(600)]
    for moment in (fires, clears, fires):
        began = time.process_time()
        await one.hear(*(moment(alert) for alert in every))
        assert time.process_time() - began < 5
        one.now += MINUTE
    assert {i.flaps for i in await one.dispatcher.incidents()} == {1}


async def test_what_waits_for_its_turn_can_still_be_withdrawn() -> None:
    """A storm that is over must not page for minutes because all of it was handed out: whoever
    waited for a page hears once that it fired and is over."""
    one = await Floor(config()).open()
    every = [alert("Hot", target=str(number)) for number in range(200)]
    await one.dispatcher.handle([fires(alert) for alert in every], one.now)
    taken = []
    while claimed := await one.dispatcher.claim(one.now):
        taken += claimed
    assert len(taken) == 2 * 2 * MAX_SENDING  # two receivers, urgent
    await one.dispatcher.handle([clears(alert) for alert in every], one.now)
    keys = {delivery.key for delivery in taken}
    waiting = [m for m in one.dispatcher.working.outbox.waiting() if m.key not in keys]
    assert {m.notification.reason.value for m in waiting} == {"resolved", "fired_and_resolved"}
    assert len(waiting) == len({(m.notification.incident, m.addressee) for m in waiting}) == 400


async def test_as_many_sources_as_alerts_are_on_the_disk_once(tmp_path: Path) -> None:
    """Each row used to name them all: 2,000 alerts took 150 MB, and the journal was down."""
    path = tmp_path / "incidents.db"
    sources = frozenset(Source("job", f"machine-{number}") for number in range(1_000))
    rows = [
        InstanceRow("f", "g", f"g/{name}/1", 5, alert(name, n=str(number)), None, sources)
        for name in ("Hot", "Slow")
        for number in range(1_000)
    ]
    other = InstanceRow("f", "g", "g/Cold/1", 5, alert("Cold"), None, frozenset())
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.dispatcher.remember("f", "g", [*rows, other], one.now)
    await one.dispatcher.writer.flush(one.now)
    saved = (await SqliteJournal(path).load()).instances
    assert sorted(saved, key=_row) == sorted([*rows, other], key=_row)
    assert path.with_name("incidents.db-wal").stat().st_size < 6_000_000


async def test_as_many_dead_sources_as_alerts_in_doubt_are_on_the_disk_once(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    machines = [Source("job", f"machine-{number}") for number in range(1_000)]
    dead, fewer, single = (frozenset(machines[:count]) for count in (1_000, 500, 1))

    def rows(name: str, *several: frozenset[Source]) -> list[InstanceRow]:
        unknown_alerts = [
            UnknownAlert(alert(name, n=str(number)), 5, several[number % len(several)], "dead")
            for number in range(1_000)
        ]
        return [InstanceRow("f", "g", f"g/{name}/1", 5, None, one, dead) for one in unknown_alerts]

    every = [*rows("Hot", dead, fewer, single, frozenset()), *rows("Slow", fewer)]
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.dispatcher.remember("f", "g", every, one.now)
    await one.dispatcher.writer.flush(one.now)
    assert path.with_name("incidents.db-wal").stat().st_size < 6_000_000
    saved = (await SqliteJournal(path).load()).instances
    assert sorted(saved, key=_row) == sorted(every, key=_row)
    sets = {
        id(row.unknown_alert.sources)
        for row in saved
        if row.unknown_alert and len(row.unknown_alert.sources) > 1
    }
    assert len(sets) == 3


async def test_a_doubt_whose_sources_are_lost_waits_for_all_of_its_rule(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    everyone = frozenset(Source("job", f"machine-{number}") for number in range(5))
    dead = frozenset(sorted(everyone, key=str)[:2])
    unknown_alerts = [
        UnknownAlert(alert("Hot", n=str(number)), 5, dead, "dead") for number in range(3)
    ]
    rows = tuple(InstanceRow("f", "g", "g/Hot/1", 5, None, one, everyone) for one in unknown_alerts)
    late = InstanceRow("f", "g", "g/Hot/1", 5, alert("Hot", n="9"), None, everyone)
    await SqliteJournal(path).commit(Changeset(instances={("f", "g"): (late, *rows)}))
    with closing(sqlite3.connect(path)) as connection, connection:
        first = (rows[0].fingerprint,)
        connection.execute("DELETE FROM rule_instances WHERE fingerprint = ?", first)
    saved = (await SqliteJournal(path).load()).instances
    assert [one.unknown_alert.sources for one in saved if one.unknown_alert] == [everyone] * 2


async def test_the_first_of_another_kind_does_not_wait_for_five_thousand() -> None:
    """Of one severity the alerts go by turns, and each keeps its order."""
    one = await Floor(config()).open()
    storm = [fires(alert("Hot", target=str(number))) for number in range(300)]
    await one.dispatcher.handle(storm, one.now)
    told = [await one.dispatcher.claim(one.now, 4)]
    await one.dispatcher.handle([fires(alert("EngineDown", target="a"))], one.now)
    for _ in range(2):
        told.append(await one.dispatcher.claim(one.now, 4))
    names = [d.notification.group_labels["alertname"] for claimed in told for d in claimed]
    assert names[:4] == ["Hot"] * 4 and names[4:8].count("EngineDown") == 2
    numbers = [int(d.notification.group_labels["target"]) for d in (*told[0], *told[2])]
    assert numbers == sorted(numbers)


async def test_the_next_of_the_same_kind_does_not_wait_for_five_thousand_either() -> None:
    """Another engine goes down two seconds later; those before it go on in their order."""
    one = await Floor(config()).open()
    storm = [fires(alert("EngineDown", "P0", target=str(number))) for number in range(MANY)]
    await one.dispatcher.handle(storm, one.now)
    told = []
    for claimed in range(20):
        if claimed == 10:
            one.now += 2 * SECOND
            await one.dispatcher.handle([fires(alert("EngineDown", "P0", target="late"))], one.now)
        for delivery in await one.dispatcher.claim(one.now, 8):
            await one.dispatcher.delivered(delivery, Delivered(), one.now)
            told.append(delivery.notification)
    for receiver in {sent.receiver for sent in told}:
        targets = [sent.group_labels["target"] for sent in told if sent.receiver == receiver]
        late = targets.index("late")
        assert targets[:late] + targets[late + 1 :] == [str(n) for n in range(len(targets) - 1)]
        assert len(targets) // 2 <= late <= len(targets) // 2 + 2


async def test_a_storm_is_written_in_parts_and_the_worst_first(tmp_path: Path) -> None:
    """A transaction of everything took seconds, and the journal was declared down."""
    written: list[int] = []

    class Journal(SqliteJournal):
        async def commit(self, changeset: Changeset) -> None:
            written.append(
                len(changeset.incidents) + len(changeset.members) + len(changeset.messages)
            )
            await super().commit(changeset)

    one = await Floor(config(), Journal(tmp_path / "incidents.db")).open()
    every = [alert("Hot", target="a", gpu=str(number)) for number in range(MANY)]
    await one.hear(*map(fires, every))
    await one.dispatcher.writer.flush(one.now)
    assert len(written) > MANY / MAX_ROWS and max(written) < 2 * MAX_ROWS
    (incident,) = (await SqliteJournal(tmp_path / "incidents.db").load()).incidents
    assert len(incident.members) == MANY


def _row(one: InstanceRow) -> tuple[str, str]:
    return one.rule, one.fingerprint
