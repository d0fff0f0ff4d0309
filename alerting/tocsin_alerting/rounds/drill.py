"""One incident through the real desk on a fake clock: who would get what, when; none is sent."""

from tocsin_alerting.incidents.desk import Desk
from tocsin_alerting.incidents.memory_journal import MemoryJournal
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outcome import Done
from tocsin_alerting.incidents.policy import Severity
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.settings import duration_text

LONGEST_MS = 2 * 86_400_000
MOST_LINES = 60


async def drill(config: IncidentConfig, severity: Severity) -> list[str]:
    """A line a message; nobody answers, and the alert clears when nothing more would be sent."""
    desk = Desk(config, MemoryJournal(), lambda: 0.5)
    await desk.start(0)
    await desk.reconcile([], 0)
    await desk.handle([_event(EventKind.FIRING, severity, 0)], 0)
    lines: list[str] = []
    now_ms = quiet_ms = 0
    while now_ms <= LONGEST_MS and len(lines) < MOST_LINES:
        due_ms = await desk.due(now_ms)
        sent = await _sent(desk, now_ms)
        lines += sent
        quiet_ms = now_ms if sent else quiet_ms
        if due_ms is None:
            break
        now_ms = max(due_ms, now_ms + 1)
    end_ms = quiet_ms + 60_000
    await desk.handle([_event(EventKind.CLEAR, severity, end_ms)], end_ms)
    return lines + await _sent(desk, end_ms) or ["nobody would be told"]


async def _sent(desk: Desk, now_ms: int) -> list[str]:
    """Everything that may go out now, taken for delivered."""
    lines: list[str] = []
    while deliveries := await desk.claim(now_ms):
        for delivery in deliveries:
            lines.append(_line(delivery.notification, now_ms))
            await desk.delivered(delivery, Done(), now_ms)
    return lines


def _line(sent: Notification, now_ms: int) -> str:
    whom = f"{sent.contact} by {sent.receiver}" if sent.contact else sent.receiver
    step = "" if sent.status == "resolved" else f" (step {sent.step + 1})"
    return f"after {duration_text(now_ms):>8}  {sent.reason:<11} -> {whom}{step}"


def _event(kind: EventKind, severity: Severity, at_ms: int) -> AlertEvent:
    firing = kind is EventKind.FIRING
    alert = Alert(
        rule="drill/TocsinDrill/0",
        labels=(("alertname", "TocsinDrill"), ("severity", severity.value)),
        annotations=(("summary", "A drill."),),
        state=AlertState.FIRING if firing else AlertState.INACTIVE,
        value=1.0,
        active_at_ms=0,
        fired_at_ms=0,
        resolved_at_ms=None if firing else at_ms,
    )
    return AlertEvent(kind, alert, at_ms)
