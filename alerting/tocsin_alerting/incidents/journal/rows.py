"""What the journal's tables hold, as values, and the values as rows."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import islice
from typing import Any

from tocsin_alerting.incidents.changeset import Changeset, EngineRow, HistoryEntry
from tocsin_alerting.incidents.external_alerts import ExternalAlert
from tocsin_alerting.incidents.incident import Condition, Incident, Member, Reason, Timer, TimerKind
from tocsin_alerting.incidents.journal.heartbeat_rows import heartbeat_statements
from tocsin_alerting.incidents.journal.schema import (
    MOVE_MESSAGE,
    OVERRIDE_COLUMNS,
    PUT_ENGINE,
    PUT_ENTRY,
    PUT_EXTERNAL,
    PUT_INCIDENT,
    PUT_INSTANCE,
    PUT_MEMBER,
    PUT_MESSAGE,
    PUT_META,
    PUT_OVERRIDE,
    PUT_REQUEST,
    PUT_TIMER,
)
from tocsin_alerting.incidents.journal.serialize import (
    UnknownFields,
    alert_from,
    alert_json,
    drop_former_fields,
    incident_from,
    incident_json,
    instance_from,
    instance_json,
    known_fields,
    known_member,
    to_json_text,
)
from tocsin_alerting.incidents.journal.silence_rows import silence_statements
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert
from tocsin_alerting.incidents.oncall import Override
from tocsin_alerting.incidents.outbox_message import MessageState, OutboxMessage
from tocsin_alerting.rules.alert import rules_origin
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import Source

log = logging.getLogger(__name__)

Row = Sequence[Any]
Statement = tuple[str, list[Row]]
_TIMER_KINDS = frozenset(TimerKind)
_SOURCE_SET_JOB = "tocsin_sources"  # job of the name of a set of sources
DELETE_TIMERS = (
    f"DELETE FROM timers WHERE incident = ? AND kind IN ({', '.join('?' for _ in TimerKind)})"
)

MESSAGE_COLUMNS = (
    "id, payload, generation, state, attempts, next_at_ms, lease_until_ms, withdrawn,"
    " last_error, provider_ref, refusals, deliver_by_ms, late"
)


def statements(changeset: Changeset, unknown: UnknownFields) -> Iterable[Statement]:
    """A changeset as statements with rows. A closed incident comes before its successor."""
    incidents = sorted(changeset.incidents.values(), key=lambda incident: incident.number)
    yield PUT_INCIDENT, [_incident_row(incident, unknown) for incident in incidents]
    yield (
        PUT_MEMBER,
        [_member_row(n, member, unknown) for (n, _), member in changeset.members.items()],
    )
    yield DELETE_TIMERS, [(number, *TimerKind) for number in changeset.timers]
    yield (
        PUT_TIMER,
        [_timer_row(n, timer) for n, timers in changeset.timers.items() for timer in timers],
    )
    new = [
        message for key, message in changeset.messages.items() if key not in changeset.state_only
    ]
    yield PUT_MESSAGE, [_message_row(message, unknown) for message in new]
    yield (
        MOVE_MESSAGE,
        [(*_message_state(changeset.messages[key]), key) for key in changeset.state_only],
    )
    yield from silence_statements(changeset, unknown)
    yield from heartbeat_statements(changeset, unknown)
    yield PUT_ENTRY, [_entry_row(entry) for entry in changeset.history]
    groups: list[Row] = [
        group for group in changeset.instances if not changeset.upserted.get(group)
    ]
    yield "DELETE FROM rule_instances WHERE file = ? AND group_name = ?", groups
    yield PUT_INSTANCE, [_instance_row(row, unknown) for row in _instances_to_write(changeset)]
    yield PUT_REQUEST, [(name, *about) for name, about in changeset.requests.items()]
    meta: list[Row] = [*changeset.meta.items()]
    yield PUT_META, meta
    yield "DELETE FROM engines WHERE target = ?", [(target,) for target in changeset.engines]
    yield PUT_ENGINE, [astuple(row) for row in changeset.engines.values() if row is not None]
    overrides = changeset.overrides
    yield "DELETE FROM overrides WHERE id = ?", [(name,) for name in overrides]
    yield PUT_OVERRIDE, [_override_row(row) for row in overrides.values() if row is not None]
    ended: list[Row] = [key for key, alert in changeset.external.items() if alert is None]
    yield "DELETE FROM external_alerts WHERE origin = ? AND fingerprint = ?", ended
    yield PUT_EXTERNAL, [_external_row(alert) for alert in changeset.external.values() if alert]


def read_incidents(
    rows: Iterable[Row], member_rows: Iterable[Row], unknown: UnknownFields
) -> list[Incident]:
    """From (data_json) and (incident, fingerprint, source, since, ended, alert, origins)."""
    members: dict[int, dict[str, Member]] = {}
    for number, name, *row in member_rows:
        members.setdefault(number, {})[name] = _member((number, name), row, unknown)
    objects = (json.loads(data) for (data,) in rows)
    return [_incident(data, members.get(data["number"], {}), unknown) for data in objects]


def _incident(
    data: dict[str, Any], members: Mapping[str, Member], unknown: UnknownFields
) -> Incident:
    drop_former_fields(data)
    incident = incident_from(data, members)
    unknown.keep("incidents", incident.number, data, lambda: incident_json(incident))
    return incident


def _member(key: tuple[int, str], row: Row, unknown: UnknownFields) -> Member:
    """Before there were origins only rules spoke, and not every alert named its file. One that is
    unknown and has no origin was given up: nobody speaks about it any more."""
    source, since_ms, ended_ms, alert_text, origins_text = row
    data = json.loads(alert_text)
    alert, condition = alert_from(data), known_member(Condition, source, Condition.UNKNOWN)
    unknown.keep("incident_instances", key, data, lambda: alert_json(alert))
    given = json.loads(origins_text).items()
    origins = {name: known_member(Condition, what, Condition.UNKNOWN) for name, what in given}
    if not origins and condition is Condition.FIRING:
        origins = {rules_origin("", alert.rule): condition}
    return Member(alert, condition, since_ms, ended_ms, origins)


def read_timer(row: Row) -> Timer | None:
    """None for a kind that a newer version set; it is left where it is."""
    kind, due_at_ms, generation = row
    if not isinstance(due_at_ms, int):
        raise ValueError(f"a timer {kind!r} is due at {due_at_ms!r}")
    return Timer(TimerKind(kind), due_at_ms, generation) if kind in _TIMER_KINDS else None


def read_engine(row: Row) -> EngineRow | None:
    """None for one that nobody could read: it is left out, and found again if it is there."""
    engine = EngineRow(*row)
    try:
        EngineAccess.of(engine.url)
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("journal: engine %r ignored: %s", engine.target, error)
        return None
    return engine if isinstance(engine.seen_ms, int) else None


def read_override(row: Row) -> Override:
    name, schedule, contact, start_ms, end_ms, created_ms, created_by, comment = row
    return Override(schedule, contact, start_ms, end_ms, name, created_ms, created_by, comment)


def _override_row(override: Override) -> Row:
    return (override.id, *(getattr(override, name) for name in OVERRIDE_COLUMNS))


def read_external(row: Row) -> ExternalAlert:
    origin, labels, annotations, starts_ms, ends_ms, updated_ms, times_out, *rest = row
    url, client, unknown_ms = rest
    return ExternalAlert(
        origin,
        tuple((name, value) for name, value in json.loads(labels)),
        tuple((name, value) for name, value in json.loads(annotations)),
        starts_ms,
        ends_ms,
        updated_ms,
        bool(times_out),
        url,
        client,
        unknown_ms,
    )


def read_message(row: Row, unknown: UnknownFields) -> OutboxMessage:
    number, payload, generation, state, attempts, next_ms, lease_ms, *rest = row
    withdrawn, error, ref, refusals, deliver_by_ms, late = rest
    data = json.loads(payload)
    notification = Notification.from_json(
        known_fields(data, Notification)
        | {
            "alerts": [known_fields(alert, NotifiedAlert) for alert in data["alerts"]],
            "reason": known_member(Reason, data["reason"], Reason.STILL_FIRING),
        }
    )
    unknown.keep("outbox", notification.key, data, notification.to_json)
    return OutboxMessage(
        id=number,
        notification=notification,
        generation=generation,
        state=known_member(MessageState, state, MessageState.CANCELLED),
        attempts=attempts,
        next_at_ms=next_ms,
        lease_until_ms=lease_ms,
        withdrawn=bool(withdrawn),
        last_error=error,
        reference=ref,
        refusals=refusals,
        deliver_by_ms=deliver_by_ms,
        late=bool(late),
    )


def read_entry(row: Row) -> HistoryEntry:
    seq, at_ms, incident, event, actor, data = row
    return HistoryEntry(seq, at_ms, incident, event, actor, json.loads(data))


def _incident_row(incident: Incident, unknown: UnknownFields) -> Row:
    return (
        incident.number,
        incident.key,
        incident.state.value,
        incident.severity.value,
        incident.opened_at_ms,
        incident.resolved_at_ms,
        to_json_text(unknown.put_back("incidents", incident.number, incident_json(incident))),
    )


def _member_row(number: int, member: Member, unknown: UnknownFields) -> Row:
    name = member.alert.fingerprint
    alert = to_json_text(
        unknown.put_back("incident_instances", (number, name), alert_json(member.alert))
    )
    origins = to_json_text(member.origins)
    return (number, name, member.source.value, member.since_ms, member.ended_at_ms, alert, origins)


def _timer_row(number: int, timer: Timer) -> Row:
    name = f"{number}/{timer.kind.value}"
    return (name, number, timer.kind.value, timer.generation, timer.due_at_ms)


def _message_row(message: OutboxMessage, unknown: UnknownFields) -> Row:
    sent = message.notification
    return (
        message.key,
        message.id,
        sent.incident,
        sent.contact,
        sent.receiver,
        message.generation,
        to_json_text(unknown.put_back("outbox", message.key, sent.to_json())),
        *_message_state(message),
    )


def _message_state(message: OutboxMessage) -> Row:
    """In the order of MESSAGE_STATE."""
    return (
        message.state.value,
        message.attempts,
        message.next_at_ms,
        message.lease_until_ms,
        int(message.withdrawn),
        message.last_error,
        message.reference,
        message.refusals,
        message.deliver_by_ms,
        int(message.late),
    )


def _external_row(alert: ExternalAlert) -> Row:
    """In the order of EXTERNAL_COLUMNS, after the key."""
    return (
        *alert.key,
        to_json_text(alert.labels),
        to_json_text(alert.annotations),
        alert.starts_at_ms,
        alert.ends_at_ms,
        alert.updated_at_ms,
        int(alert.times_out),
        alert.generator_url,
        alert.client,
        alert.unknown_since_ms,
    )


def _entry_row(entry: HistoryEntry) -> Row:
    return (
        entry.seq,
        entry.at_ms,
        entry.incident,
        entry.event,
        entry.actor,
        to_json_text(entry.data),
    )


def _instance_row(row: InstanceRow, unknown: UnknownFields) -> Row:
    alert = row.alert if row.unknown_alert is None else row.unknown_alert.alert
    assert alert is not None, "a row is about an alert, a doubt about one, or both"
    key = (row.file, row.group, row.rule, alert.fingerprint)
    return (
        row.file,
        row.group,
        row.rule,
        alert.fingerprint,
        alert.state.value,
        alert.active_at_ms,
        alert.fired_at_ms,
        alert.keep_firing_since_ms,
        None if alert.value != alert.value else alert.value,  # SQL has no NaN; row_json keeps it
        row.seen_ms,
        to_json_text(unknown.put_back("rule_instances", key, instance_json(row))),
    )


def _instances_to_write(changeset: Changeset) -> Iterator[InstanceRow]:
    """Those that are to be written now: parts of sets, and what is left of others."""
    for rows, begin, stop in changeset.begun.values():
        yield from islice(_sources_once(rows), begin, stop)
    for group, rows in changeset.instances.items():
        yield from islice(_sources_once(rows), changeset.upserted.get(group, 0), None)


def delete_gone_instances(connection: sqlite3.Connection, changeset: Changeset) -> None:
    """What is gone from the groups of rules whose rows were written in parts."""
    for group in (name for name, count in changeset.upserted.items() if count):
        written = {(row.rule, row.fingerprint) for row in changeset.instances[group]}
        own = " FROM rule_instances WHERE file = ? AND group_name = ?"
        stored = connection.execute("SELECT rule_uid, fingerprint" + own, group).fetchall()
        gone = [(*group, *key) for key in stored if tuple(key) not in written]
        connection.executemany(f"DELETE{own} AND rule_uid = ? AND fingerprint = ?", gone)


def _sources_once(rows: Iterable[InstanceRow]) -> Iterator[InstanceRow]:
    """The first row of a rule names its sources, for all others that have the same, and so does the
    first doubt: there may be as many sources as alerts, and the disk would hold their product."""
    named: dict[str, frozenset[Source]] = {}
    doubted: dict[tuple[str, frozenset[Source]], Source] = {}
    for row in rows:
        row = replace(row, unknown_alert=_unknown_alert_once(row, doubted))
        first = named.get(row.rule)
        if first is None:
            named[row.rule] = row.sources
        same = first is row.sources or first == row.sources
        yield replace(row, sources=frozenset()) if same else row


def _unknown_alert_once(
    row: InstanceRow, named: dict[tuple[str, frozenset[Source]], Source]
) -> UnknownAlert | None:
    """The first doubt that has some sources gives them a name, which stands for them in others."""
    unknown_alert = row.unknown_alert
    if unknown_alert is None or len(unknown_alert.sources) < 2:
        return unknown_alert
    own = Source(_SOURCE_SET_JOB, unknown_alert.alert.fingerprint)
    name = named.setdefault((row.rule, unknown_alert.sources), own)
    return replace(
        unknown_alert, sources=(unknown_alert.sources if name is own else frozenset()) | {name}
    )


def read_instances(rows: Iterable[Row], unknown: UnknownFields) -> tuple[InstanceRow, ...]:
    """A row that names no sources has those of its rule."""
    read = [read_instance(row, unknown) for row in rows]
    of_rule: dict[Row, frozenset[Source]] = {}
    of_name: dict[Row, frozenset[Source]] = {}
    for instance in read:
        rule = (instance.file, instance.group, instance.rule)
        if instance.sources:
            of_rule[rule] = of_rule.get(rule, frozenset()) | instance.sources
        if (
            (name := _source_set_name(instance))
            and instance.unknown_alert
            and len(instance.unknown_alert.sources) > 1
        ):
            of_name[*rule, name] = instance.unknown_alert.sources - {name}
    return tuple(_with_sources(instance, of_rule, of_name) for instance in read)


def _source_set_name(row: InstanceRow) -> Source | None:
    sources = row.unknown_alert.sources if row.unknown_alert else ()
    return next((source for source in sources if source.job == _SOURCE_SET_JOB), None)


def _with_sources(
    row: InstanceRow,
    of_rule: Mapping[Row, frozenset[Source]],
    of_name: Mapping[Row, frozenset[Source]],
) -> InstanceRow:
    rule = (row.file, row.group, row.rule)
    if not row.sources:
        row = replace(row, sources=of_rule.get(rule, row.sources))
    if row.unknown_alert and (name := _source_set_name(row)):
        # A set that was written in part may have lost a name; the rule's sources are more.
        row = replace(
            row,
            unknown_alert=replace(
                row.unknown_alert, sources=of_name.get((*rule, name), row.sources)
            ),
        )
    return row


def read_instance(row: Row, unknown: UnknownFields) -> InstanceRow:
    """From (file, group_name, rule_uid, fingerprint, last_eval_ms, row_json)."""
    file, group, rule, name, seen_ms, text = row
    data = json.loads(text)
    instance = instance_from(file, group, rule, seen_ms, data)
    key = (file, group, rule, name)
    unknown.keep("rule_instances", key, data, lambda: instance_json(instance))
    return instance
