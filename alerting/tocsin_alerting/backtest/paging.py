"""Who would have been paged: the alerts of a backtest through the agent's own incidents and
policies, on a clock that jumps to whatever is next."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tocsin_alerting.backtest.alert_spans import AlertSpan
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import IncidentError
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.outbox_message import NOTICE_REASONS, Delivered
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind

_ONCALL = "backtest"


@dataclass(frozen=True, slots=True)
class SentPage:
    """A message that would have called somebody."""

    at_ms: int
    incident: int
    severity: str
    reason: str


@dataclass(slots=True)
class PagingLog:
    """`rules` says by incident which rules (their uid) have an alert in it."""

    pages: list[SentPage] = field(default_factory=list)
    rules: dict[int, set[str]] = field(default_factory=dict)


async def paging_log(
    config: IncidentConfig,
    spans: Iterable[tuple[str, AlertSpan]],
    end_ms: int,
    ack_after_ms: int | None,
) -> PagingLog:
    """`spans` are those of rules (uid); whoever is paged acknowledges after so long (None: never).
    Messages arrive at once."""
    events = sorted(_events(spans), key=lambda event: event.at_ms)
    if not events:
        return PagingLog()
    dispatcher = Dispatcher(replace(config, heartbeats=()), MemoryJournal(), lambda: 0.5)
    await dispatcher.start(events[0].at_ms)
    return await _Paging(dispatcher, ack_after_ms).play(events, end_ms)


class _Paging:
    def __init__(self, dispatcher: Dispatcher, ack_after_ms: int | None) -> None:
        self._dispatcher, self._ack_after_ms = dispatcher, ack_after_ms
        self._log = PagingLog()
        self._acks: list[tuple[int, int]] = []  # when, and of which incident
        self._answered: set[tuple[int, int]] = set()

    async def play(self, events: Sequence[AlertEvent], end_ms: int) -> PagingLog:
        at, now_ms = 0, events[0].at_ms
        while now_ms <= end_ms:
            at = await self._handle(events, at, now_ms)
            while self._acks and self._acks[0][0] <= now_ms:
                await self._acknowledge(heapq.heappop(self._acks)[1], now_ms)
            due_ms = await self._dispatcher.due(now_ms)
            await self._send(now_ms)
            next_ms = [events[at].at_ms] if at < len(events) else []
            next_ms += [max(due_ms, now_ms + 1)] if due_ms is not None else []
            next_ms += [self._acks[0][0]] if self._acks else []
            if not next_ms:
                break
            now_ms = max(now_ms + 1, min(next_ms))
        return self._log

    async def _handle(self, events: Sequence[AlertEvent], at: int, now_ms: int) -> int:
        """Takes the events that are due, those of one moment together."""
        stop = at
        while stop < len(events) and events[stop].at_ms <= now_ms:
            stop += 1
        if stop > at:
            await self._dispatcher.handle(events[at:stop], now_ms)
            for event in events[at:stop]:
                holder = self._dispatcher.working.incident_of(event.alert.fingerprint)
                if holder is not None:
                    self._log.rules.setdefault(holder.number, set()).add(event.alert.rule)
        return stop

    async def _send(self, now_ms: int) -> None:
        while deliveries := await self._dispatcher.claim(now_ms):
            for delivery in deliveries:
                sent = delivery.notification
                await self._dispatcher.delivered(delivery, Delivered(), now_ms)
                if sent.reason not in NOTICE_REASONS and sent.incident:
                    page = SentPage(now_ms, sent.incident, sent.severity, str(sent.reason))
                    self._log.pages.append(page)
                    self._log.rules.setdefault(sent.incident, set())  # a storm has one of its own
                    self._answer_later(sent.incident, now_ms)

    def _answer_later(self, number: int, now_ms: int) -> None:
        if self._ack_after_ms is None:
            return
        incident = self._dispatcher.working.incidents.get(number)
        if incident is None or (number, incident.cycle) in self._answered:
            return
        self._answered.add((number, incident.cycle))
        heapq.heappush(self._acks, (now_ms + self._ack_after_ms, number))

    async def _acknowledge(self, number: int, now_ms: int) -> None:
        try:
            await self._dispatcher.act(Action(Verb.ACK, number, _ONCALL), now_ms)
        except IncidentError:  # it is over
            return


def _events(spans: Iterable[tuple[str, AlertSpan]]) -> Iterator[AlertEvent]:
    for uid, span in spans:
        firing = Alert(
            uid, span.labels, (), AlertState.FIRING, span.value, span.active_ms, span.fired_ms
        )
        yield AlertEvent(EventKind.FIRING, firing, span.fired_ms)
        if span.resolved_ms is not None:
            over = replace(firing, state=AlertState.INACTIVE, resolved_at_ms=span.resolved_ms)
            yield AlertEvent(EventKind.CLEAR, over, span.resolved_ms)
