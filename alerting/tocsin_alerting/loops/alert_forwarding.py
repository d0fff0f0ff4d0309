"""All alerts of rules to Alertmanagers, as Prometheus sends them (rules/alerting.go, notifier/).

An alert that is not sent again has ended for an Alertmanager when its `endsAt` passes. So what
fires is sent again, and what is unknown as well: that its rule fails, or its source is dead, ends
nothing. An alert that has ended is sent with its end, and again for 15 minutes.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tocsin_alerting.annotations import absolute_links
from tocsin_alerting.loops.remote_client import RemoteClient, RequestFailed
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.alerting import RESOLVED_RETENTION_MS
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_alerting.rules.template_functions import table_link
from tocsin_alerting.time_format import rfc3339

log = logging.getLogger(__name__)

MISSED_RESENDS = 4  # after which what is not sent again has ended
MOST_A_POST = 64  # as Prometheus
SLICE_ALERTS = 500  # looked at in one turn of the loop
MOST_WAITING = 100_000
_BACKOFF_S = (1.0, 30.0)
_RETENTION_S = RESOLVED_RETENTION_MS / 1000


@dataclass(frozen=True, slots=True)
class OutgoingAlert:
    """`lasts_ms` is for how long it counts as firing from when it is sent; `ended_ms` its end."""

    alert: Alert
    expr: str
    lasts_ms: int
    ended_ms: int | None = None


@dataclass(slots=True)
class SentAlert:
    """What was sent last, and when; `ended_s` since when it is over."""

    outgoing: OutgoingAlert
    sent_s: float
    ended_s: float | None = None


class AlertResender:
    """What is due to be sent of the rules' alerts. Times in seconds are of a monotonic clock."""

    def __init__(self, resend_delay_ms: int) -> None:
        self._delay_ms, self._delay_s = resend_delay_ms, resend_delay_ms / 1000
        self._sent: dict[str, dict[str, SentAlert]] = {}  # by the rule's origin and fingerprint

    def due(self, group: GroupState, now_s: float, now_ms: int) -> Iterator[OutgoingAlert | None]:
        """Of the rules of one group: what has begun or ended, and what is to be sent again. None
        where others may have a turn."""
        lasts_ms = MISSED_RESENDS * max(group.interval_ms, self._delay_ms)
        for state in group.rules:
            if isinstance(state.rule, AlertingRule):
                yield from self._of_rule(state, lasts_ms, now_s, now_ms)

    def forget(self, origins: Iterable[str]) -> None:
        """All rules but these: nobody says of their alerts that they have ended."""
        kept = set(origins)
        self._sent = {origin: sent for origin, sent in self._sent.items() if origin in kept}

    def _of_rule(
        self, state: RuleState, lasts_ms: int, now_s: float, now_ms: int
    ) -> Iterator[OutgoingAlert | None]:
        standing = dict(_standing(state))
        sent = self._sent.setdefault(state.origin, {})
        for count, (fingerprint, alert) in enumerate(standing.items(), 1):
            if count % SLICE_ALERTS == 0:
                yield None
            known = sent.get(fingerprint)
            if known is None or known.ended_s is not None or self._is_due(known, now_s):
                outgoing = OutgoingAlert(alert, state.rule.expr, lasts_ms)
                sent[fingerprint] = SentAlert(outgoing, now_s)
                yield outgoing
        over = {key for key, one in state.unknown_alerts.items() if one.over}
        for count, (key, known) in enumerate(list(sent.items()), 1):
            if count % SLICE_ALERTS == 0:
                yield None
            if key in standing:
                continue
            ended_s = now_s if known.ended_s is None else known.ended_s
            waits = known.ended_s is not None and _waits(state.alerts.get(key))
            if key in over or waits or now_s - ended_s > _RETENTION_S:
                # Given up, it ends by itself: nobody has seen that it is over. One that waits anew
                # is another alert, of which nothing is sent yet.
                del sent[key]
            elif known.ended_s is None or self._is_due(known, now_s):
                yield _ended(state, key, known, now_s, now_ms)

    def _is_due(self, known: SentAlert, now_s: float) -> bool:
        return now_s - known.sent_s >= self._delay_s


def _waits(alert: Alert | None) -> bool:
    return alert is not None and alert.state is AlertState.PENDING


def _ended(
    state: RuleState, fingerprint: str, known: SentAlert, now_s: float, now_ms: int
) -> OutgoingAlert:
    """It is over since it left the result, or since that is known."""
    before, last = known.outgoing, state.alerts.get(fingerprint)
    end_ms = before.ended_ms
    if end_ms is None:
        end_ms = (last.resolved_at_ms if last else None) or now_ms
    known.outgoing = replace(before, ended_ms=end_ms)
    known.ended_s = now_s if known.ended_s is None else known.ended_s
    known.sent_s = now_s
    return known.outgoing


def _standing(state: RuleState) -> Iterator[tuple[str, Alert]]:
    """What fires, and what is unknown, of this run or of the last."""
    for row in state.rows:
        alert = row.unknown_alert.alert if row.unknown_alert else row.alert
        if row.holds and alert is not None:
            yield row.fingerprint, alert
    for key, alert in state.alerts.items():
        if alert.state is AlertState.FIRING and key not in state.unknown_alerts:
            yield key, alert
    for key, unknown in state.unknown_alerts.items():
        if not unknown.over:
            yield key, unknown.alert


@dataclass(slots=True)
class ForwardCounts:
    """Alerts that an Alertmanager took, that it refused or that found no room, and requests that
    failed."""

    sent: int = 0
    dropped: int = 0
    errors: int = 0


class AlertForwarder:
    """One Alertmanager: what waits for it, the newest word on each alert, and the loop that sends.

    `now_ms` reads the wall clock, as the end of a live alert counts from when it is sent.
    """

    def __init__(
        self,
        client: RemoteClient,
        timeout_s: float,
        resend_delay_ms: int,
        external_labels: Mapping[str, str],
        external_url: str,
        now_ms: Callable[[], int],
    ) -> None:
        self.counts, self.client = ForwardCounts(), client
        self.resender = AlertResender(resend_delay_ms)
        self._timeout_s, self._now_ms = timeout_s, now_ms
        self._external_labels, self._external_url = external_labels, external_url
        self._waiting: dict[tuple[object, ...], OutgoingAlert] = {}
        self._more = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it is posted to; no secret is in it."""
        return f"{self.client.address}/api/v2/alerts"

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, alerts: Iterable[OutgoingAlert]) -> None:
        """The last one of an alert counts, and goes to the end."""
        for one in alerts:
            self._waiting.pop(one.alert.labels, None)
            self._waiting[one.alert.labels] = one
            self._more.set()
        while len(self._waiting) > MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
            self.counts.dropped += 1

    async def run(self) -> None:
        """Send for ever; what fails is tried again, with the newest word."""
        pause_s = _BACKOFF_S[0]
        while True:
            await self._more.wait()
            if await self.send_batch():
                pause_s = _BACKOFF_S[0]
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _BACKOFF_S[1])

    async def send_batch(self) -> bool:
        """One post; whether it was heard. What came meanwhile stays."""
        batch = dict(zip(range(MOST_A_POST), self._waiting.items(), strict=False))
        if not batch:
            self._more.clear()
            return True
        now_ms = self._now_ms()
        body = orjson.dumps([self._payload(one, now_ms) for _, one in batch.values()])
        if not await self._post(body, len(batch)):
            return False
        for key, one in batch.values():
            if self._waiting.get(key) is one:
                del self._waiting[key]
        return True

    async def _post(self, body: bytes, count: int) -> bool:
        """Whether they were taken, or refused for good."""
        about = {"Content-Type": "application/json"}
        try:
            answer = await self.client.post("/api/v2/alerts", body, self._timeout_s, about)
        except RequestFailed as error:
            return self._failed(str(error))
        if 200 <= answer.status < 300:
            self.counts.sent += count
            return True
        why = str(self.client.failure(f"HTTP {answer.status}: {answer.text}"))
        if answer.status != 400:
            return self._failed(why)
        self.counts.errors += 1  # of a bad batch it has taken the good ones
        self.counts.dropped += count
        log.error("Alertmanager refused alerts: %s", why)
        return True

    def _failed(self, why: str) -> bool:
        self.counts.errors += 1
        log.warning("sending alerts to Alertmanager failed, retrying: %s", why)
        return False

    def _payload(self, one: OutgoingAlert, now_ms: int) -> dict[str, Any]:
        alert = one.alert
        starts_ms = alert.active_at_ms if alert.fired_at_ms is None else alert.fired_at_ms
        ends_ms = now_ms + one.lasts_ms if one.ended_ms is None else min(one.ended_ms, now_ms)
        link = self._external_url.rstrip("/") + table_link(one.expr)
        return {
            "labels": {**self._external_labels, **dict(alert.labels)},
            "annotations": absolute_links(dict(alert.annotations), self._external_url),
            "startsAt": rfc3339(starts_ms),
            "endsAt": rfc3339(max(ends_ms, starts_ms)),
            "generatorURL": link,
        }
