"""What happens to incidents, on the agent's own log: one line per event.

The text is for people, the fields are for log collectors. The delivery loop logs messages, because
it knows how long they took.
"""

import logging
from collections.abc import Iterable, Mapping

from tocsin_alerting.annotations import annotation_texts
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.incident import Incident, began_ms
from tocsin_alerting.incidents.notification import title
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.time_format import elapsed_text

log = logging.getLogger("tocsin.incident")

_LOG_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
MAX_LINES = 50  # of one step: a storm must not hold up its own pages

LOGGED_EVENTS: Mapping[str, tuple[int, str]] = {
    "opened": (logging.WARNING, "opened"),
    "reopened": (logging.WARNING, "opened again"),
    "fires_again": (logging.WARNING, "fires again, before it was resolved"),
    "flapping": (logging.WARNING, "flapping"),
    "flap_ended": (logging.WARNING, "no longer flapping, still firing"),
    "hold": (logging.INFO, "clear, resolved if it stays so"),
    "new_alerts": (logging.WARNING, "more of its alerts fire"),
    "severity_raised": (logging.WARNING, "got worse"),
    "source_unknown": (logging.WARNING, "state unknown: no data from its source"),
    "known_again": (logging.INFO, "state known again"),
    "acked": (logging.INFO, "acknowledged"),
    "ack_kept": (logging.INFO, "stays acknowledged"),
    "unacked": (logging.WARNING, "acknowledgement withdrawn"),
    "ack_expired": (logging.WARNING, "acknowledgement expired"),
    "snoozed": (logging.INFO, "snoozed"),
    "snooze_kept": (logging.INFO, "stays snoozed"),
    "snooze_ended": (logging.WARNING, "snooze ended"),
    "assigned": (logging.INFO, "assigned"),
    "commented": (logging.INFO, "commented"),
    "escalated": (logging.WARNING, "escalated by hand"),
    "slo_breach": (logging.WARNING, "missed its recovery target"),
    "next_way": (logging.WARNING, "notification failed, notifying by the next way"),
    "fallback": (logging.WARNING, "notification failed, notifying by the fallback"),
    "stand_in": (logging.WARNING, "notification failed, notifying by another receiver instead"),
    "delivery_late": (logging.ERROR, "notification failed in its time, retrying"),
    "no_one_reached": (logging.ERROR, "notifications failed: nobody was reached"),
    "waits_for_hours": (logging.INFO, "waits for the hours of its recipients"),
    "exhausted": (logging.ERROR, "escalation exhausted: nobody acknowledged"),
    "suppressed": (logging.INFO, "muted: page not sent"),
    "silence_set": (logging.WARNING, "silence set"),
    "silence_extended": (logging.WARNING, "end of a silence set"),
    "silence_ended": (logging.INFO, "silence ended"),
    "silence_expired": (logging.INFO, "silence expired"),
    "silence_ends": (logging.WARNING, "silence ends soon, and something fires under it"),
    "drill_started": (logging.WARNING, "drill started: nothing is wrong"),
    "drill_ended": (logging.INFO, "drill ended"),
    "heartbeat_added": (logging.INFO, "heartbeat added"),
    "token_added": (logging.WARNING, "token made"),
    "token_revoked": (logging.WARNING, "token revoked"),
    "heartbeat_forgotten": (logging.WARNING, "heartbeat forgotten"),
    "delivery_failed": (logging.ERROR, "notification failed permanently"),
    "resolved": (logging.INFO, "resolved"),
    "given_up": (logging.WARNING, "given up, state unknown,"),
    "unwatched": (
        logging.WARNING,
        "no longer watched: its rule or its source was removed or changed,",
    ),
    "closed_by_hand": (logging.WARNING, "closed by hand"),
    "closing_kept": (logging.WARNING, "stays closed by hand"),
    "superseded": (logging.INFO, "superseded"),
    "storm_again": (logging.WARNING, "pages again, for what joined is not acknowledged"),
    "storm_grew": (logging.WARNING, "has more incidents"),
    "journal_back": (logging.WARNING, "journal write recovered"),
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
        log.warning(
            "log line limit reached: %d more incident events not logged", len(logged) - MAX_LINES
        )


def _incident_name(number: int, incident: Incident | None) -> str:
    if incident is None:
        return f"#{number}" if number else ""
    return f"#{number} {incident.severity} {title(incident)}"


def _by_actor(entry: HistoryEntry) -> str:
    to = f" to {entry.data.get('to', '?')}" if entry.event == "assigned" else ""
    return f"{to} by {entry.actor}" if entry.actor else to


def _after_text(entry: HistoryEntry, incident: Incident | None) -> str:
    """Since it opened; to the end, since its condition began to hold."""
    after_ms = entry.data.get("after_ms")
    if entry.event in ("resolved", "given_up", "unwatched") and incident is not None:
        began = began_ms(incident, entry.at_ms)
        after_ms = after_ms if began is None else entry.at_ms - began
    return "" if after_ms is None else f" after {elapsed_text(after_ms)}"


def _summary(entry: HistoryEntry, incident: Incident | None) -> str:
    if entry.event in ("closed_by_hand", "closing_kept"):
        return "; not resolved"
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
        elif name == "source":  # of a log line that is the place in the code
            fields["condition"] = value
        elif value is not False and value not in ("", None, ()) and name not in _LOG_RECORD_FIELDS:
            fields[name] = value
    return fields


def _incident_fields(incident: Incident | None) -> dict[str, object]:
    return {} if incident is None else {"severity": incident.severity, "state": incident.state}
