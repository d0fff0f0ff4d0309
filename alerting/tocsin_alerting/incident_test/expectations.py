"""What `expect` says: messages in a window of time, and how incidents stand."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from tocsin_alerting.incident_test.script import (
    Expectation,
    IncidentExpected,
    MessageFilter,
    MessagesExpected,
)
from tocsin_alerting.incident_test.values import ValueReader, written
from tocsin_alerting.incidents.incident import Condition, IncidentState, Reason
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.yaml_document import Path

E = TypeVar("E", bound=StrEnum)
_FILTER_KEYS = (
    "receiver",
    "contact",
    "via",
    "reason",
    "step",
    "severity",
    "contains",
    "alertname",
    "labels",
    "annotations",
)
_INCIDENT_KEYS = (
    "alertname",
    "labels",
    "number",
    "state",
    "owner",
    "step",
    "severity",
    "policy",
    "muted",
    "source",
)
MESSAGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "page": (*_FILTER_KEYS, "times"),
    "no_page": _FILTER_KEYS,
    "resolved": (*(key for key in _FILTER_KEYS if key != "reason"), "times"),
    "no_resolved": tuple(key for key in _FILTER_KEYS if key != "reason"),
    "pages_total": (*_FILTER_KEYS, "min", "max"),
}
_INCIDENT_KINDS = ("incident", "no_incident")
KINDS: Mapping[str, tuple[str, ...]] = {kind: () for kind in (*MESSAGE_KEYS, *_INCIDENT_KINDS)}
_OVER = frozenset({Reason.RESOLVED, Reason.FIRED_AND_RESOLVED})


def read_expectation(values: ValueReader, path: Path) -> Expectation | None:
    """One of `expect`: a time, and what must be true then."""
    kind = values.kind_of(path, KINDS, "an expectation")
    if kind is None:
        return None
    words = f"{kind}: {written(values.value((*path, kind)))}"
    wanted: MessagesExpected | IncidentExpected
    if kind in _INCIDENT_KINDS:
        wanted = _incident(values, path, kind)
    else:
        wanted = _messages(values, path, kind)
    return Expectation(wanted, values.place(path), words)


def _messages(values: ValueReader, path: Path, kind: str) -> MessagesExpected:
    at, window = (*path, kind), values.window((*path, "at"))
    fields = values.reading.mapping(at, values.value(at), MESSAGE_KEYS[kind], kind)
    if kind == "pages_total":
        if not {"min", "max"} & set(fields):
            values.reading.wrong(at, "pages_total needs min, max or both")
        if window.first_ms == window.last_ms:  # until then, from the start
            window = type(window)(0, window.last_ms)
    least, most = _counts(values, at, kind)
    return MessagesExpected(window, _filter(values, at, kind), least, most)


def _counts(values: ValueReader, at: Path, kind: str) -> tuple[int, int | None]:
    """At least and at most so many."""
    if kind.startswith("no_"):
        return 0, 0
    if kind == "pages_total":
        return values.count((*at, "min")) or 0, values.count((*at, "max"))
    times = values.count((*at, "times"))
    return (1, None) if times is None else (times, times)


def _filter(values: ValueReader, at: Path, kind: str) -> MessageFilter:
    reading, step = values.reading, (*at, "step")
    reasons = _OVER if kind.endswith("resolved") else frozenset[Reason]()
    if reason := _member(values, (*at, "reason"), Reason):
        reasons = frozenset({reason})

    def texts(key: str) -> dict[str, str] | None:
        return reading.texts((*at, key), key) if values.has((*at, key)) else None

    return MessageFilter(
        receiver=values.name("receiver", (*at, "receiver")),
        contact=values.name("contact", (*at, "contact")),
        via=values.name("way", (*at, "via")),
        reasons=reasons,
        step=reading.whole(step) if values.has(step) else None,
        severity=_member(values, (*at, "severity"), Severity),
        contains=reading.text((*at, "contains")),
        alertname=reading.text((*at, "alertname")),
        labels=texts("labels"),
        annotations=texts("annotations"),
        subset=values.subset,
    )


def _incident(values: ValueReader, path: Path, kind: str) -> IncidentExpected:
    reading, at, none = values.reading, (*path, kind), kind == "no_incident"
    known = ("alertname", "labels") if none else _INCIDENT_KEYS
    reading.mapping(at, values.value(at), known, kind)
    labels = reading.texts((*at, "labels"), "labels")
    if name := reading.text((*at, "alertname")):
        labels["alertname"] = name
    if not labels:
        reading.wrong(at, f"{kind} must say which one, by alertname or labels")
    if ".." in reading.text((*path, "at")):
        reading.wrong((*path, "at"), f"{kind} is looked at in one moment; write a time like 5m")
        return IncidentExpected(0, labels)
    muted, step = (*at, "muted"), (*at, "step")
    return IncidentExpected(
        at_ms=values.time((*path, "at")),
        labels=labels,
        none=none,
        number=values.count((*at, "number")),
        state=_member(values, (*at, "state"), IncidentState),
        owner=reading.text((*at, "owner")) if values.has((*at, "owner")) else None,
        step=reading.whole(step) if values.has(step) else None,
        severity=_member(values, (*at, "severity"), Severity),
        policy=values.name("policy", (*at, "policy")),
        muted=reading.truth(muted) if values.has(muted) else None,
        source=_member(values, (*at, "source"), Condition),
    )


def _member(values: ValueReader, path: Path, kind: type[E]) -> E | None:
    if not values.has(path):
        return None
    word = values.reading.one_of(path, [member.value for member in kind])
    return kind(word) if word else None
