"""Engines elsewhere that evaluate rules and answer nothing: each is one incident."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tocsin_alerting.annotations import DEFAULT_AGENT_URL
from tocsin_alerting.incidents.broken_channels import FailureStreak
from tocsin_alerting.incidents.incident import Member
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind, firing_alert
from tocsin_alerting.rules.meta_alerts import MetaAlertSwitch
from tocsin_alerting.rules.severity import SEVERITY_LABEL, Severity
from tocsin_alerting.time_format import rfc3339

STORE = "store;"  # and the engine's address: the origin of what is said of it
STORE_ALERT_NAME = "StoreUnreachable"
ANSWERS_AGAIN = "it answers again"
NOT_ASKED_WHY = "no rule is evaluated there any more"
_MAX_ERROR = 300


@dataclass(frozen=True, slots=True)
class WatchedStore:
    """An engine that rules ask: its `address`, what its host is called, and how long it may be
    silent."""

    address: str
    instance: str
    patience_ms: int


class StoreWatch:
    """What queries say of each engine. `handle` takes what there is to say of it; `watched` are the
    addresses of those that the configuration names, and `switch` says how bad it is."""

    def __init__(
        self, working: WorkingSet, handle: Callable[[list[AlertEvent], int], Awaitable[None]]
    ) -> None:
        self.watched = frozenset[str]()
        self.switch = MetaAlertSwitch(True, Severity.P1)
        self._working, self._handle = working, handle
        self._troubles: dict[str, FailureStreak] = {}

    async def take(self, store: WatchedStore, error: str, now_ms: int) -> None:
        """A query was answered ("") or not, and why not."""
        origin = STORE + store.address
        if not error:
            self._troubles.pop(store.address, None)
            await self._end(origin, EventKind.CLEAR, ANSWERS_AGAIN, now_ms)
            return
        trouble = self._troubles.setdefault(store.address, FailureStreak(now_ms, now_ms))
        trouble.last_ms, trouble.error = now_ms, error
        lasts_ms = now_ms - trouble.since_ms
        if self.switch.enabled and lasts_ms >= store.patience_ms and not self._members(origin):
            alert = _alert(store, trouble, self.switch.severity)
            await self._handle([AlertEvent(EventKind.FIRING, alert, now_ms, origin=origin)], now_ms)

    async def settle(self, now_ms: int) -> None:
        """Make incidents of the last run agree with the engines that there are now: what answered
        nothing does not, until it does."""
        for origin in [one for one in self._working.index.origins if one.startswith(STORE)]:
            if origin.removeprefix(STORE) not in self.watched or not self.switch.enabled:
                await self._end(origin, EventKind.REMOVED, NOT_ASKED_WHY, now_ms)

    def shift(self, delta_ms: int) -> None:
        for trouble in self._troubles.values():
            trouble.since_ms += delta_ms
            trouble.last_ms += delta_ms

    def _members(self, origin: str) -> list[Member]:
        return self._working.members_of_origin(origin)

    async def _end(self, origin: str, kind: EventKind, why: str, now_ms: int) -> None:
        if members := self._members(origin):
            events = [AlertEvent(kind, member.alert, now_ms, why, origin) for member in members]
            await self._handle(events, now_ms)


def _alert(store: WatchedStore, trouble: FailureStreak, severity: Severity) -> Alert:
    error = trouble.error.partition("\n")[0][:_MAX_ERROR]
    labels = {
        "alertname": STORE_ALERT_NAME,
        "instance": store.instance,
        SEVERITY_LABEL: severity.value,
    }
    since = rfc3339(trouble.since_ms - trouble.since_ms % 1000)
    annotations = {
        "summary": f"Rules cannot be evaluated: {store.address} does not answer",
        "description": f"It has answered no query since {since}. What its rules had firing is"
        f" unknown until it does, and nothing new fires by them. Last error: {error}",
        "runbook_url": f"{DEFAULT_AGENT_URL}runbooks/{STORE_ALERT_NAME}",
    }
    return firing_alert(labels, annotations, trouble.since_ms, trouble.last_ms)
