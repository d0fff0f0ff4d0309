"""One incident through the real desk on a fake clock: who would get what, when; none is sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tocsin_alerting.incidents.desk import Desk
from tocsin_alerting.incidents.memory_journal import MemoryJournal
from tocsin_alerting.incidents.notification import Notification, Reason
from tocsin_alerting.incidents.outcome import Done
from tocsin_alerting.incidents.policy import Severity
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.settings import duration_text

LONGEST_MS = 30 * 86_400_000
MOST_MOMENTS = 1_000
CLEARS_AFTER_MS = 60_000
_RUN = 3  # so many equal moments in a row become one line
_WITHOUT_STEP = (Reason.FINAL, Reason.RESOLVED)


@dataclass(frozen=True, slots=True)
class Moment:
    """What goes out at one time: `told` says why and to whom, a line a message."""

    at_ms: int
    told: tuple[str, ...]


async def drill(config: IncidentConfig, severity: Severity) -> list[str]:
    """What is sent, a line a message; nobody answers, and the alert clears when all is said.

    A policy that goes on and on is followed for MOST_MOMENTS or LONGEST_MS.
    """
    desk = Desk(config, MemoryJournal(), lambda: 0.5)
    await desk.start(0)
    await desk.handle([_event(EventKind.FIRING, severity, 0)], 0)
    moments = await _unanswered(desk)
    end_ms = (moments[-1].at_ms if moments else 0) + CLEARS_AFTER_MS
    await desk.handle([_event(EventKind.CLEAR, severity, end_ms)], end_ms)
    moments += await _sent(desk, end_ms)
    return list(_lines(moments)) or ["nobody would be told"]


async def _unanswered(desk: Desk) -> list[Moment]:
    moments: list[Moment] = []
    now_ms: int | None = 0
    while now_ms is not None and now_ms <= LONGEST_MS and len(moments) < MOST_MOMENTS:
        due_ms = await desk.due(now_ms)
        moments += await _sent(desk, now_ms)
        now_ms = None if due_ms is None else max(due_ms, now_ms + 1)
    return moments


async def _sent(desk: Desk, now_ms: int) -> list[Moment]:
    """Everything that may go out now, taken for delivered."""
    told: list[str] = []
    while deliveries := await desk.claim(now_ms):
        for delivery in deliveries:
            told.append(_told(delivery.notification))
            await desk.delivered(delivery, Done(), now_ms)
    return [Moment(now_ms, tuple(told))] if told else []


def _told(sent: Notification) -> str:
    whom = f"{sent.contact} by {sent.receiver}" if sent.contact else sent.receiver
    step = "" if sent.reason in _WITHOUT_STEP else f" (step {sent.step + 1})"
    return f"{sent.reason:<11} -> {whom}{step}"


def _lines(moments: Sequence[Moment]) -> Iterator[str]:
    """Moments that repeat at equal distances are told once, with how often and until when."""
    at = 0
    while at < len(moments):
        first, length = moments[at], _run_length(moments[at:])
        last = moments[at + length - 1]
        again = ""
        if length > 1:
            every = duration_text((last.at_ms - first.at_ms) // (length - 1))
            until = duration_text(last.at_ms)
            again = f", every {every}, {length} times, until after {until}"
        for told in first.told:
            yield f"after {duration_text(first.at_ms):>8}  {told}{again}"
        at += length


def _run_length(moments: Sequence[Moment]) -> int:
    """How many moments from the first on say the same at equal distances; 1 for fewer than _RUN."""
    length = 1
    while length < len(moments) and moments[length].told == moments[0].told:
        apart = moments[length].at_ms - moments[length - 1].at_ms
        if apart != moments[1].at_ms - moments[0].at_ms:
            break
        length += 1
    return length if length >= _RUN else 1


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
