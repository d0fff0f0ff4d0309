"""The tables of the journal, in SQL that PostgreSQL reads as well, but for the step to version 2.

A newer version is refused; an older one is brought forward by the statements of every
version after it, in one transaction.
"""

import sqlite3
from collections.abc import Mapping

from tocsin_alerting.incidents.errors import SchemaTooNew

VERSION = 2

MIGRATIONS: Mapping[int, tuple[str, ...]] = {
    1: (
        "CREATE TABLE incidents (id BIGINT PRIMARY KEY, key TEXT NOT NULL, state TEXT NOT NULL,"
        " severity TEXT NOT NULL, opened_at_ms BIGINT NOT NULL, resolved_at_ms BIGINT,"
        " data_json TEXT NOT NULL)",
        "CREATE UNIQUE INDEX incidents_open ON incidents (key) WHERE state <> 'CLOSED'",
        "CREATE INDEX incidents_state ON incidents (state)",
        "CREATE TABLE incident_instances (incident BIGINT NOT NULL, fingerprint TEXT NOT NULL,"
        " source TEXT NOT NULL, since_ms BIGINT NOT NULL, ended_at_ms BIGINT,"
        " alert_json TEXT NOT NULL, PRIMARY KEY (incident, fingerprint))",
        "CREATE TABLE timers (id TEXT PRIMARY KEY, incident BIGINT NOT NULL, kind TEXT NOT NULL,"
        " generation BIGINT NOT NULL, due_at_ms BIGINT NOT NULL, claimed_at_ms BIGINT)",
        "CREATE INDEX timers_due ON timers (due_at_ms)",
        "CREATE INDEX timers_incident ON timers (incident)",
        "CREATE TABLE outbox (id BIGINT PRIMARY KEY, key TEXT NOT NULL UNIQUE,"
        " incident BIGINT NOT NULL, contact TEXT NOT NULL, channel TEXT NOT NULL,"
        " generation BIGINT NOT NULL, payload TEXT NOT NULL, state TEXT NOT NULL,"
        " attempts BIGINT NOT NULL, next_at_ms BIGINT NOT NULL, lease_until_ms BIGINT,"
        " withdrawn BIGINT NOT NULL, last_error TEXT NOT NULL, provider_ref TEXT NOT NULL)",
        "CREATE INDEX outbox_state ON outbox (state, next_at_ms)",
        "CREATE INDEX outbox_incident ON outbox (incident)",
        "CREATE TABLE history (seq BIGINT PRIMARY KEY, ts_ms BIGINT NOT NULL,"
        " incident BIGINT NOT NULL, event TEXT NOT NULL, actor TEXT NOT NULL,"
        " data_json TEXT NOT NULL)",
        "CREATE INDEX history_incident ON history (incident, seq)",
        "CREATE TABLE rule_instances (file TEXT NOT NULL, group_name TEXT NOT NULL,"
        " rule_uid TEXT NOT NULL, fingerprint TEXT NOT NULL, state TEXT NOT NULL,"
        " active_at_ms BIGINT NOT NULL, fired_at_ms BIGINT, keep_firing_since_ms BIGINT,"
        " value DOUBLE PRECISION, last_eval_ms BIGINT NOT NULL, row_json TEXT NOT NULL,"
        " PRIMARY KEY (file, group_name, rule_uid, fingerprint))",
        "CREATE TABLE request_ids (id TEXT PRIMARY KEY, incident BIGINT NOT NULL,"
        " at_ms BIGINT NOT NULL)",
    ),
    2: (
        "ALTER TABLE incident_instances ADD COLUMN origins_json TEXT NOT NULL DEFAULT '{}'",
        "UPDATE incident_instances SET origins_json ="
        " json_object('rules;;' || json_extract(alert_json, '$.rule'), source)"
        " WHERE source <> 'clear'",
    ),
}

# Tables that an older version does not miss, and so no reason for it to refuse the file.
ADDED: Mapping[str, str] = {
    "engines": "CREATE TABLE IF NOT EXISTS engines (target TEXT PRIMARY KEY, url TEXT NOT NULL,"
    " kind TEXT NOT NULL, model TEXT NOT NULL, seen_ms BIGINT NOT NULL)",
    "overrides": "CREATE TABLE IF NOT EXISTS overrides (id TEXT PRIMARY KEY,"
    " schedule TEXT NOT NULL, contact TEXT NOT NULL, start_ms BIGINT NOT NULL,"
    " end_ms BIGINT NOT NULL,"
    " created_ms BIGINT NOT NULL, created_by TEXT NOT NULL, comment TEXT NOT NULL)",
    "external_alerts": "CREATE TABLE IF NOT EXISTS external_alerts (origin TEXT NOT NULL,"
    " fingerprint TEXT NOT NULL, labels_json TEXT NOT NULL, annotations_json TEXT NOT NULL,"
    " starts_at_ms BIGINT NOT NULL, ends_at_ms BIGINT NOT NULL, updated_at_ms BIGINT NOT NULL,"
    " times_out BIGINT NOT NULL, generator_url TEXT NOT NULL, client TEXT NOT NULL,"
    " unknown_since_ms BIGINT, PRIMARY KEY (origin, fingerprint))",
    "heartbeats": "CREATE TABLE IF NOT EXISTS heartbeats (name TEXT PRIMARY KEY, seen_ms BIGINT,"
    " data_json TEXT NOT NULL)",
    "silences": "CREATE TABLE IF NOT EXISTS silences (id TEXT PRIMARY KEY,"
    " starts_at_ms BIGINT NOT NULL, ends_at_ms BIGINT NOT NULL, data_json TEXT NOT NULL)",
}

# Indexes likewise: for questions by time and by person.
ADDED_INDEXES = (
    "CREATE INDEX IF NOT EXISTS history_time ON history (ts_ms, seq)",
    "CREATE INDEX IF NOT EXISTS history_actor ON history (actor, ts_ms, seq) WHERE actor <> ''",
    "CREATE INDEX IF NOT EXISTS incidents_opened ON incidents (opened_at_ms)",
    "CREATE INDEX IF NOT EXISTS incidents_closed ON incidents"
    " (COALESCE(resolved_at_ms, opened_at_ms)) WHERE state = 'CLOSED'",
)

# Columns likewise: (table, column) -> how to add it.
ADDED_COLUMNS: Mapping[tuple[str, str], str] = {
    ("outbox", "refusals"): "ALTER TABLE outbox ADD COLUMN refusals BIGINT NOT NULL DEFAULT 0",
    ("outbox", "deliver_by_ms"): "ALTER TABLE outbox ADD COLUMN deliver_by_ms BIGINT",
    ("outbox", "late"): "ALTER TABLE outbox ADD COLUMN late BIGINT NOT NULL DEFAULT 0",
    ("timers", "subject"): "ALTER TABLE timers ADD COLUMN subject TEXT NOT NULL DEFAULT ''",
}

CREATE_META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
READ_META = "SELECT value FROM meta WHERE key = ?"


def upsert(table: str, keys: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Insert a row of `keys` and `values`, or give an existing one the new values."""
    columns = (*keys, *values)
    marks = ", ".join("?" for _ in columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in values)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
    )


PUT_META = upsert("meta", ("key",), ("value",))
PUT_INCIDENT = upsert(
    "incidents",
    ("id",),
    ("key", "state", "severity", "opened_at_ms", "resolved_at_ms", "data_json"),
)
PUT_MEMBER = upsert(
    "incident_instances",
    ("incident", "fingerprint"),
    ("source", "since_ms", "ended_at_ms", "alert_json", "origins_json"),
)
PUT_TIMER = upsert("timers", ("id",), ("incident", "kind", "generation", "due_at_ms"))
MESSAGE_STATE = (
    "state",
    "attempts",
    "next_at_ms",
    "lease_until_ms",
    "withdrawn",
    "last_error",
    "provider_ref",
    "refusals",
    "deliver_by_ms",
    "late",
)
PUT_MESSAGE = upsert(
    "outbox",
    ("key",),
    ("id", "incident", "contact", "channel", "generation", "payload", *MESSAGE_STATE),
)
MOVE_MESSAGE = (
    f"UPDATE outbox SET {', '.join(f'{name} = ?' for name in MESSAGE_STATE)} WHERE key = ?"
)
PUT_ENTRY = upsert("history", ("seq",), ("ts_ms", "incident", "event", "actor", "data_json"))
PUT_INSTANCE = upsert(
    "rule_instances",
    ("file", "group_name", "rule_uid", "fingerprint"),
    (
        "state",
        "active_at_ms",
        "fired_at_ms",
        "keep_firing_since_ms",
        "value",
        "last_eval_ms",
        "row_json",
    ),
)
PUT_ENGINE = upsert("engines", ("target",), ("url", "kind", "model", "seen_ms"))
OVERRIDE_COLUMNS = (
    "schedule",
    "contact",
    "start_ms",
    "end_ms",
    "created_ms",
    "created_by",
    "comment",
)
PUT_OVERRIDE = upsert("overrides", ("id",), OVERRIDE_COLUMNS)
EXTERNAL_COLUMNS = (
    "labels_json",
    "annotations_json",
    "starts_at_ms",
    "ends_at_ms",
    "updated_at_ms",
    "times_out",
    "generator_url",
    "client",
    "unknown_since_ms",
)
PUT_EXTERNAL = upsert("external_alerts", ("origin", "fingerprint"), EXTERNAL_COLUMNS)
PUT_SILENCE = upsert("silences", ("id",), ("starts_at_ms", "ends_at_ms", "data_json"))
PUT_HEARTBEAT = upsert("heartbeats", ("name",), ("seen_ms", "data_json"))
PUT_SUBJECT_TIMER = upsert(
    "timers", ("id",), ("incident", "kind", "generation", "due_at_ms", "subject")
)
PUT_REQUEST = upsert("request_ids", ("id",), ("incident", "at_ms"))


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the schema to this version. Raises SchemaTooNew."""
    meta = connection.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchone()
    row = connection.execute(READ_META, ("schema_version",)).fetchone() if meta else None
    if not meta and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise sqlite3.DatabaseError("no such table: meta, so it is another program's database")
    version = int(row[0]) if row else 0
    if version > VERSION:
        raise SchemaTooNew(path, version, VERSION)
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(CREATE_META)
        for step in range(version + 1, VERSION + 1):
            for statement in MIGRATIONS[step]:
                connection.execute(statement)
        connection.execute(PUT_META, ("schema_version", str(VERSION)))
        connection.execute("COMMIT")
    except BaseException:  # why: whatever happens, nothing half done stays
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def add_missing(connection: sqlite3.Connection) -> None:
    """Tables and columns that an older version does without. On a disk that takes no writes they
    stay away: what is there is still worth reading."""
    missing = [
        how
        for (table, name), how in ADDED_COLUMNS.items()
        if not has_column(connection, table, name)
    ]
    try:
        for statement in (*ADDED.values(), *missing, *ADDED_INDEXES):
            connection.execute(statement)
    except sqlite3.OperationalError:
        return


def has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Of those in ADDED: a file that takes no writes may be without."""
    query = "SELECT 1 FROM sqlite_master WHERE name = ?"
    return connection.execute(query, (name,)).fetchone() is not None
