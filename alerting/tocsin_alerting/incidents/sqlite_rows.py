"""What the journal's tables hold, as values, and the values as rows."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import islice
from typing import Any

from tocsin_alerting.incidents.batch import Batch, Entry
from tocsin_alerting.incidents.incident import Incident, Member, Source
from tocsin_alerting.incidents.message import Message, MessageState
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert, Reason
from tocsin_alerting.incidents.rows import (
    EngineRow,
    alert_from,
    alert_json,
    dumped,
    incident_from,
    incident_json,
    instance_from,
    instance_json,
)
from tocsin_alerting.incidents.sqlite_schema import (
    MOVE_MESSAGE,
    PUT_ENGINE,
    PUT_ENTRY,
    PUT_INCIDENT,
    PUT_INSTANCE,
    PUT_MEMBER,
    PUT_MESSAGE,
    PUT_META,
    PUT_REQUEST,
    PUT_TIMER,
)
from tocsin_alerting.incidents.timer import Timer, TimerKind
from tocsin_alerting.incidents.unknown_fields import UnknownFields, known_fields, word
from tocsin_alerting.rules.alert import rules_origin
from tocsin_alerting.rules.journal import InstanceRow
from tocsin_alerting.rules.unknown import Doubt
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import Source as SeriesSource

log = logging.getLogger(__name__)

Row = Sequence[Any]
Statement = tuple[str, list[Row]]
_KINDS = frozenset(TimerKind)
_NAMED = "tocsin_sources"  # job of the name of a set of sources
DELETE_TIMERS = (
    f"DELETE FROM timers WHERE incident = ? AND kind IN ({', '.join('?' for _ in TimerKind)})"
)

MESSAGE_COLUMNS = (
    "id, payload, generation, state, attempts, next_at_ms, lease_until_ms, withdrawn,"
    " last_error, provider_ref, refusals"
)


def statements(batch: Batch, unknown: UnknownFields) -> Iterable[Statement]:
    """A batch as statements with rows. A closed incident comes before the one that follows it."""
    incidents = sorted(batch.incidents.values(), key=lambda one: one.number)
    yield PUT_INCIDENT, [_incident_row(one, unknown) for one in incidents]
    yield PUT_MEMBER, [_member_row(n, one, unknown) for (n, _), one in batch.members.items()]
    yield DELETE_TIMERS, [(number, *TimerKind) for number in batch.timers]
    yield PUT_TIMER, [_timer_row(n, one) for n, timers in batch.timers.items() for one in timers]
    new = [one for key, one in batch.messages.items() if key not in batch.moved]
    yield PUT_MESSAGE, [_message_row(one, unknown) for one in new]
    yield MOVE_MESSAGE, [(*_message_state(batch.messages[key]), key) for key in batch.moved]
    yield PUT_ENTRY, [_entry_row(one) for one in batch.history]
    groups: list[Row] = [one for one in batch.instances if not batch.upserted.get(one)]
    yield "DELETE FROM rule_instances WHERE file = ? AND group_name = ?", groups
    yield PUT_INSTANCE, [_instance_row(one, unknown) for one in _instances(batch)]
    yield PUT_REQUEST, [(name, *about) for name, about in batch.requests.items()]
    meta: list[Row] = [*batch.meta.items()]
    yield PUT_META, meta
    yield "DELETE FROM engines WHERE target = ?", [(target,) for target in batch.engines]
    yield PUT_ENGINE, [astuple(row) for row in batch.engines.values() if row is not None]


def read_incidents(
    rows: Iterable[Row], member_rows: Iterable[Row], unknown: UnknownFields
) -> list[Incident]:
    """From (data_json) and (incident, fingerprint, source, since, ended, alert, origins)."""
    members: dict[int, dict[str, Member]] = {}
    for number, name, *row in member_rows:
        members.setdefault(number, {})[name] = _member((number, name), row, unknown)
    found = (json.loads(data) for (data,) in rows)
    return [_incident(data, members.get(data["number"], {}), unknown) for data in found]


def _incident(
    data: dict[str, Any], members: Mapping[str, Member], unknown: UnknownFields
) -> Incident:
    one = incident_from(data, members)
    unknown.keep("incidents", one.number, data, lambda: incident_json(one))
    return one


def _member(key: tuple[int, str], row: Row, unknown: UnknownFields) -> Member:
    """Before there were origins only rules spoke, and not every alert named its file. One that is
    unknown and has no origin was given up: nobody speaks about it any more."""
    source, since_ms, ended_ms, alert_text, origins_text = row
    data = json.loads(alert_text)
    alert, said = alert_from(data), word(Source, source, Source.UNKNOWN)
    unknown.keep("incident_instances", key, data, lambda: alert_json(alert))
    given = json.loads(origins_text).items()
    origins = {name: word(Source, what, Source.UNKNOWN) for name, what in given}
    if not origins and said is Source.FIRING:
        origins = {rules_origin("", alert.rule): said}
    return Member(alert, said, since_ms, ended_ms, origins)


def read_timer(row: Row) -> Timer | None:
    """None for a kind that a newer version set; it is left where it is."""
    kind, due_at_ms, generation = row
    if not isinstance(due_at_ms, int):
        raise ValueError(f"a timer {kind!r} is due at {due_at_ms!r}")
    return Timer(TimerKind(kind), due_at_ms, generation) if kind in _KINDS else None


def read_engine(row: Row) -> EngineRow | None:
    """None for one that nobody could read: it is left out, and found again if it is there."""
    engine = EngineRow(*row)
    try:
        EngineAccess.of(engine.url)
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("the remembered engine %r is left out: %s", engine.target, error)
        return None
    return engine if isinstance(engine.seen_ms, int) else None


def read_message(row: Row, unknown: UnknownFields) -> Message:
    number, payload, generation, state, attempts, next_ms, lease_ms, *rest = row
    withdrawn, error, ref, refusals = rest
    data = json.loads(payload)
    notification = Notification.from_json(
        known_fields(data, Notification)
        | {
            "alerts": [known_fields(one, NotifiedAlert) for one in data["alerts"]],
            "reason": word(Reason, data["reason"], Reason.STILL_FIRING),
        }
    )
    unknown.keep("outbox", notification.key, data, notification.to_json)
    return Message(
        id=number,
        notification=notification,
        generation=generation,
        state=word(MessageState, state, MessageState.CANCELLED),
        attempts=attempts,
        next_at_ms=next_ms,
        lease_until_ms=lease_ms,
        withdrawn=bool(withdrawn),
        last_error=error,
        reference=ref,
        refusals=refusals,
    )


def read_entry(row: Row) -> Entry:
    seq, at_ms, incident, event, actor, data = row
    return Entry(seq, at_ms, incident, event, actor, json.loads(data))


def _incident_row(one: Incident, unknown: UnknownFields) -> Row:
    return (
        one.number,
        one.key,
        one.state.value,
        one.severity.value,
        one.opened_at_ms,
        one.resolved_at_ms,
        dumped(unknown.put_back("incidents", one.number, incident_json(one))),
    )


def _member_row(number: int, one: Member, unknown: UnknownFields) -> Row:
    name = one.alert.fingerprint
    alert = dumped(unknown.put_back("incident_instances", (number, name), alert_json(one.alert)))
    origins = dumped(one.origins)
    return (number, name, one.source.value, one.since_ms, one.ended_at_ms, alert, origins)


def _timer_row(number: int, one: Timer) -> Row:
    name = f"{number}/{one.kind.value}"
    return (name, number, one.kind.value, one.generation, one.due_at_ms)


def _message_row(one: Message, unknown: UnknownFields) -> Row:
    sent = one.notification
    return (
        one.key,
        one.id,
        sent.incident,
        sent.contact,
        sent.receiver,
        one.generation,
        dumped(unknown.put_back("outbox", one.key, sent.to_json())),
        *_message_state(one),
    )


def _message_state(one: Message) -> Row:
    """In the order of MESSAGE_STATE."""
    return (
        one.state.value,
        one.attempts,
        one.next_at_ms,
        one.lease_until_ms,
        int(one.withdrawn),
        one.last_error,
        one.reference,
        one.refusals,
    )


def _entry_row(one: Entry) -> Row:
    return (one.seq, one.at_ms, one.incident, one.event, one.actor, dumped(one.data))


def _instance_row(one: InstanceRow, unknown: UnknownFields) -> Row:
    alert = one.alert if one.doubt is None else one.doubt.alert
    assert alert is not None, "a row is about an alert, a doubt about one, or both"
    key = (one.file, one.group, one.rule, alert.fingerprint)
    return (
        one.file,
        one.group,
        one.rule,
        alert.fingerprint,
        alert.state.value,
        alert.active_at_ms,
        alert.fired_at_ms,
        alert.keep_firing_since_ms,
        None if alert.value != alert.value else alert.value,  # SQL has no NaN; row_json keeps it
        one.seen_ms,
        dumped(unknown.put_back("rule_instances", key, instance_json(one))),
    )


def _instances(batch: Batch) -> Iterator[InstanceRow]:
    """Those that are to be written now: parts of sets, and what is left of others."""
    for rows, begin, stop in batch.begun.values():
        yield from islice(_sources_once(rows), begin, stop)
    for group, rows in batch.instances.items():
        yield from islice(_sources_once(rows), batch.upserted.get(group, 0), None)


def forget_instances(connection: sqlite3.Connection, batch: Batch) -> None:
    """What is gone from the groups of rules whose rows were written in parts."""
    for group in (one for one, count in batch.upserted.items() if count):
        kept = {(row.rule, row.fingerprint) for row in batch.instances[group]}
        own = " FROM rule_instances WHERE file = ? AND group_name = ?"
        there = connection.execute("SELECT rule_uid, fingerprint" + own, group).fetchall()
        gone = [(*group, *key) for key in there if tuple(key) not in kept]
        connection.executemany(f"DELETE{own} AND rule_uid = ? AND fingerprint = ?", gone)


def _sources_once(rows: Iterable[InstanceRow]) -> Iterator[InstanceRow]:
    """The first row of a rule names its sources, for all others that have the same, and so does the
    first doubt: there may be as many sources as alerts, and the disk would hold their product."""
    named: dict[str, frozenset[SeriesSource]] = {}
    doubted: dict[tuple[str, frozenset[SeriesSource]], SeriesSource] = {}
    for row in rows:
        row = replace(row, doubt=_doubt_once(row, doubted))
        first = named.get(row.rule)
        if first is None:
            named[row.rule] = row.sources
        same = first is row.sources or first == row.sources
        yield replace(row, sources=frozenset()) if same else row


def _doubt_once(
    row: InstanceRow, named: dict[tuple[str, frozenset[SeriesSource]], SeriesSource]
) -> Doubt | None:
    """The first doubt that has some sources gives them a name, which stands for them in others."""
    doubt = row.doubt
    if doubt is None or len(doubt.sources) < 2:
        return doubt
    own = SeriesSource(_NAMED, doubt.alert.fingerprint)
    name = named.setdefault((row.rule, doubt.sources), own)
    return replace(doubt, sources=(doubt.sources if name is own else frozenset()) | {name})


def read_instances(rows: Iterable[Row], unknown: UnknownFields) -> tuple[InstanceRow, ...]:
    """A row that names no sources has those of its rule."""
    read = [read_instance(row, unknown) for row in rows]
    of_rule: dict[Row, frozenset[SeriesSource]] = {}
    of_name: dict[Row, frozenset[SeriesSource]] = {}
    for one in read:
        rule = (one.file, one.group, one.rule)
        if one.sources:
            of_rule[rule] = of_rule.get(rule, frozenset()) | one.sources
        if (name := _name(one)) and one.doubt and len(one.doubt.sources) > 1:
            of_name[*rule, name] = one.doubt.sources - {name}
    return tuple(_with_sources(one, of_rule, of_name) for one in read)


def _name(row: InstanceRow) -> SeriesSource | None:
    sources = row.doubt.sources if row.doubt else ()
    return next((source for source in sources if source.job == _NAMED), None)


def _with_sources(
    row: InstanceRow,
    of_rule: Mapping[Row, frozenset[SeriesSource]],
    of_name: Mapping[Row, frozenset[SeriesSource]],
) -> InstanceRow:
    rule = (row.file, row.group, row.rule)
    if not row.sources:
        row = replace(row, sources=of_rule.get(rule, row.sources))
    if row.doubt and (name := _name(row)):
        # A set that was written in part may have lost a name; the rule's sources are more.
        row = replace(
            row, doubt=replace(row.doubt, sources=of_name.get((*rule, name), row.sources))
        )
    return row


def read_instance(row: Row, unknown: UnknownFields) -> InstanceRow:
    """From (file, group_name, rule_uid, fingerprint, last_eval_ms, row_json)."""
    file, group, rule, name, seen_ms, text = row
    data = json.loads(text)
    one = instance_from(file, group, rule, seen_ms, data)
    key = (file, group, rule, name)
    unknown.keep("rule_instances", key, data, lambda: instance_json(one))
    return one
