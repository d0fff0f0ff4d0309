"""Silences and the timers of no incident, as rows; the labels of what fired lately."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.journal.protocol import IncidentLabels
from tocsin_alerting.incidents.journal.schema import (
    PUT_SILENCE,
    PUT_SUBJECT_TIMER,
    has_column,
    has_table,
)
from tocsin_alerting.incidents.journal.serialize import (
    UnknownFields,
    silence_from,
    silence_json,
    to_json_text,
)
from tocsin_alerting.incidents.silences import Silence

log = logging.getLogger(__name__)

Row = Sequence[Any]


def silence_statements(
    changeset: Changeset, unknown: UnknownFields
) -> Iterable[tuple[str, list[Row]]]:
    """What belongs to no incident."""
    silences, timers = changeset.silences, changeset.subject_timers
    gone: list[Row] = [(name,) for name, silence in silences.items() if silence is None]
    yield "DELETE FROM silences WHERE id = ?", gone
    yield PUT_SILENCE, [_silence_row(one, unknown) for one in silences.values() if one is not None]
    over: list[Row] = [(name,) for name, due_at_ms in timers.items() if due_at_ms is None]
    yield "DELETE FROM timers WHERE id = ?", over
    yield (
        PUT_SUBJECT_TIMER,
        [
            (name, 0, name.partition(":")[0], 0, due_at_ms, name)
            for name, due_at_ms in timers.items()
            if due_at_ms is not None
        ],
    )


def _silence_row(silence: Silence, unknown: UnknownFields) -> Row:
    data = unknown.put_back("silences", silence.id, silence_json(silence))
    return silence.id, silence.starts_at_ms, silence.ends_at_ms, to_json_text(data)


def read_silences(connection: sqlite3.Connection, unknown: UnknownFields) -> tuple[Silence, ...]:
    if not has_table(connection, "silences"):
        return ()
    rows = connection.execute("SELECT data_json FROM silences ORDER BY id").fetchall()
    return tuple(filter(None, (_read_silence(text, unknown) for (text,) in rows)))


def _read_silence(text: str, unknown: UnknownFields) -> Silence | None:
    """None for one that means nothing here: it mutes nobody, and is left where it is."""
    data = json.loads(text)
    try:
        silence = silence_from(data)
    except (ValueError, KeyError, TypeError) as error:
        log.error("journal: silence %r unreadable, ignored: %s", data.get("id"), error)
        return None
    unknown.keep("silences", silence.id, data, lambda: silence_json(silence))
    return silence


def read_subject_timers(connection: sqlite3.Connection) -> tuple[str, dict[str, int]]:
    """What tells the timers of incidents from them, and when each of the others is due."""
    if not has_column(connection, "timers", "subject"):
        return "", {}
    rows = connection.execute("SELECT subject, due_at_ms FROM timers WHERE subject <> ''")
    return " WHERE subject = ''", dict(rows.fetchall())


def labels_since(
    connection: sqlite3.Connection, since_ms: int, above: int, limit: int
) -> list[IncidentLabels]:
    """As Journal's."""
    recent = (
        "SELECT id, severity FROM incidents WHERE id > ?"
        " AND (resolved_at_ms IS NULL OR resolved_at_ms >= ?) ORDER BY id LIMIT ?"
    )
    of_one = (
        "SELECT json_extract(alert_json, '$.labels') FROM incident_instances WHERE incident = ?"
    )
    found: list[IncidentLabels] = []
    for number, severity in connection.execute(recent, (above, since_ms, limit)).fetchall():
        texts = connection.execute(of_one, (number,)).fetchall()
        found.append(
            IncidentLabels(number, severity, tuple(dict(json.loads(text)) for (text,) in texts))
        )
    return found
