"""Whether we would page now: what of evaluation, timers, outbox, journal and scraping is not well.

Trouble shows in `/-/ready` and withholds the heartbeat. It is no reason to restart us: an agent
whose disk is slow pages all the same. Only a loop that no longer turns is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.outbox_message import URGENT_SEVERITIES, MessageState
from tocsin_alerting.time_format import format_duration
from tocsin_exporter.clock import Clock

TIMER_LATE_MS = 120_000
GROUP_LATE_MS = 120_000  # beyond two of its intervals
UNREACHED_URGENT_MS = 120_000  # by pages of P0 and P1
UNREACHED_MS = 900_000
STALLED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """`part` is a key of `CHECKS`; `why` is a clause for people."""

    part: str
    why: str


class Turning(Protocol):
    """A loop; `turns_by_s` is the monotonic time by which it turns again, None before it runs."""

    turns_by_s: float | None


class Evaluation(Turning, Protocol):
    """The rule loop, as far as it is judged."""

    def unready(self, now_ms: int) -> str: ...

    def late(self, now_ms: int, patience_ms: int) -> Sequence[str]: ...


class SelfHealth:
    """`paging` runs timers and sends; `unscraped(now_ms)` says what is not read, "" for nothing."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        rule_loop: Evaluation,
        paging: Turning,
        unscraped: Callable[[int], str],
        clock: Clock,
    ) -> None:
        self.dispatcher, self.rule_loop, self.unscraped = dispatcher, rule_loop, unscraped
        self._loops: Mapping[str, Turning] = {"rules": rule_loop, "incidents": paging}
        self._clock = clock

    def troubles(self) -> list[Trouble]:
        """In the way of the data; what stops the first parts may stop the others."""
        now_ms = self._clock.now_ms()
        found = ((part, check(self, now_ms)) for part, check in CHECKS.items())
        return [Trouble(part, why) for part, why in found if why]

    def unready(self) -> str:
        """All of it in one line, "" when all is well."""
        return "; ".join(trouble.why for trouble in self.troubles())

    def stalled(self) -> str:
        """Which loop no longer turns, "" for none."""
        now_s = self._clock.monotonic()
        for name, loop in self._loops.items():
            late_s = now_s - (now_s if loop.turns_by_s is None else loop.turns_by_s)
            if late_s > STALLED_SECONDS:
                return f"the loop of {name} has not turned for {late_s:.0f} s"
        return ""


def _scraping(health: SelfHealth, now_ms: int) -> str:
    return health.unscraped(now_ms)


def _evaluation(health: SelfHealth, now_ms: int) -> str:
    if why := health.rule_loop.unready(now_ms):
        return why
    if late := health.rule_loop.late(now_ms, GROUP_LATE_MS):
        return f"rule groups are not evaluated any more: {', '.join(late[:5])}"
    return ""


def _timers(health: SelfHealth, now_ms: int) -> str:
    late_ms = health.dispatcher.overdue_ms(now_ms)
    if late_ms <= TIMER_LATE_MS:
        return ""
    return f"the oldest timer is {_span(late_ms)} late: nobody is escalated to"


def _outbox(health: SelfHealth, now_ms: int) -> str:
    working = health.dispatcher.working
    unreached = [
        (since_ms, incident)
        for incident in working.incidents.values()
        if incident.state is IncidentState.TRIGGERED and not working.is_held(incident.number)
        for since_ms in [_unreached_since_ms(health.dispatcher, incident)]
        if since_ms is not None and now_ms - since_ms > _patience_ms(incident)
    ]
    if not unreached:
        return ""
    since_ms, incident = min(unreached, key=lambda pair: pair[0])
    newest = working.outbox.of_incident(incident.number)[-1]
    page = f"{incident.severity} page of incident #{incident.number}"
    why = newest.last_error or "it was not sent yet"
    return f"the {page} reached nobody for {_span(now_ms - since_ms)}: {why}"


def _patience_ms(incident: Incident) -> int:
    urgent = incident.severity.value in URGENT_SEVERITIES
    return UNREACHED_URGENT_MS if urgent else UNREACHED_MS


def _unreached_since_ms(dispatcher: Dispatcher, incident: Incident) -> int | None:
    """Since when it has paged in vain; None: a page arrived, or none was due. One that is replaced
    by the next step's was in vain too."""
    messages = dispatcher.working.outbox.of_incident(incident.number)
    pages = [page for page in messages if page.is_page and page.generation >= incident.cycle]
    if any(page.state is MessageState.SENT for page in pages):
        return None
    return min((page.notification.at_ms for page in pages), default=None)


def _journal(health: SelfHealth, now_ms: int) -> str:
    writer = health.dispatcher.writer
    if not writer.down:
        return ""
    return f"the journal is down for {_span(now_ms - writer.down_since_ms)}: {writer.last_error}"


def _span(ms: int) -> str:
    return format_duration(max(0, ms) // 1000 * 1000)


CHECKS: Mapping[str, Callable[[SelfHealth, int], str]] = {
    "scraping": _scraping,
    "evaluation": _evaluation,
    "timers": _timers,
    "outbox": _outbox,
    "journal": _journal,
}
"""Each says in a clause why its part is not well, "" when it is."""
