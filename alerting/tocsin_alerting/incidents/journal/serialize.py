"""Rows of the journal: an engine, and incidents, members, messages and alerts as plain JSON, and
back again without a loss."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationPolicy, Severity
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, Member
from tocsin_alerting.incidents.unknown_fields import known_fields, known_member
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.snapshot import Labels, Source

_ALERT_FIELDS = tuple(one.name for one in fields(Alert))
Json = dict[str, Any]
_CONVERTED_FIELDS = frozenset({"members", "policy", "muted_by", "paged", "group_labels"})
_PLAIN_FIELDS = tuple(one.name for one in fields(Incident) if one.name not in _CONVERTED_FIELDS)


@dataclass(frozen=True, slots=True)
class EngineRow:
    """An engine that was found by itself: it is expected after a restart.

    `model` is what it served, "" when it did not say; `seen_ms` when that was last noted.
    """

    target: str
    url: str
    kind: str
    model: str = ""
    seen_ms: int = 0


def to_json_text(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def incident_json(incident: Incident) -> Json:
    """Everything but the members, which are rows of their own."""
    return {
        **{name: getattr(incident, name) for name in _PLAIN_FIELDS},
        "policy": incident.policy.to_json(),
        "muted_by": sorted(incident.muted_by),
        "paged": sorted([target.receiver, target.contact] for target in incident.paged),
        "group_labels": incident.group_labels,
    }


def incident_from(data: Mapping[str, Any], members: Mapping[str, Member]) -> Incident:
    return Incident(
        **{
            **known_fields(data, Incident),
            "members": members,
            "state": known_member(IncidentState, data["state"], IncidentState.TRIGGERED),
            "source": known_member(Condition, data["source"], Condition.UNKNOWN),
            "severity": known_member(Severity, data["severity"], Severity.P2),
            "policy": EscalationPolicy.from_json(data["policy"]),
            "muted_by": frozenset(data["muted_by"]),
            "paged": frozenset(Addressee(*pair) for pair in data["paged"]),
            "group_labels": _labels(data["group_labels"]),
        }
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


def instance_json(row: InstanceRow) -> Json:
    """Everything but what has a column of its own: file, group, rule and `seen_ms`."""
    return {
        "alert": row.alert and alert_json(row.alert),
        "doubt": row.unknown_alert and _unknown_alert_json(row.unknown_alert),
        "sources": _sources_json(row.sources),
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
