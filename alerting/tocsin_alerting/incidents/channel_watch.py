"""Receivers that fail for minutes, or refuse for good: each is an incident, ChannelBroken."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from tocsin_alerting.incidents.broken_channels import (
    CHANNEL,
    FailureStreak,
    broken_alert,
    told_otherwise,
)
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.delivery_outcome import count_as_late
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Member
from tocsin_alerting.incidents.outbox_message import (
    WAITING_STATES,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.incidents.roster import possible_addressees
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import AlertEvent, EventKind

# And the receiver's name: of one that is not to be asked any more, since when (ms), and where.
GONE = "gone receiver "
log = logging.getLogger(__name__)

# Longer than the longest wait between two tries: after it a failure is another trouble.
STALE_MS = 45 * 60_000
# What failed for so long was down: what waits there need not wait for its own next try.
_DOWN_MS = 60_000
GONE_WORDS = (
    "HTTP 410: the receiver is gone, and not asked until its URL changes or alertctl receivers test"
    " {} arrives"
)
DELIVERS_AGAIN = "it delivers again"
NOT_WATCHED_WHY = "the receiver is no longer configured, or no longer watched"


@dataclass(frozen=True, slots=True)
class GoneReceiver:
    """`address` stands for where it was."""

    since_ms: int
    address: str


class ChannelWatch:
    """What the attempts say of each receiver. `handle` takes what there is to say of it."""

    def __init__(
        self, working: WorkingSet, handle: Callable[[list[AlertEvent], int], Awaitable[None]]
    ) -> None:
        self._working, self._handle = working, handle
        self._troubles: dict[str, FailureStreak] = {}
        self._broken = frozenset[str]()

    async def take(self, receiver: str, outcome: Outcome, now_ms: int) -> None:
        """An attempt ended."""
        self.remember_gone(receiver, outcome, now_ms)
        if isinstance(outcome, Delivered):
            if not outcome.unsent:
                await self._delivers(receiver, now_ms)
            return
        trouble = self._failed(receiver, outcome.error, now_ms)
        trouble.refusals += isinstance(outcome, Permanent)
        if isinstance(outcome, RetryAt):
            trouble.not_before_ms = max(trouble.not_before_ms, outcome.not_before_ms or 0)
        limit = self._working.config.channel_broken
        if limit is None or receiver not in self._working.config.receiver_rules:
            return
        lasts_ms = now_ms - trouble.since_ms
        refused = max(trouble.refusals, trouble.spells) >= limit.refusals
        if lasts_ms < limit.after_ms and not refused:
            return
        if not self._members(receiver):
            self._set_broken(self._broken | {receiver})
            self._tell_others(receiver, now_ms)
            await self._handle([self._fires(receiver, trouble, now_ms)], now_ms)
            self._warn_untold(receiver, trouble, now_ms)

    def gone(self, receiver: str) -> GoneReceiver | None:
        """Who said for good that nobody is there: also in an earlier run."""
        since, _, address = self._working.remembered(GONE + receiver).partition(" ")
        return GoneReceiver(int(since), address) if since.isdecimal() else None

    def remember_gone(self, receiver: str, outcome: Outcome, now_ms: int) -> None:
        """Until a message arrives; the next transaction holds it."""
        known, meta = self.gone(receiver), self._working.changes().meta
        if isinstance(outcome, Delivered) and not outcome.unsent and known is not None:
            meta[GONE + receiver] = ""
            log.warning("receiver %s enabled again: a message arrived", receiver)
        elif isinstance(outcome, Permanent) and outcome.gone:
            if known is None or known.address != outcome.gone:
                meta[GONE + receiver] = f"{now_ms} {outcome.gone}"
                log.error(
                    "receiver %s disabled: refused with %s", receiver, GONE_WORDS.format(receiver)
                )

    def load(self, entries: Iterable[HistoryEntry]) -> None:
        """What the history tells of the last run's attempts, the oldest first: how long a receiver
        has failed goes on to count, and how often it refused."""
        known, self._troubles = self._troubles, {}
        for entry in entries:
            receiver = str(entry.data.get("receiver", ""))
            if entry.event == "delivered":
                self._troubles.pop(receiver, None)
            else:
                trouble = self._failed(receiver, str(entry.data.get("error", "")), entry.at_ms)
                trouble.refusals += bool(entry.data.get("refused"))
        self._troubles |= known

    async def settle(self, now_ms: int) -> None:
        """Make open incidents agree with the receivers that there are now: what was
        broken is, until it delivers."""
        config, events, broken = self._working.config, list[AlertEvent](), set[str]()
        for origin in [one for one in self._working.index.origins if one.startswith(CHANNEL)]:
            receiver = origin.removeprefix(CHANNEL)
            if config.channel_broken and receiver in config.receiver_rules:
                broken.add(receiver)
                continue
            for member in self._members(receiver):
                ended = AlertEvent(EventKind.REMOVED, member.alert, now_ms, NOT_WATCHED_WHY, origin)
                events.append(ended)
        self._set_broken(frozenset(broken))
        if events:
            await self._handle(events, now_ms)

    def shift(self, delta_ms: int) -> None:
        for trouble in self._troubles.values():
            trouble.since_ms += delta_ms
            trouble.last_ms += delta_ms
            trouble.not_before_ms += delta_ms

    def _tell_others(self, receiver: str, now_ms: int) -> None:
        """What waits there and is about other broken receivers is not waited for."""
        working = self._working
        origins = (origin for origin in working.index.origins if origin.startswith(CHANNEL))
        alerts = [name for origin in origins for name in working.index.alerts_of(origin)]
        for number in dict.fromkeys(working.index[name] for name in alerts):
            for message in list(working.outbox.of_incident(number)):
                is_there = message.notification.receiver == receiver and message.is_page
                if is_there and message.state in WAITING_STATES and not message.late:
                    count_as_late(working, message, now_ms)

    def _set_broken(self, broken: frozenset[str]) -> None:
        if broken != self._broken:
            self._broken = broken
            self._working.set_broken(broken)

    def _failed(self, receiver: str, error: str, now_ms: int) -> FailureStreak:
        known = self._troubles.get(receiver)
        if known is None:
            known = self._troubles[receiver] = FailureStreak(now_ms, now_ms)
        elif now_ms - known.last_ms > STALE_MS:
            known.begin_anew(now_ms)
        known.failed(error, now_ms)
        return known

    async def _delivers(self, receiver: str, now_ms: int) -> None:
        trouble = self._troubles.pop(receiver, None)
        if trouble is not None and now_ms - trouble.since_ms >= _DOWN_MS:
            self._working.outbox.hasten(receiver, max(now_ms, trouble.not_before_ms))
        self._set_broken(self._broken - {receiver})
        origin = CHANNEL + receiver
        events = [
            AlertEvent(EventKind.CLEAR, member.alert, now_ms, DELIVERS_AGAIN, origin)
            for member in self._members(receiver)
        ]
        if events:
            await self._handle(events, now_ms)

    def _members(self, receiver: str) -> list[Member]:
        return self._working.members_of_origin(CHANNEL + receiver)

    def _fires(self, receiver: str, trouble: FailureStreak, now_ms: int) -> AlertEvent:
        alert = broken_alert(receiver, trouble, self._working.config)
        return AlertEvent(EventKind.FIRING, alert, now_ms, origin=CHANNEL + receiver)

    def _warn_untold(self, receiver: str, trouble: FailureStreak, now_ms: int) -> None:
        """Where no other receiver is left, the log has to do, and the overview."""
        config = self._working.config
        for member in self._members(receiver):
            incident = self._working.incident_of(member.alert.fingerprint)
            if incident is None:
                continue
            recipients = [one for step in incident.policy.steps for one in step.notify]
            known = possible_addressees(recipients, config.roster)
            told = told_otherwise(incident, known or (Addressee(receiver),), now_ms, config)
            if all(to.receiver in self._broken for to in told):
                words = "receiver %s failed and there is no other to notify by: %s"
                log.error(words, receiver, trouble.error)
