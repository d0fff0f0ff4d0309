"""One incident through the real dispatcher on a fake clock: who would get what, when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.time_format import format_duration

MAX_DURATION_MS = 30 * 86_400_000
MAX_DISPATCHES = 1_000
CLEARS_AFTER_MS = 60_000
_MIN_REPEATS = 3  # so many equal moments in a row become one line
_WITHOUT_STEP = (Reason.FINAL, Reason.RESOLVED)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What goes out at one time: `messages` says why and to whom, a line each."""

    at_ms: int
    messages: tuple[str, ...]


async def dry_run(config: IncidentConfig, severity: Severity) -> list[str]:
    """What is sent, a line a message; nobody answers, and the alert clears when all is said.

    A policy that goes on and on is followed for MAX_DISPATCHES or MAX_DURATION_MS.
    """
    dispatcher = Dispatcher(config, MemoryJournal(), lambda: 0.5)
    await dispatcher.start(0)
    await dispatcher.handle([_event(EventKind.FIRING, severity, 0)], 0)
    moments = await _run_unanswered(dispatcher)
    end_ms = (moments[-1].at_ms if moments else 0) + CLEARS_AFTER_MS
    await dispatcher.handle([_event(EventKind.CLEAR, severity, end_ms)], end_ms)
    moments += await _send_due(dispatcher, end_ms)
    return list(_lines(moments)) or ["nobody would be notified"]


async def _run_unanswered(dispatcher: Dispatcher) -> list[Dispatch]:
    moments: list[Dispatch] = []
    now_ms: int | None = 0
    while now_ms is not None and now_ms <= MAX_DURATION_MS and len(moments) < MAX_DISPATCHES:
        due_ms = await dispatcher.due(now_ms)
        moments += await _send_due(dispatcher, now_ms)
        now_ms = None if due_ms is None else max(due_ms, now_ms + 1)
    return moments


async def _send_due(dispatcher: Dispatcher, now_ms: int) -> list[Dispatch]:
    """Everything that may go out now, taken for delivered."""
    messages: list[str] = []
    while deliveries := await dispatcher.claim(now_ms):
        for delivery in deliveries:
            messages.append(_describe(delivery.notification))
            await dispatcher.delivered(delivery, Delivered(), now_ms)
    return [Dispatch(now_ms, tuple(messages))] if messages else []


def _describe(sent: Notification) -> str:
    whom = f"{sent.contact} by {sent.receiver}" if sent.contact else sent.receiver
    step = "" if sent.reason in _WITHOUT_STEP else f" (step {sent.step + 1})"
    return f"{sent.reason:<11} -> {whom}{step}"


def _lines(moments: Sequence[Dispatch]) -> Iterator[str]:
    """Moments that repeat at equal distances are told once, with how often and until when."""
    at = 0
    while at < len(moments):
        first, length = moments[at], _run_length(moments[at:])
        last = moments[at + length - 1]
        again = ""
        if length > 1:
            every = format_duration((last.at_ms - first.at_ms) // (length - 1))
            until = format_duration(last.at_ms)
            again = f", every {every}, {length} times, until after {until}"
        for message in first.messages:
            yield f"after {format_duration(first.at_ms):>8}  {message}{again}"
        at += length


def _run_length(moments: Sequence[Dispatch]) -> int:
    """How many moments from the first on say the same at equal distances; 1 for fewer than
    _MIN_REPEATS."""
    length = 1
    while length < len(moments) and moments[length].messages == moments[0].messages:
        apart = moments[length].at_ms - moments[length - 1].at_ms
        if apart != moments[1].at_ms - moments[0].at_ms:
            break
        length += 1
    return length if length >= _MIN_REPEATS else 1


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
