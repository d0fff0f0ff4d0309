"""Back from a newer version: what it added to the journal's rows is kept, said, and no obstacle."""

import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.notifications import notification
from support.policies import MINUTE, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.escalation_policy import (
    EscalationPolicy,
    EscalationStep,
    Recipient,
)
from tocsin_alerting.incidents.journal.serialize import merge_unknown, unknown_part
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.outbox_message import RetryAt
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.snapshot import Source

DOWN = alert("EngineDown", "P0", target="a")
ROW = InstanceRow(
    "f.yml", "g", DOWN.rule, 0, DOWN, UnknownAlert(DOWN, 0, frozenset({Source("llm", "a")}), "dead")
)
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


def grown(data: Any) -> Any:
    """As a newer version might write it: a field more in every object."""
    if isinstance(data, list):
        return [grown(one) for one in data]
    if not isinstance(data, dict):
        return data
    return {"newer": {"deep": [1]}, **{name: grown(one) for name, one in data.items()}}


def shrunk(data: Any) -> Any:
    if isinstance(data, list):
        return [shrunk(one) for one in data]
    if not isinstance(data, dict):
        return data
    return {name: shrunk(one) for name, one in data.items() if name != "newer"}


COLUMNS = (
    ("incidents", "data_json", "id"),
    ("incident_instances", "alert_json", "fingerprint"),
    ("outbox", "payload", "key"),
    ("rule_instances", "row_json", "fingerprint"),
)


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    with closing(sqlite3.connect(path)) as file:
        for table, column, key in COLUMNS:
            for name, text in file.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
                changed = json.dumps(change(json.loads(text)))
                file.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (changed, name))
        file.execute(
            "INSERT INTO timers (id, incident, kind, generation, due_at_ms)"
            " VALUES ('1/page_by_pigeon', 1, 'page_by_pigeon', 1, 5)"
        )
        file.commit()


def rows(path: Path, table: str, column: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as file:
        return [json.loads(text) for (text,) in file.execute(f"SELECT {column} FROM {table}")]


def count(data: Any) -> int:
    """How often the field is in it."""
    if isinstance(data, list):
        return sum(map(count, data))
    if not isinstance(data, dict):
        return 0
    return ("newer" in data) + sum(map(count, data.values()))


async def test_a_field_that_a_newer_version_added(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    one.answers["chat"] = lambda _: RetryAt("no route")
    await one.hear(fires(DOWN))
    await one.dispatcher.remember("f.yml", "g", [ROW], one.now)
    await one.dispatcher.close(one.now)
    before = await SqliteJournal(path).load()
    rewrite(path, grown)
    wrote = {table: count(rows(path, table, column)) for table, column, _ in COLUMNS}
    assert all(wrote.values())
    one.journal = SqliteJournal(path)
    with caplog.at_level(logging.WARNING):
        await one.restart()
    assert not one.dispatcher.writer.down
    assert one.dispatcher.working.incidents[1].members == before.incidents[0].members
    assert one.dispatcher.working.incidents[1].policy == before.incidents[0].policy
    assert one.dispatcher.recovery.saved_instances == before.instances
    said = "\n".join(record.getMessage() for record in caplog.records)
    for words in ("incidents has unknown field newer", "field policy.newer", "policy.steps.newer",
                  "incident_instances has unknown field newer", "field alerts.newer",
                  "field doubt.newer", "page_by_pigeon"):  # fmt: skip
        assert words in said
    # every row is written again, and has it still
    await one.dispatcher.remember("f.yml", "g", [ROW], one.now)
    await one.act(Verb.ACK)
    one.answers.clear()
    await one.advance(MINUTE)
    await one.hear(clears(DOWN))
    assert (await one.dispatcher.incident(1)).owner == "li"
    await one.dispatcher.close(one.now)
    for table, column, _ in COLUMNS[:2] + COLUMNS[3:]:
        assert count(rows(path, table, column)) == wrote[table], table
    assert count(rows(path, "outbox", "payload")) >= wrote["outbox"]
    with closing(sqlite3.connect(path)) as file:
        kinds = {kind for (kind,) in file.execute("SELECT kind FROM timers WHERE incident = 1")}
    assert "page_by_pigeon" in kinds


def _of_an_older_version(data: Any) -> Any:
    """A policy had a field that nothing read."""
    if "policy" not in data:
        return data
    return {**data, "policy": {**data["policy"], "group_interval_ms": 300_000}}


async def test_a_field_that_an_older_version_had_is_not_said_to_be_of_a_newer_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.hear(fires(DOWN))
    before = await one.dispatcher.incident(1)
    await one.dispatcher.close(one.now)
    rewrite(path, _of_an_older_version)
    assert "group_interval_ms" in rows(path, "incidents", "data_json")[0]["policy"]
    one.journal = SqliteJournal(path)
    await one.restart()
    assert await one.dispatcher.incident(1) == before
    assert "newer version" not in caplog.text
    await one.act(Verb.ACK)
    assert "group_interval_ms" not in rows(path, "incidents", "data_json")[0]["policy"]


async def test_a_word_that_a_newer_version_added_silences_nothing(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.hear(fires(DOWN))
    await one.dispatcher.close(one.now)
    with closing(sqlite3.connect(path)) as file:
        for old, new in (
            ('"state":"TRIGGERED"', '"state":"HUSHED"'),
            ('"firing"', '"smouldering"'),
        ):
            file.execute("UPDATE incidents SET data_json = replace(data_json, ?, ?)", (old, new))
        file.commit()
    one.journal = SqliteJournal(path)
    await one.restart()
    incident = await one.dispatcher.incident(1)
    assert (incident.state, incident.source) == ("TRIGGERED", "unknown")
    await one.advance(15 * MINUTE)
    assert one.reasons("escalated")


@given(JSON, JSON)
def test_what_is_laid_aside_is_all_that_is_missing(known: Any, data: Any) -> None:
    assert unknown_part(grown(known), grown(known)) is None
    rest = unknown_part(grown(known), shrunk(known))
    assert merge_unknown(shrunk(known), rest) == grown(known) or not _has_object(known)
    assert merge_unknown(known, None) == known
    assert unknown_part(known, merge_unknown(known, unknown_part(data, known))) is None


def _has_object(data: Any) -> bool:
    return isinstance(data, dict) or (isinstance(data, list) and any(map(_has_object, data)))


FEW_KEYS = st.recursive(
    st.none() | st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)


def _without(data: Any, known: Any) -> Any:
    """What `without` says, in the plainest way."""
    if isinstance(data, dict) and isinstance(known, dict):
        kept = {n: v if n not in known else _without(v, known[n]) for n, v in data.items()}
        return {n: v for n, v in kept.items() if n not in known or v is not None} or None
    if isinstance(data, list) and isinstance(known, list) and len(data) == len(known):
        items = [_without(one, other) for one, other in zip(data, known, strict=True)]
        return items if any(one is not None for one in items) else None
    return None


@given(FEW_KEYS, FEW_KEYS)
def test_what_is_not_known_is_found_at_any_depth(data: Any, known: Any) -> None:
    assert unknown_part(data, known) == _without(data, known)
    assert unknown_part({"a": [[data]]}, {"a": [[known]]}) == _without(
        {"a": [[data]]}, {"a": [[known]]}
    )


def test_a_message_is_written_with_all_that_it_has() -> None:
    for message in (notification(), notification(others=("li",), unanswered=(("li", 1),))):
        written = {name: value for name, value in asdict(message).items() if name != "evidence"}
        assert message.to_json() == written  # evidence is read anew when it is sent


async def test_a_policy_of_an_older_journal_tells_those_whom_it_named(tmp_path: Path) -> None:
    """They were written as a receiver and a contact; so they are read, and written as they are."""
    path = tmp_path / "incidents.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.hear(fires(DOWN))
    await one.dispatcher.close(one.now)
    with closing(sqlite3.connect(path)) as file:
        ((text,),) = file.execute("SELECT data_json FROM incidents").fetchall()
        data = json.loads(text)
        for notify in [s["notify"] for s in data["policy"]["steps"]] + [
            data["policy"]["final"]["notify"]
        ]:
            notify[:] = [{"receiver": r["receiver"], "contact": r["contact"]} for r in notify]
        file.execute("UPDATE incidents SET data_json = ?", (json.dumps(data),))
        file.commit()
    one.journal = SqliteJournal(path)
    await one.restart()
    await one.reconcile(fires(DOWN))
    policy = one.dispatcher.working.incidents[1].policy
    assert policy == config().policies["P0"]
    await one.advance(15 * MINUTE)
    assert one.reasons("escalated") == [(15 * MINUTE, "wang")]


async def test_recipients_come_back_as_they_were(tmp_path: Path) -> None:
    recipients = (
        Recipient(schedule="primary", via=("phone", "sms")),
        Recipient(contact="li"),
        Recipient(everyone=True),
    )
    policy = EscalationPolicy("P0", (EscalationStep(recipients, MINUTE), EscalationStep(())))
    one = await Floor(config(policies={"P0": policy}), SqliteJournal(tmp_path / "j.db")).open()
    await one.hear(fires(DOWN))
    await one.dispatcher.close(one.now)
    assert (await SqliteJournal(tmp_path / "j.db").load()).incidents[0].policy == policy
