"""What the history says of incidents in numbers: how many, how soon answered, how long, how noisy.

One fold over the lines of the history, in their order. It remembers an incident from the line that
opens it to the one that closes it, and counts what happens within its time span.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from statistics import fmean, median
from typing import Any

from tocsin_alerting.incidents.changeset import HistoryEntry

# Every time within which something is to be recovered or escalated is a bound.
BOUNDS_S = (
    *(30, 60, 120, 300, 600, 900, 1800, 3600, 7200),
    *(14_400, 28_800, 86_400, 604_800),
)
# Of `cause`: few words, so that they can be counted.
CAUSES = (
    "oom",
    "thermal",
    "hardware",
    "network",
    "configuration",
    "traffic",
    "upstream",
    "deploy",
    "unknown",
)
LATENCY_BOUNDS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
OTHER = "other"
MAX_ALERTS = 1_000  # names of alerts that are told apart in counts that never end
COUNTED_EVENTS = frozenset(
    "opened reopened severity_raised acked resolved given_up unwatched closed_by_hand step"
    " slo_breach delivered delivery_failed commented closed superseded".split()
)
CLOCK_JUMPED = "clock_jumped"
# Event -> how it ended.
ENDS: Mapping[str, str] = {
    "resolved": "clear",
    "given_up": "unknown_max",
    "unwatched": "rule_removed",
    "closed_by_hand": "person",
}
_NOTICES = frozenset(  # messages that nobody has to act on
    "acked resolved given_up unwatched closed_by_hand closed_unknown fired_and_resolved"
    " test".split()
)


@dataclass(slots=True)
class Lifetime:
    """An incident since it opened, or opened again (`began_ms`, Unix milliseconds)."""

    alert: str
    severity: str
    began_ms: int
    acked: bool = False
    ended: bool = False


@dataclass(slots=True)
class RuleStatistics:
    """Of one alert's incidents, or of all; durations are milliseconds."""

    opened: int = 0
    reopened: int = 0
    acked: int = 0
    resolved: int = 0
    unanswered: int = 0  # that ended, and nobody had acknowledged them
    false_positives: int = 0
    pages: int = 0
    ack_ms: list[int] = field(default_factory=list)
    duration_ms: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Seconds; null where nothing is to be averaged."""
        return {
            "opened": self.opened,
            "reopened": self.reopened,
            "acked": self.acked,
            "resolved": self.resolved,
            "unanswered": self.unanswered,
            "false_positives": self.false_positives,
            "pages": self.pages,
            **_spread("ack", self.ack_ms),
            **_spread("resolve", self.duration_ms),
        }


class IncidentStatistics:
    """`since_ms` and `until_ms` bound what is counted, not what is learned. `keep_spread` keeps
    each duration, which a report needs and a counter that never ends does not. `drills` counts
    them too."""

    def __init__(
        self,
        since_ms: int | None = None,
        until_ms: int | None = None,
        keep_spread: bool = True,
        drills: bool = False,
    ) -> None:
        self.opened: Counter[tuple[str, str]] = Counter()  # alert, severity
        self.reopened: Counter[str] = Counter()  # alert
        self.resolved: Counter[tuple[str, str, str, str]] = Counter()  # alert, severity, how, cause
        self.breaches: Counter[str] = Counter()  # severity
        self.escalations: Counter[str] = Counter()  # severity
        self.unanswered: Counter[tuple[str, str]] = Counter()  # alert, severity
        self.pages: Counter[tuple[str, str]] = Counter()  # receiver, severity
        self.failed: Counter[str] = Counter()  # receiver
        self.latency_seconds: dict[str, Histogram] = {}  # receiver
        self.ack_seconds: dict[str, Histogram] = {}  # severity
        self.duration_seconds: dict[str, Histogram] = {}  # severity
        self.rules: dict[str, RuleStatistics] = {}
        self.severities: dict[str, RuleStatistics] = {}
        self.people: dict[str, Counter[str]] = {}  # contact -> pages, acked, commented
        self.page_times: Counter[int] = Counter()  # Unix ms of the hour -> pages
        self._since_ms, self._until_ms = since_ms, until_ms
        self._keep_spread, self._drills = keep_spread, drills
        self.lifetimes: dict[int, Lifetime] = {}

    def take(self, entries: Iterable[HistoryEntry]) -> None:
        for entry in entries:
            if entry.event in COUNTED_EVENTS:
                self._take(entry)
            elif entry.event == CLOCK_JUMPED:
                self._shift(entry.data.get("delta_ms", 0))

    def _shift(self, delta_ms: int) -> None:
        """From here on the times are by a clock that reads so much more."""
        for lifetime in self.lifetimes.values():
            lifetime.began_ms += delta_ms

    def _take(self, entry: HistoryEntry) -> None:
        counted = (self._since_ms is None or entry.at_ms >= self._since_ms) and (
            self._until_ms is None or entry.at_ms <= self._until_ms
        )
        if counted and entry.event in ("delivered", "delivery_failed"):
            self._sent(entry)
        if entry.event == "opened" and (self._drills or not entry.data.get("drill")):
            self._opened(entry, counted)
        elif (lifetime := self.lifetimes.get(entry.incident)) is not None:
            self._changed(entry, lifetime, counted)
        if entry.event in ("closed", "superseded"):
            self.lifetimes.pop(entry.incident, None)

    def _opened(self, entry: HistoryEntry, counted: bool) -> None:
        alert, severity = str(entry.data.get("alert", "")), str(entry.data.get("severity", ""))
        if not self._keep_spread and alert not in self.rules and len(self.rules) >= MAX_ALERTS:
            alert = OTHER
        self.lifetimes[entry.incident] = Lifetime(alert, severity, entry.at_ms)
        if counted:
            self.opened[alert, severity] += 1
            for figures in self._figures(alert, severity):
                figures.opened += 1

    def _changed(self, entry: HistoryEntry, lifetime: Lifetime, counted: bool) -> None:
        if entry.event == "reopened":
            lifetime.began_ms, lifetime.acked, lifetime.ended = entry.at_ms, False, False
            lifetime.severity = str(entry.data.get("severity", lifetime.severity))
        elif entry.event == "severity_raised":
            lifetime.severity = str(entry.data.get("to", lifetime.severity))
        first_ack = entry.event == "acked" and not lifetime.acked
        ends = entry.event in ENDS and not lifetime.ended
        if counted:
            self._count(entry, lifetime, first_ack, ends)
        lifetime.acked = lifetime.acked or entry.event == "acked"
        lifetime.ended = lifetime.ended or entry.event in ENDS

    def _count(self, entry: HistoryEntry, life: Lifetime, first_ack: bool, ends: bool) -> None:
        figures = self._figures(life.alert, life.severity)
        lasted_ms = max(0, entry.at_ms - life.began_ms)
        if entry.event == "reopened":
            self.reopened[life.alert] += 1
            for each in figures:
                each.reopened += 1
        elif entry.event == "slo_breach":
            self.breaches[life.severity] += 1
        elif entry.event == "step" and _is_escalation(entry.data):
            self.escalations[life.severity] += 1
        elif is_page(entry):
            self._paged(entry, figures)
        if first_ack:
            self._acked(life, lasted_ms, figures)
        if entry.event == "acked" and self._keep_spread:
            self._person(entry.actor)["acked"] += 1
        if ends:
            self._ended(entry, life, lasted_ms, figures)

    def _sent(self, entry: HistoryEntry) -> None:
        """What became of a message, be it about an incident or not."""
        receiver, waited_ms = str(entry.data.get("receiver", "")), entry.data.get("waited_ms")
        if entry.event == "delivery_failed":
            self.failed[receiver] += 1
            return
        if isinstance(waited_ms, int):
            times = self.latency_seconds.setdefault(receiver, Histogram(LATENCY_BOUNDS_S))
            times.observe(waited_ms / 1000)
        if is_page(entry):
            life = self.lifetimes.get(entry.incident)
            severity = entry.data.get("severity", life.severity if life else "")
            self.pages[receiver, str(severity)] += 1

    def _paged(self, entry: HistoryEntry, figures: Iterable[RuleStatistics]) -> None:
        for each in figures:
            each.pages += 1
        if self._keep_spread:
            who = str(entry.data.get("contact") or entry.data.get("receiver", ""))
            self._person(who)["pages"] += 1
            self.page_times[entry.at_ms - entry.at_ms % 3_600_000] += 1

    def _acked(self, life: Lifetime, after_ms: int, figures: Iterable[RuleStatistics]) -> None:
        self.ack_seconds.setdefault(life.severity, Histogram()).observe(after_ms / 1000)
        for each in figures:
            each.acked += 1
            if self._keep_spread:
                each.ack_ms.append(after_ms)

    def _ended(
        self, entry: HistoryEntry, life: Lifetime, ms: int, figures: Iterable[RuleStatistics]
    ) -> None:
        is_false = entry.data.get("false_positive") is True
        how = "false_positive" if is_false else ENDS[entry.event]
        cause = str(entry.data.get("cause", ""))
        cause = cause if cause in ("", *CAUSES) else OTHER
        unanswered = not (life.acked or entry.actor)
        self.unanswered[life.alert, life.severity] += unanswered
        self.resolved[life.alert, life.severity, how, cause] += 1
        self.duration_seconds.setdefault(life.severity, Histogram()).observe(ms / 1000)
        for each in figures:
            each.resolved += 1
            each.false_positives += is_false
            each.unanswered += unanswered
            if self._keep_spread:
                each.duration_ms.append(ms)

    def _figures(self, alert: str, severity: str) -> tuple[RuleStatistics, RuleStatistics]:
        return (
            self.rules.setdefault(alert, RuleStatistics()),
            self.severities.setdefault(severity, RuleStatistics()),
        )

    def _person(self, name: str) -> Counter[str]:
        return self.people.setdefault(name, Counter())

    def to_json(self, zone: tzinfo) -> dict[str, Any]:
        """The noisiest rule first; hours are those of the day in `zone`."""
        total = _sum(self.severities.values())
        return {
            "total": total.to_json(),
            "severities": [
                {"severity": name, **figures.to_json()}
                for name, figures in sorted(self.severities.items())
            ],
            "rules": [
                {"rule": name, **figures.to_json()}
                for name, figures in sorted(self.rules.items(), key=lambda rule: _noise(*rule))
            ],
            "people": [
                {"person": name, "pages": counts["pages"], "acked": counts["acked"]}
                for name, counts in sorted(self.people.items(), key=_by_pages)
                if name
            ],
            "hours": list(self._hours(zone)),
        }

    def _hours(self, zone: tzinfo) -> Iterator[dict[str, int]]:
        counts: Counter[int] = Counter()
        for at_ms, pages in self.page_times.items():
            counts[datetime.fromtimestamp(at_ms / 1000, zone).hour] += pages
        yield from ({"hour": hour, "pages": counts[hour]} for hour in range(24))


class Histogram:
    """Counts by bounds, each with those below it, as a Prometheus histogram has them."""

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self.bounds_s = tuple(bounds_s)
        self.buckets = [0] * len(bounds_s)
        self.count, self.sum = 0, 0.0

    def observe(self, seconds: float) -> None:
        self.count, self.sum = self.count + 1, self.sum + seconds
        for at, bound in enumerate(self.bounds_s):
            self.buckets[at] += seconds <= bound


def is_page(entry: HistoryEntry) -> bool:
    """Whether somebody got a message that asks him to act."""
    return entry.event == "delivered" and entry.data.get("reason") not in _NOTICES


def _is_escalation(data: Mapping[str, Any]) -> bool:
    step = data.get("step")
    return data.get("reason") == "manual" or (isinstance(step, int) and step > 0)


def _sum(figures: Iterable[RuleStatistics]) -> RuleStatistics:
    total = RuleStatistics()
    for each in figures:
        for name in RuleStatistics.__dataclass_fields__:
            setattr(total, name, getattr(total, name) + getattr(each, name))
    return total


def _noise(name: str, figures: RuleStatistics) -> tuple[int, int, str]:
    return -figures.pages, -(figures.opened + figures.reopened), name


def _by_pages(person: tuple[str, Counter[str]]) -> tuple[int, int, str]:
    name, counts = person
    return -counts["pages"], -counts["acked"], name


def _spread(name: str, ms: list[int]) -> dict[str, float | None]:
    """Mean and median in seconds: the mean is the MTTA or MTTR of reports."""
    mean = round(fmean(ms) / 1000, 3) if ms else None
    return {
        f"mean_seconds_to_{name}": mean,
        f"median_seconds_to_{name}": round(median(ms) / 1000, 3) if ms else None,
    }
