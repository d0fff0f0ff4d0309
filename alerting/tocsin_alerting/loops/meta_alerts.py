"""Looks every few seconds whether the rules and sources are well, and says so to the dispatcher.

A fault is told once and stands until it is seen to be over. What cannot be told yet, as after a
restart, changes nothing.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind
from tocsin_alerting.rules.meta_alerts import (
    META,
    MetaAlertName,
    broken_severity,
    broken_words,
    is_broken,
    meta_alert,
    meta_origin,
    rule_labels,
)
from tocsin_alerting.rules.severity import SEVERITY_LABEL, SEVERITY_WORDS, Severity
from tocsin_alerting.rules.state import GroupState, RuleHealth, RuleState

CHECK_SECONDS = 5.0

Groups = Callable[[], Sequence[GroupState]]


@dataclass(frozen=True, slots=True)
class End:
    """How what was said of something ends."""

    kind: EventKind
    why: str


class MetaAlertCheck(Protocol):
    """Of one kind of fault. `known` are the origins for which it was told before."""

    name: MetaAlertName

    async def firing(self, now_ms: int, known: Collection[str]) -> Mapping[str, Alert]:
        """What is wrong now, by origin."""
        ...

    def end(self, origin: str, now_ms: int) -> End | None:
        """How it ends for an origin that is not among these; None while that cannot be told."""
        ...

    def shift(self, delta_ms: int) -> None:
        """The clock was set: every time moves with it."""
        ...


class MetaAlertLoop:
    """`now_ms` is the clock of the incidents; `checks` may be replaced: what one said that is
    not among them ends as no longer watched."""

    def __init__(
        self, dispatcher: Dispatcher, checks: Sequence[MetaAlertCheck], now_ms: Callable[[], int]
    ) -> None:
        self._dispatcher, self.checks, self._now_ms = dispatcher, checks, now_ms
        self._told = set[str]()  # an incident that a person closed is not opened again by each look

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.look()

    async def look(self) -> None:
        now_ms, events, checked = self._now_ms(), list[AlertEvent](), set[str]()
        known = {origin for origin in self._dispatcher.origins if origin.startswith(META)}
        for check in self.checks:
            prefix = meta_origin(check.name, "")
            own = {origin for origin in known | self._told if origin.startswith(prefix)}
            firing = await check.firing(now_ms, own)
            events += self._begins(firing, known, now_ms)
            events += self._as_bad_now(firing, own, now_ms)
            for origin in own - firing.keys():
                events += self._ends(origin, check.end(origin, now_ms), now_ms)
            checked |= own
        for origin in known - checked:
            name = origin.removeprefix(META).partition(";")[0]
            off = End(EventKind.REMOVED, f"{name} is switched off: meta_alerts")
            events += self._ends(origin, off, now_ms)
        if events:
            await self._dispatcher.handle(events, now_ms)

    def shift(self, delta_ms: int) -> None:
        for check in self.checks:
            check.shift(delta_ms)

    def _begins(
        self, firing: Mapping[str, Alert], known: Collection[str], now_ms: int
    ) -> list[AlertEvent]:
        new = [origin for origin in firing if origin not in self._told and origin not in known]
        self._told.update(firing)
        return [
            AlertEvent(EventKind.FIRING, firing[origin], now_ms, origin=origin) for origin in new
        ]

    def _as_bad_now(
        self, firing: Mapping[str, Alert], known: Collection[str], now_ms: int
    ) -> list[AlertEvent]:
        """What fires with another severity than it was told with goes on with that one."""
        events = list[AlertEvent]()
        for origin in firing.keys() & known:
            alert = firing[origin]
            others = [
                member.alert
                for member in self._dispatcher.working.members_of_origin(origin)
                if severity_label(member.alert) != severity_label(alert)
            ]
            if others:
                events.append(AlertEvent(EventKind.FIRING, alert, now_ms, origin=origin))
            why = f"it is {severity_label(alert)} now"
            events += [AlertEvent(EventKind.CLEAR, other, now_ms, why, origin) for other in others]
        return events

    def _ends(self, origin: str, end: End | None, now_ms: int) -> list[AlertEvent]:
        if end is None:
            return []
        self._told.discard(origin)
        return [
            AlertEvent(end.kind, member.alert, now_ms, end.why, origin)
            for member in self._dispatcher.working.members_of_origin(origin)
        ]


def severity_label(alert: Alert) -> str:
    return dict(alert.labels).get(SEVERITY_LABEL, "")


@dataclass(slots=True)
class BrokenRules:
    """RuleBroken: a rule that failed `failures` times in a row, or whose results collide, or are
    more than the limit of its group."""

    groups: Groups
    machine: str
    severity: Severity = Severity.P3
    failures: int = 3
    words: Mapping[str, Severity] = field(default_factory=lambda: dict(SEVERITY_WORDS))
    name: MetaAlertName = MetaAlertName.RULE_BROKEN

    async def firing(self, now_ms: int, known: Collection[str]) -> Mapping[str, Alert]:
        return {
            meta_origin(self.name, rule.origin): self._alert(rule, now_ms)
            for group in self.groups()
            for rule in group.rules
            if rule.health is RuleHealth.ERR and is_broken(rule, self.failures)
        }

    def end(self, origin: str, now_ms: int) -> End | None:
        rule = rule_of(origin, self.name, self.groups())
        if rule is None:
            return NO_RULE
        well = rule.health is RuleHealth.OK
        return End(EventKind.CLEAR, "it is evaluated again") if well else None

    def shift(self, delta_ms: int) -> None:
        """It keeps no time."""

    def _alert(self, rule: RuleState, now_ms: int) -> Alert:
        severity = broken_severity(rule, self.severity, self.words)
        since_ms = now_ms if rule.failing_since_ms is None else rule.failing_since_ms
        about = rule_labels(rule, self.machine)
        return meta_alert(self.name, severity, about, since_ms, now_ms, broken_words(rule))


NO_RULE = End(EventKind.REMOVED, "the rule is no longer configured")


def rule_of(origin: str, name: MetaAlertName, groups: Sequence[GroupState]) -> RuleState | None:
    """The rule that the origin is about."""
    about = origin.removeprefix(meta_origin(name, ""))
    rules = (rule for group in groups for rule in group.rules)
    return next((rule for rule in rules if rule.origin == about), None)
