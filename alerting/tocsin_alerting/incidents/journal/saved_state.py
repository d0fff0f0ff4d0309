"""What the tables of the journal hold, read as objects: for a start, and incident by incident."""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

from tocsin_alerting.incidents.incident import Incident, Timer
from tocsin_alerting.incidents.journal.heartbeat_rows import read_heartbeats
from tocsin_alerting.incidents.journal.protocol import FIRST_OF_TIME, JournalState
from tocsin_alerting.incidents.journal.rows import (
    MESSAGE_COLUMNS,
    read_engine,
    read_external,
    read_incidents,
    read_instances,
    read_message,
    read_override,
    read_timer,
)
from tocsin_alerting.incidents.journal.schema import (
    EXTERNAL_COLUMNS,
    OVERRIDE_COLUMNS,
    has_column,
    has_table,
)
from tocsin_alerting.incidents.journal.serialize import UnknownFields
from tocsin_alerting.incidents.journal.silence_rows import read_silences, read_subject_timers
from tocsin_alerting.incidents.outbox_message import WAITING_STATES

log = logging.getLogger(__name__)

OPEN_INCIDENTS = "state <> 'CLOSED'"
LIVE_MESSAGES = (
    f"state IN (?, ?) OR incident IN (SELECT id FROM incidents WHERE {OPEN_INCIDENTS}) ORDER BY id"
)
OVERRIDES = f"SELECT id, {', '.join(OVERRIDE_COLUMNS)} FROM overrides ORDER BY created_ms, id"
EXTERNAL = f"SELECT origin, {', '.join(EXTERNAL_COLUMNS)} FROM external_alerts"
ENGINES = "SELECT target, url, kind, model, seen_ms FROM engines ORDER BY target"
MEMBERS = "SELECT incident, fingerprint, source, since_ms, ended_at_ms, alert_json, origins_json"


def saved_state(connection: sqlite3.Connection, unknown: UnknownFields) -> JournalState:
    def rows(sql: str, *values: Any) -> list[Any]:
        return connection.execute(sql, values).fetchall()

    timers: dict[int, list[Timer]] = {}
    own, subject_timers = read_subject_timers(connection)
    for number, *timer in rows(f"SELECT incident, kind, due_at_ms, generation FROM timers{own}"):
        if (known := read_timer(timer)) is None:
            log.warning(
                "journal: unknown timer %r of incident #%d kept unchanged", timer[0], number
            )
        else:
            timers.setdefault(number, []).append(known)
    messages = select_messages(connection, LIVE_MESSAGES, (*WAITING_STATES,))
    instances = rows(
        "SELECT file, group_name, rule_uid, fingerprint, last_eval_ms, row_json FROM rule_instances"
    )
    requests = rows("SELECT id, incident, at_ms FROM request_ids")
    highest = rows(
        "SELECT (SELECT MAX(id) FROM incidents WHERE id < ?), (SELECT MAX(seq) FROM history),"
        " (SELECT MAX(id) FROM outbox)",
        FIRST_OF_TIME,
    )[0]
    saved = JournalState(
        incidents=tuple(
            select_incidents(connection, (f"{OPEN_INCIDENTS} ORDER BY id", ()), unknown)
        ),
        timers={number: tuple(several) for number, several in timers.items()},
        messages=tuple(read_message(row, unknown) for row in messages),
        instances=read_instances(instances, unknown),
        requests={name: (incident, at_ms) for name, incident, at_ms in requests},
        meta=dict(rows("SELECT key, value FROM meta")),
        engines=tuple(filter(None, map(read_engine, rows(ENGINES))))
        if has_table(connection, "engines")
        else (),
        overrides=tuple(map(read_override, rows(OVERRIDES)))
        if has_table(connection, "overrides")
        else (),
        external=tuple(map(read_external, rows(EXTERNAL)))
        if has_table(connection, "external_alerts")
        else (),
        heartbeats=read_heartbeats(connection, unknown),
        silences=read_silences(connection, unknown),
        subject_timers=subject_timers,
        last_number=highest[0] or 0,
        last_entry=highest[1] or 0,
        last_message=highest[2] or 0,
    )
    unknown.log_counts()
    return saved


def select_incidents(
    connection: sqlite3.Connection, question: tuple[str, Sequence[Any]], unknown: UnknownFields
) -> list[Incident]:
    where, values = question
    sql = f"SELECT data_json FROM incidents WHERE {where}"
    rows = connection.execute(sql, values).fetchall()
    inner = f"SELECT id FROM incidents WHERE {where}"
    members = connection.execute(
        f"{MEMBERS} FROM incident_instances WHERE incident IN ({inner})", values
    ).fetchall()
    return read_incidents(rows, members, unknown)


def select_messages(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Any]:
    columns = MESSAGE_COLUMNS
    for added, instead in (("refusals", "0"), ("deliver_by_ms", "NULL"), ("late", "0")):
        if not has_column(connection, "outbox", added):
            columns = columns.replace(added, instead)
    return connection.execute(f"SELECT {columns} FROM outbox WHERE {where}", values).fetchall()
