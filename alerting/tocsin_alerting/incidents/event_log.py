"""What happens to incidents, on the agent's own log: a line an event, whoever is paged and how.

The text says it to a person, the fields to whoever collects logs. Messages on their way are told
by the delivery, which knows how long they took.
"""

import logging
from collections.abc import Iterable, Mapping

from tocsin_alerting.annotations import annotation_texts
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.incident import Incident, began_ms
from tocsin_alerting.incidents.notification_builder import title
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.settings import elapsed_text

log = logging.getLogger("tocsin.incident")

_LOG_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
MAX_LINES = 50  # of one step: a storm must not hold up its own pages

LOGGED_EVENTS: Mapping[str, tuple[int, str]] = {
    "opened": (logging.WARNING, "opened"),
    "reopened": (logging.WARNING, "opened again"),
    "severity_raised": (logging.WARNING, "got worse"),
    "source_unknown": (logging.WARNING, "is unknown now: its data no longer comes"),
    "known_again": (logging.INFO, "is known again"),
    "acked": (logging.INFO, "acknowledged"),
    "ack_kept": (logging.INFO, "stays acknowledged"),
    "unacked": (logging.WARNING, "is given back"),
    "ack_expired": (logging.WARNING, "acknowledgement expired"),
    "snoozed": (logging.INFO, "snoozed"),
    "snooze_kept": (logging.INFO, "stays snoozed"),
    "snooze_ended": (logging.WARNING, "snooze ended"),
    "escalated": (logging.WARNING, "escalated by hand"),
    "slo_breach": (logging.WARNING, "missed its recovery target"),
    "no_one_reached": (logging.ERROR, "reached nobody"),
    "exhausted": (logging.ERROR, "was answered by nobody"),
    "suppressed": (logging.INFO, "is muted, its page was not sent"),
    "delivery_failed": (logging.ERROR, "a message was given up"),
    "resolved": (logging.INFO, "resolved"),
    "given_up": (logging.WARNING, "given up, its state is unknown,"),
    "unwatched": (
        logging.WARNING,
        "is no longer watched: its rule or its source was removed or changed,",
    ),
    "closed_by_hand": (logging.WARNING, "closed by hand, not over"),
    "closing_kept": (logging.WARNING, "stays closed by hand, not over"),
    "superseded": (logging.INFO, "was superseded"),
    "journal_back": (logging.WARNING, "the journal is written again"),
}


def log_entries(entries: Iterable[HistoryEntry], incidents: Mapping[int, Incident]) -> None:
    """A line for each entry that people care for; of a step with very many, the first ones."""
    logged = [entry for entry in entries if entry.event in LOGGED_EVENTS]
    for entry in logged[:MAX_LINES]:
        level, words = LOGGED_EVENTS[entry.event]
        incident = incidents.get(entry.incident)
        about = _incident_fields(incident)
        what = f"{words}{_by_actor(entry)}{_after_text(entry, incident)}{_summary(entry, incident)}"
        text = f"{_incident_name(entry.incident, incident)} {what}".strip()
        log.log(level, "%s", text, extra={**_fields(entry), **about})
    if len(logged) > MAX_LINES:
        log.warning("%d more events of incidents at once", len(logged) - MAX_LINES)


def _incident_name(number: int, incident: Incident | None) -> str:
    if incident is None:
        return f"#{number}" if number else ""
    return f"#{number} {incident.severity} {title(incident)}"


def _by_actor(entry: HistoryEntry) -> str:
    return f" by {entry.actor}" if entry.actor else ""


def _after_text(entry: HistoryEntry, incident: Incident | None) -> str:
    """Since it opened; to the end, since its condition began to hold."""
    after_ms = entry.data.get("after_ms")
    if entry.event in ("resolved", "given_up", "unwatched") and incident is not None:
        began = began_ms(incident, entry.at_ms)
        after_ms = after_ms if began is None else entry.at_ms - began
    return "" if after_ms is None else f" after {elapsed_text(after_ms)}"


def _summary(entry: HistoryEntry, incident: Incident | None) -> str:
    if incident is None or entry.event not in ("opened", "reopened"):
        return ""
    texts = (_first_line(member.alert) for member in incident.active)
    first = next((text for text in texts if text), "")
    return f": {first}" if first else ""


def _first_line(alert: Alert) -> str:
    """Its first line as messages have it. The line has its name."""
    return next(iter(annotation_texts(dict(alert.annotations))), "").partition("\n")[0]


def _fields(entry: HistoryEntry) -> dict[str, object]:
    fields: dict[str, object] = {"event": entry.event}
    if entry.incident:
        fields["incident"] = entry.incident
    if entry.actor:
        fields["by"] = entry.actor
    for name, value in entry.data.items():
        if name == "after_ms":
            fields["after"] = elapsed_text(value)
        elif value is not False and value not in ("", None, ()) and name not in _LOG_RECORD_FIELDS:
            fields[name] = value
    return fields


def _incident_fields(incident: Incident | None) -> dict[str, object]:
    return {} if incident is None else {"severity": incident.severity, "state": incident.state}
