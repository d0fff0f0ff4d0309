"""Forgetting what was closed long ago: a slice is one short transaction, so that whatever else the
journal has to do comes between two of them. One that is broken off leaves the rest to the next.
"""

import sqlite3
from dataclasses import dataclass

SLICE_ROWS = 500
_SLICE_INCIDENTS = 50
_OLD = (
    "SELECT id FROM incidents WHERE state = 'CLOSED'"
    " AND COALESCE(resolved_at_ms, opened_at_ms) < ? LIMIT ?"
)
# What belongs to an incident goes before it: table and primary key.
_PARTS = (
    ("incident_instances", "incident, fingerprint"),
    ("timers", "id"),
    ("outbox", "id"),
    ("history", "seq"),
)
_OF_NONE = (
    ("request_ids", "id", "at_ms < ?"),
    ("history", "seq", "incident = 0 AND ts_ms < ?"),
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number of incidents that are gone, and whether there is more to do."""

    incidents: int = 0
    more: bool = False


def prune_slice(connection: sqlite3.Connection, before_ms: int, most: int = SLICE_ROWS) -> Pruned:
    """Delete `most` rows of what was closed before then, and the incidents that have none left."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        pruned = _prune(connection, before_ms, most)
        connection.execute("COMMIT")
    except BaseException:  # why: whatever happens, nothing half done stays
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return pruned


def _prune(connection: sqlite3.Connection, before_ms: int, most: int) -> Pruned:
    old = [row[0] for row in connection.execute(_OLD, (before_ms, _SLICE_INCIDENTS))]
    marks, left = ", ".join("?" * len(old)), most
    wanted = [(table, key, f"incident IN ({marks})", old) for table, key in _PARTS]
    if not old:
        wanted = [(table, key, where, [before_ms]) for table, key, where in _OF_NONE]
    for table, key, where, values in wanted:
        found = f"SELECT {key} FROM {table} WHERE {where} LIMIT ?"
        gone = connection.execute(
            f"DELETE FROM {table} WHERE ({key}) IN ({found})", (*values, left)
        )
        left -= gone.rowcount
        if left <= 0:
            return Pruned(more=True)
    if old:
        connection.execute(f"DELETE FROM incidents WHERE id IN ({marks})", old)
    return Pruned(len(old), more=bool(old))
