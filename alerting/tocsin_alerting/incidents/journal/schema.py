"""The tables of the journal, in SQL that PostgreSQL reads as well, but for the step to version 2.

A newer version is refused; an older one is brought forward by the statements of every
version after it, in one transaction.
"""

from collections.abc import Mapping

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
}

# Columns likewise: (table, column) -> how to add it.
ADDED_COLUMNS: Mapping[tuple[str, str], str] = {
    ("outbox", "refusals"): "ALTER TABLE outbox ADD COLUMN refusals BIGINT NOT NULL DEFAULT 0",
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
PUT_REQUEST = upsert("request_ids", ("id",), ("incident", "at_ms"))
