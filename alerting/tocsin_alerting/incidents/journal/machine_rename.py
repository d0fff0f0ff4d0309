"""This machine has another name than before: what the journal keeps of it is moved to that name.

Incidents, their alerts and what the rules remember go on; messages and history stay as they were
written.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from tocsin_alerting.incidents.external_alerts import EXTERNAL
from tocsin_alerting.incidents.grouping import AlertGroup
from tocsin_alerting.incidents.journal.schema import PUT_META, READ_META
from tocsin_alerting.incidents.journal.serialize import to_json_text
from tocsin_alerting.rules.alert import fingerprint
from tocsin_exporter.snapshot import Labels, MachineName, Renaming, Source

INSTANCE_META = "instance"
Json = dict[str, Any]


def rename_machine(connection: sqlite3.Connection, machine: MachineName) -> None:
    """Move what is under the noted name to the present one."""
    row = connection.execute(READ_META, (INSTANCE_META,)).fetchone()
    former = row[0] if row else machine.before
    if row and former == machine.present:
        return
    renaming = Renaming(machine.jobs, frozenset({former}), machine.present)
    connection.execute("BEGIN IMMEDIATE")
    try:
        _incidents(connection, renaming, _members(connection, renaming))
        _instances(connection, renaming)
        connection.execute(PUT_META, (INSTANCE_META, machine.present))
        connection.execute("COMMIT")
    except BaseException:  # why: whatever happens, nothing half done stays
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _incidents(connection: sqlite3.Connection, renaming: Renaming, numbers: set[int]) -> None:
    for number in numbers:
        read = "SELECT data_json FROM incidents WHERE id = ?"
        data = json.loads(connection.execute(read, (number,)).fetchone()[0])
        labels = _renamed(data["group_labels"], renaming)
        if labels != _labels(data["group_labels"]):
            key = AlertGroup(labels).key
            # Two open ones never have one key: the other then keeps its own.
            connection.execute(
                "UPDATE OR IGNORE incidents SET key = ?, data_json = ? WHERE id = ?",
                (key, to_json_text({**data, "key": key, "group_labels": labels}), number),
            )


def _members(connection: sqlite3.Connection, renaming: Renaming) -> set[int]:
    """The incidents of which an alert was moved."""
    moved = set()
    rows = connection.execute(
        "SELECT incident, fingerprint, alert_json FROM incident_instances WHERE origins_json NOT"
        " LIKE ?",
        (f'%"{EXTERNAL}%',),  # whoever sends it goes on to call us as before
    )
    for number, name, text in rows.fetchall():
        data = json.loads(text)
        alert = _alert(data, renaming)
        if alert != data:
            moved.add(number)
            connection.execute(
                "UPDATE OR REPLACE incident_instances SET fingerprint = ?, alert_json = ?"
                " WHERE incident = ? AND fingerprint = ?",
                (fingerprint(_labels(alert["labels"])), to_json_text(alert), number, name),
            )
    return moved


def _instances(connection: sqlite3.Connection, renaming: Renaming) -> None:
    rows = connection.execute(
        "SELECT file, group_name, rule_uid, fingerprint, row_json FROM rule_instances"
    )
    for *names, name, text in rows.fetchall():
        data = json.loads(text)
        moved = _instance(data, renaming)
        if moved != data:
            about = moved["doubt"]["alert"] if moved["doubt"] else moved["alert"]
            connection.execute(
                "UPDATE OR REPLACE rule_instances SET fingerprint = ?, row_json = ?"
                " WHERE file = ? AND group_name = ? AND rule_uid = ? AND fingerprint = ?",
                (fingerprint(_labels(about["labels"])), to_json_text(moved), *names, name),
            )


def _instance(data: Mapping[str, Any], renaming: Renaming) -> Json:
    alert, unknown_alert = data["alert"], data["doubt"]
    if unknown_alert:
        about, sources = unknown_alert["alert"], unknown_alert["sources"]
        unknown_alert = {
            **unknown_alert,
            "alert": _alert(about, renaming),
            "sources": _sources(sources, renaming),
        }
    return {
        **data,
        "alert": alert and _alert(alert, renaming),
        "doubt": unknown_alert,
        "sources": _sources(data["sources"], renaming),
    }


def _alert(data: Mapping[str, Any], renaming: Renaming) -> Json:
    return {**data, "labels": [list(pair) for pair in _renamed(data["labels"], renaming)]}


def _sources(pairs: list[list[str]], renaming: Renaming) -> list[list[str]]:
    moved = (renaming.source(Source(*pair)) for pair in pairs)
    return sorted([source.job, source.instance] for source in moved)


def _renamed(pairs: list[list[str]], renaming: Renaming) -> Labels:
    return renaming.labels(_labels(pairs))


def _labels(pairs: list[list[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)
