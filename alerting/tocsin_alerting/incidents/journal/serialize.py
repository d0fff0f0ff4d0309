"""Rows of the journal as plain JSON, and back without loss: incidents, members, messages, alerts.

A row is read into an object and written from it again. What a newer version wrote into it and this
one does not know is laid aside, put back whenever the row is written, and said in the log: so going
back a version loses nothing.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from enum import StrEnum
from typing import Any, TypeVar

from tocsin_alerting.incidents.alert_matcher import AlertMatcher, alert_matcher
from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Recipient,
)
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, Member
from tocsin_alerting.incidents.silences import Silence
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.instance_journal import EngineGap, InstanceRow
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.snapshot import Labels, Source

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=StrEnum)
_ALERT_FIELDS = tuple(field.name for field in fields(Alert))
Json = dict[str, Any]
_NESTED = frozenset({dict, list})
_FORMER_POLICY_FIELDS = ("group_interval_ms",)
_CONVERTED_FIELDS = frozenset(
    {"members", "policy", "muted_by", "silenced", "held", "flapped", "paged", "group_labels"}
)
_PLAIN_FIELDS = tuple(
    field.name for field in fields(Incident) if field.name not in _CONVERTED_FIELDS
)


_MATCHER_FIELDS = ("matchers", "except_matchers")
_SILENCE_FIELDS = tuple(f.name for f in fields(Silence) if f.name not in _MATCHER_FIELDS)


def to_json_text(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def incident_json(incident: Incident) -> Json:
    """Everything but the members, which are rows of their own."""
    return {
        **{name: getattr(incident, name) for name in _PLAIN_FIELDS},
        "policy": asdict(incident.policy),
        "muted_by": sorted(incident.muted_by),
        "silenced": sorted(incident.silenced),
        "held": sorted(incident.held),
        "flapped": incident.flapped,
        "paged": sorted([target.receiver, target.contact] for target in incident.paged),
        "group_labels": incident.group_labels,
    }


def drop_former_fields(data: Json) -> None:
    """Takes out of an incident's row what an older version wrote and none reads any more."""
    for name in _FORMER_POLICY_FIELDS:
        data["policy"].pop(name, None)


def incident_from(data: Mapping[str, Any], members: Mapping[str, Member]) -> Incident:
    return Incident(
        **{
            **known_fields(data, Incident),
            "members": members,
            "state": known_member(IncidentState, data["state"], IncidentState.TRIGGERED),
            "source": known_member(Condition, data["source"], Condition.UNKNOWN),
            "severity": known_member(Severity, data["severity"], Severity.P2),
            "policy": _policy_from(data["policy"]),
            "muted_by": frozenset(data["muted_by"]),
            "silenced": frozenset(data.get("silenced", ())),
            "held": frozenset(data.get("held", ())),
            "flapped": tuple(data.get("flapped", ())),
            "paged": frozenset(Addressee(*pair) for pair in data["paged"]),
            "group_labels": _labels(data["group_labels"]),
        }
    )


def _policy_from(data: Mapping[str, Any]) -> EscalationPolicy:
    final = data["final"]
    return EscalationPolicy(
        **{
            **known_fields(data, EscalationPolicy),
            "steps": tuple(
                EscalationStep(_recipients(step["notify"]), step["escalate_after_ms"])
                for step in data["steps"]
            ),
            "final": final
            and FinalStep(_recipients(final["notify"]), final["every_ms"], final["for_ms"]),
            "ack": AckTimes(**known_fields(data["ack"], AckTimes)),
        }
    )


def _recipients(rows: Iterable[Mapping[str, Any]]) -> tuple[Recipient, ...]:
    """Older versions wrote a receiver and a contact alone."""
    return tuple(
        Recipient(**{**known_fields(row, Recipient), "via": tuple(row.get("via", ()))})
        for row in rows
    )


def alert_json(alert: Alert) -> Json:
    """Of its fields only labels and annotations are not plain, and JSON has pairs as lists."""
    return {name: getattr(alert, name) for name in _ALERT_FIELDS}


def alert_from(data: Mapping[str, Any]) -> Alert:
    return Alert(
        **{
            **known_fields(data, Alert),
            "labels": _labels(data["labels"]),
            "annotations": _labels(data["annotations"]),
            "state": known_member(AlertState, data["state"], AlertState.FIRING),
        }
    )


def silence_json(silence: Silence) -> Json:
    plain = {name: getattr(silence, name) for name in _SILENCE_FIELDS}
    return plain | {name: _matchers_json(getattr(silence, name)) for name in _MATCHER_FIELDS}


def silence_from(data: Mapping[str, Any]) -> Silence:
    """Raises ValueError for a matcher that means nothing here."""
    known = known_fields(data, Silence)
    matchers = {name: _matchers_from(data.get(name, ())) for name in _MATCHER_FIELDS}
    return Silence(**{**known, **matchers})


def _matchers_json(matchers: Iterable[AlertMatcher]) -> list[Json]:
    return [{"name": one.name, "op": one.op, "value": one.value} for one in matchers]


def _matchers_from(rows: Iterable[Mapping[str, Any]]) -> tuple[AlertMatcher, ...]:
    return tuple(alert_matcher(row["name"], row["op"], row["value"]) for row in rows)


def instance_json(row: InstanceRow) -> Json:
    """Everything but what has a column of its own: file, group, rule and `seen_ms`."""
    return {
        "alert": row.alert and alert_json(row.alert),
        "doubt": row.unknown_alert and _unknown_alert_json(row.unknown_alert),
        "sources": _sources_json(row.sources),
        "gaps": [[gap.since_ms, gap.until_ms] for gap in row.gaps],
    }


def instance_from(
    file: str, group: str, rule: str, seen_ms: int, data: Mapping[str, Any]
) -> InstanceRow:
    alert, unknown_alert = data["alert"], data["doubt"]
    return InstanceRow(
        file,
        group,
        rule,
        seen_ms,
        alert and alert_from(alert),
        unknown_alert and _unknown_alert_from(unknown_alert),
        _sources_from(data["sources"]),
        tuple(EngineGap(since_ms, until_ms) for since_ms, until_ms in data.get("gaps", ())),
    )


def _unknown_alert_json(unknown_alert: UnknownAlert) -> Json:
    return {
        **{field.name: getattr(unknown_alert, field.name) for field in fields(UnknownAlert)},
        "alert": alert_json(unknown_alert.alert),
        "sources": _sources_json(unknown_alert.sources),
    }


def _unknown_alert_from(data: Mapping[str, Any]) -> UnknownAlert:
    sources = _sources_from(data["sources"])
    known = known_fields(data, UnknownAlert)
    return UnknownAlert(**{**known, "alert": alert_from(data["alert"]), "sources": sources})


def _sources_json(sources: Iterable[Source]) -> list[list[str]]:
    return sorted([source.job, source.instance] for source in sources)


def _sources_from(pairs: Iterable[Sequence[str]]) -> frozenset[Source]:
    return frozenset(Source(job, instance) for job, instance in pairs)


def _labels(pairs: Iterable[Iterable[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)


def unknown_part(data: Any, known: Any) -> Any:
    """What `data` has and `known` has not: keys of objects, at any depth; None when nothing."""
    if isinstance(data, dict) and isinstance(known, Mapping):
        rest = {name: value for name, value in data.items() if name not in known}
        for name, value in data.items():
            if not _is_plain(value) and name in known:
                inner = unknown_part(value, known[name])
                if inner is not None:
                    rest[name] = inner
        return rest or None
    if isinstance(data, list) and isinstance(known, list | tuple) and len(data) == len(known):
        pairs = zip(data, known, strict=True)
        items = [None if _is_plain(item) else unknown_part(item, other) for item, other in pairs]
        return items if any(item is not None for item in items) else None
    return None


def _is_plain(value: Any) -> bool:
    """Nothing in it has a key: so is most of the tens of thousands of rows that a start reads."""
    kind = value.__class__
    return kind not in _NESTED or (kind is list and _NESTED.isdisjoint(map(type, value)))


def merge_unknown(known: Any, rest: Any) -> Any:
    """`known` with what `unknown_part` laid aside; where both have a value, `known` has it."""
    if isinstance(known, Mapping) and isinstance(rest, Mapping):
        merged = {name: merge_unknown(known[name], rest.get(name)) for name in known}
        return {**{name: value for name, value in rest.items() if name not in known}, **merged}
    if isinstance(known, list | tuple) and isinstance(rest, list) and len(known) == len(rest):
        return [merge_unknown(item, other) for item, other in zip(known, rest, strict=True)]
    return known


def known_fields(data: Mapping[str, Any], kind: Any) -> Json:
    """The values of `data` that `kind`, a dataclass, has a field for."""
    return {name: value for name, value in data.items() if name in kind.__dataclass_fields__}


def known_member(kind: type[Kind], value: str, otherwise: Kind) -> Kind:
    """The member of `kind`; `otherwise`, and a line in the log, for a word that is not known."""
    try:
        return kind(value)
    except ValueError:
        text = "journal: unknown %s %r; using %s"
        log.warning(text, kind.__name__, value, otherwise.value)
        return otherwise


class UnknownFields:
    """By table and key of the row."""

    def __init__(self) -> None:
        self._unknown_parts: dict[tuple[str, object], Any] = {}

    def keep(self, table: str, key: object, data: Any, known: Callable[[], Any]) -> None:
        """`known` gives the row as it would be written again."""
        rest = unknown_part(data, known())
        if rest is not None:
            self._unknown_parts[table, key] = rest

    def put_back(self, table: str, key: object, known: Any) -> Any:
        rest = self._unknown_parts.get((table, key))
        return known if rest is None else merge_unknown(known, rest)

    def log_counts(self) -> None:
        """One line in the log for each table and field."""
        counts: Counter[tuple[str, str]] = Counter()
        for (table, _), rest in self._unknown_parts.items():
            counts.update({(table, name) for name in _names(rest)})
        for (table, name), rows in sorted(counts.items()):
            log.warning(
                "journal written by a newer version: %s has unknown field %s in %d rows; kept"
                " unchanged",
                table,
                name,
                rows,
            )


def _names(rest: Any, at: str = "") -> Iterator[str]:
    if isinstance(rest, Mapping):
        for name, value in rest.items():
            yield from _names(value, f"{at}.{name}" if at else name)
    elif isinstance(rest, list) and any(isinstance(item, Mapping) for item in rest):
        for item in rest:
            yield from _names(item, at)
    elif rest is not None:
        yield at
