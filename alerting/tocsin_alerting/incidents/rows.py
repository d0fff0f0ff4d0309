"""Rows of the journal: an engine, and incidents, members, messages and alerts as plain JSON, and
back again without a loss."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tocsin_alerting.incidents.incident import Incident, Member, Source, State
from tocsin_alerting.incidents.policy import Policy, Severity, Target
from tocsin_alerting.incidents.unknown_fields import known_fields, word
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.journal import InstanceRow
from tocsin_alerting.rules.unknown import Doubt
from tocsin_exporter.snapshot import Labels
from tocsin_exporter.snapshot import Source as SeriesSource

_ALERT = tuple(one.name for one in fields(Alert))
Json = dict[str, Any]
_BY_HAND = frozenset({"members", "policy", "muted_by", "paged", "group_labels"})
_PLAIN = tuple(one.name for one in fields(Incident) if one.name not in _BY_HAND)


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


def dumped(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def incident_json(incident: Incident) -> Json:
    """Everything but the members, which are rows of their own."""
    return {
        **{name: getattr(incident, name) for name in _PLAIN},
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
            "state": word(State, data["state"], State.TRIGGERED),
            "source": word(Source, data["source"], Source.UNKNOWN),
            "severity": word(Severity, data["severity"], Severity.P2),
            "policy": Policy.from_json(data["policy"]),
            "muted_by": frozenset(data["muted_by"]),
            "paged": frozenset(Target(*pair) for pair in data["paged"]),
            "group_labels": _labels(data["group_labels"]),
        }
    )


def alert_json(alert: Alert) -> Json:
    """Of its fields only labels and annotations are not plain, and JSON has pairs as lists."""
    return {name: getattr(alert, name) for name in _ALERT}


def alert_from(data: Mapping[str, Any]) -> Alert:
    return Alert(
        **{
            **known_fields(data, Alert),
            "labels": _labels(data["labels"]),
            "annotations": _labels(data["annotations"]),
            "state": word(AlertState, data["state"], AlertState.FIRING),
        }
    )


def instance_json(row: InstanceRow) -> Json:
    """Everything but what has a column of its own: file, group, rule and `seen_ms`."""
    return {
        "alert": row.alert and alert_json(row.alert),
        "doubt": row.doubt and _doubt_json(row.doubt),
        "sources": _sources_json(row.sources),
    }


def instance_from(
    file: str, group: str, rule: str, seen_ms: int, data: Mapping[str, Any]
) -> InstanceRow:
    alert, doubt = data["alert"], data["doubt"]
    return InstanceRow(
        file,
        group,
        rule,
        seen_ms,
        alert and alert_from(alert),
        doubt and _doubt_from(doubt),
        _sources_from(data["sources"]),
    )


def _doubt_json(doubt: Doubt) -> Json:
    return {
        **{one.name: getattr(doubt, one.name) for one in fields(Doubt)},
        "alert": alert_json(doubt.alert),
        "sources": _sources_json(doubt.sources),
    }


def _doubt_from(data: Mapping[str, Any]) -> Doubt:
    sources = _sources_from(data["sources"])
    known = known_fields(data, Doubt)
    return Doubt(**{**known, "alert": alert_from(data["alert"]), "sources": sources})


def _sources_json(sources: Iterable[SeriesSource]) -> list[list[str]]:
    return sorted([source.job, source.instance] for source in sources)


def _sources_from(pairs: Iterable[Sequence[str]]) -> frozenset[SeriesSource]:
    return frozenset(SeriesSource(job, instance) for job, instance in pairs)


def _labels(pairs: Iterable[Iterable[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)
