"""What the journal's tables hold, as values, and the values as rows."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any

from tocsin_alerting.incidents.batch import Batch, Entry
from tocsin_alerting.incidents.incident import Incident, Member, Source
from tocsin_alerting.incidents.message import Message, MessageState
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.rows import (
    alert_from,
    alert_json,
    dumped,
    incident_from,
    incident_json,
    instance_from,
    instance_json,
)
from tocsin_alerting.incidents.sqlite_schema import (
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
from tocsin_alerting.rules.alert import rules_origin
from tocsin_alerting.rules.journal import InstanceRow

Row = Sequence[Any]
Statement = tuple[str, list[Row]]

MESSAGE_COLUMNS = (
    "id, payload, generation, state, attempts, next_at_ms, lease_until_ms, withdrawn,"
    " last_error, provider_ref"
)


def statements(batch: Batch) -> Iterable[Statement]:
    """A batch as statements with rows. A closed incident comes before the one that follows it."""
    incidents = sorted(batch.incidents.values(), key=lambda one: one.number)
    yield PUT_INCIDENT, [_incident_row(one) for one in incidents]
    yield PUT_MEMBER, [_member_row(number, one) for (number, _), one in batch.members.items()]
    yield "DELETE FROM timers WHERE incident = ?", [(number,) for number in batch.timers]
    yield PUT_TIMER, [_timer_row(n, one) for n, timers in batch.timers.items() for one in timers]
    yield PUT_MESSAGE, [_message_row(one) for one in batch.messages.values()]
    yield PUT_ENTRY, [_entry_row(one) for one in batch.history]
    groups: list[Row] = [*batch.instances]
    yield "DELETE FROM rule_instances WHERE file = ? AND group_name = ?", groups
    yield PUT_INSTANCE, [_instance_row(one) for rows in batch.instances.values() for one in rows]
    yield PUT_REQUEST, [(name, *about) for name, about in batch.requests.items()]
    meta: list[Row] = [*batch.meta.items()]
    yield PUT_META, meta
    yield "DELETE FROM engines WHERE target = ?", [(target,) for target in batch.engines]
    yield PUT_ENGINE, [astuple(row) for row in batch.engines.values() if row is not None]


def read_incidents(rows: Iterable[Row], member_rows: Iterable[Row]) -> list[Incident]:
    """From (data_json) and (incident, fingerprint, source, since, ended, alert, origins)."""
    members: dict[int, dict[str, Member]] = {}
    for number, name, *row in member_rows:
        members.setdefault(number, {})[name] = _member(row)
    found = (json.loads(data) for (data,) in rows)
    return [incident_from(data, members.get(data["number"], {})) for data in found]


def _member(row: Row) -> Member:
    """Before there were origins only rules spoke, and not every alert named its file."""
    source, since_ms, ended_ms, alert_text, origins_text = row
    alert, said = alert_from(json.loads(alert_text)), Source(source)
    origins = {name: Source(word) for name, word in json.loads(origins_text).items()}
    if not origins and said is not Source.CLEAR:
        origins = {rules_origin("", alert.rule): said}
    return Member(alert, said, since_ms, ended_ms, origins)


def read_timer(row: Row) -> Timer:
    kind, due_at_ms, generation = row
    return Timer(TimerKind(kind), due_at_ms, generation)


def read_message(row: Row) -> Message:
    number, payload, generation, state, attempts, next_ms, lease_ms, withdrawn, error, ref = row
    return Message(
        id=number,
        notification=Notification.from_json(json.loads(payload)),
        generation=generation,
        state=MessageState(state),
        attempts=attempts,
        next_at_ms=next_ms,
        lease_until_ms=lease_ms,
        withdrawn=bool(withdrawn),
        last_error=error,
        reference=ref,
    )


def read_entry(row: Row) -> Entry:
    seq, at_ms, incident, event, actor, data = row
    return Entry(seq, at_ms, incident, event, actor, json.loads(data))


def _incident_row(one: Incident) -> Row:
    return (
        one.number,
        one.key,
        one.state.value,
        one.severity.value,
        one.opened_at_ms,
        one.resolved_at_ms,
        dumped(incident_json(one)),
    )


def _member_row(number: int, one: Member) -> Row:
    alert = dumped(alert_json(one.alert))
    name = one.alert.fingerprint
    origins = dumped(one.origins)
    return (number, name, one.source.value, one.since_ms, one.ended_at_ms, alert, origins)


def _timer_row(number: int, one: Timer) -> Row:
    name = f"{number}/{one.kind.value}"
    return (name, number, one.kind.value, one.generation, one.due_at_ms)


def _message_row(one: Message) -> Row:
    sent = one.notification
    return (
        one.key,
        one.id,
        sent.incident,
        sent.contact,
        sent.receiver,
        one.generation,
        dumped(sent.to_json()),
        one.state.value,
        one.attempts,
        one.next_at_ms,
        one.lease_until_ms,
        int(one.withdrawn),
        one.last_error,
        one.reference,
    )


def _entry_row(one: Entry) -> Row:
    return (one.seq, one.at_ms, one.incident, one.event, one.actor, dumped(one.data))


def _instance_row(one: InstanceRow) -> Row:
    alert = one.alert if one.doubt is None else one.doubt.alert
    assert alert is not None, "a row is about an alert, a doubt about one, or both"
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
        dumped(instance_json(one)),
    )


def read_instance(row: Row) -> InstanceRow:
    """From (file, group_name, rule_uid, last_eval_ms, row_json)."""
    *names, seen_ms, data = row
    file, group, rule = names
    return instance_from(file, group, rule, seen_ms, json.loads(data))
