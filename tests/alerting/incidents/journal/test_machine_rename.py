"""What the journal keeps of a machine goes on when the machine is renamed."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import MINUTE, config
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.routing import GroupBy
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.snapshot import MachineName, Source

LISTEN = "127.0.0.1:4911"
JOBS = frozenset({"node", "tocsin"})
SETTINGS = config(group=GroupBy(("alertname", "instance", "target")))


def machine(name: str) -> MachineName:
    return MachineName(JOBS, name, LISTEN)


def full(instance: str) -> Alert:
    return alert("DiskFull", "P1", instance=instance, mountpoint="/")


def engine(instance: str) -> Alert:
    return alert("EngineDown", "P0", instance=instance, job="llm")


async def test_an_open_incident_resolves_under_the_new_name_and_opens_no_second(
    tmp_path: Path,
) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(SETTINGS, SqliteJournal(path)).open()
    await one.hear(fires(full(LISTEN)), fires(engine(LISTEN)))
    await one.advance(MINUTE)
    one.journal = SqliteJournal(path, machine=machine("gpu7"))
    await one.restart()
    await one.hear(fires(full("gpu7")))
    found = {dict(i.group_labels)["instance"]: i for i in one.dispatcher.working.incidents.values()}
    assert found.keys() == {"gpu7", LISTEN}, "the engine's is another job's"
    incident = found["gpu7"]
    assert [member.alert.labels for member in incident.members.values()] == [full("gpu7").labels]
    assert incident.key == '{}:{alertname="DiskFull", instance="gpu7"}'
    await one.hear(clears(full("gpu7")))
    assert one.dispatcher.working.incidents[incident.number].state is IncidentState.RESOLVED


async def test_what_the_rules_remember_is_renamed_with_its_sources(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    ours, other = Source("node", LISTEN), Source("llm", LISTEN)
    unknown_alert = UnknownAlert(full(LISTEN), START_MS, frozenset({ours, other}), "down")
    row = InstanceRow(
        "f", "g", "r", START_MS, full(LISTEN), unknown_alert, frozenset({ours, other})
    )
    await SqliteJournal(path).commit(Changeset(instances={("f", "g"): (row,)}))
    (read,) = (await SqliteJournal(path, machine=machine("gpu7")).load()).instances
    sources = frozenset({Source("node", "gpu7"), other})
    moved = replace(unknown_alert, alert=full("gpu7"), sources=sources)
    assert read == replace(row, alert=full("gpu7"), unknown_alert=moved, sources=sources)
    names = sqlite3.connect(path).execute("SELECT fingerprint FROM rule_instances").fetchall()
    assert names == [(full("gpu7").fingerprint,)]


async def test_the_name_is_noted_and_each_further_one_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(SETTINGS, SqliteJournal(path, machine=machine("a"))).open()
    await one.hear(fires(full("a")), fires(full(LISTEN)))
    for name in ("a", "b", "a", "c"):
        one.journal = SqliteJournal(path, machine=machine(name))
        await one.restart()
        instances = {
            dict(i.group_labels)["instance"] for i in one.dispatcher.working.incidents.values()
        }
        assert instances == {name, LISTEN}, "that name was never this machine's"


async def test_two_incidents_that_would_have_one_key_stay_two(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(SETTINGS, SqliteJournal(path)).open()
    await one.hear(fires(full("gpu7")), fires(full(LISTEN)))
    one.journal = SqliteJournal(path, machine=machine("gpu7"))
    await one.restart()
    assert len(one.dispatcher.working.incidents) == 2
