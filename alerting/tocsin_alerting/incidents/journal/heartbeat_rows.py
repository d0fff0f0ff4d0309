"""Expected heartbeats, as rows."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat, HeartbeatRow
from tocsin_alerting.incidents.journal.schema import PUT_HEARTBEAT, has_table
from tocsin_alerting.incidents.journal.serialize import (
    Json,
    UnknownFields,
    known_fields,
    to_json_text,
)
from tocsin_alerting.rules.severity import Severity

log = logging.getLogger(__name__)

Row = Sequence[Any]


def heartbeat_statements(
    changeset: Changeset, unknown: UnknownFields
) -> Iterable[tuple[str, list[Row]]]:
    rows = changeset.heartbeats
    yield "DELETE FROM heartbeats WHERE name = ?", [(n,) for n, row in rows.items() if row is None]
    yield PUT_HEARTBEAT, [_heartbeat_row(row, unknown) for row in rows.values() if row is not None]


def _heartbeat_row(row: HeartbeatRow, unknown: UnknownFields) -> Row:
    data = unknown.put_back("heartbeats", row.name, _heartbeat_json(row.added))
    return row.name, row.seen_ms, to_json_text(data)


def _heartbeat_json(one: ExpectedHeartbeat | None) -> Json:
    """Nothing for one of the configuration."""
    return {} if one is None else asdict(one) | {"severity": one.severity.value}


def read_heartbeats(
    connection: sqlite3.Connection, unknown: UnknownFields
) -> tuple[HeartbeatRow, ...]:
    if not has_table(connection, "heartbeats"):
        return ()
    rows = connection.execute("SELECT name, seen_ms, data_json FROM heartbeats ORDER BY name")
    return tuple(filter(None, (_read_heartbeat(row, unknown) for row in rows.fetchall())))


def _read_heartbeat(row: Row, unknown: UnknownFields) -> HeartbeatRow | None:
    """None for one that nobody can read: it costs no other its place."""
    name, seen_ms, text = row
    try:
        data = json.loads(text)
        added = _heartbeat_from(data) if data else None
        unknown.keep("heartbeats", name, data, lambda: _heartbeat_json(added))
        if not isinstance(seen_ms, int | None):
            raise ValueError(f"seen at {seen_ms!r}")
        return HeartbeatRow(name, seen_ms, added)
    except (ValueError, TypeError, LookupError) as error:
        log.warning("journal: heartbeat %r ignored: %s", name, error)
        return None


def _heartbeat_from(data: Json) -> ExpectedHeartbeat:
    pairs = {
        key: tuple((str(name), str(value)) for name, value in data.get(key, ()))
        for key in ("labels", "annotations")
    }
    known = known_fields(data, ExpectedHeartbeat)
    return ExpectedHeartbeat(**{**known, **pairs, "severity": Severity(data["severity"])})
