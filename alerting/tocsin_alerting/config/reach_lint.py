"""When a policy that is right reaches nobody: each of its steps is walked through four weeks of the
wall clock, and through the weeks of the next year in which the clock is set.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from tocsin_alerting.config.oncall_lint import clock_text
from tocsin_alerting.incidents.calendar_times import TimeInterval
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, Recipient
from tocsin_alerting.incidents.oncall import wall_clock_ms
from tocsin_alerting.incidents.roster import next_change_ms, resolve
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.severity import Severity

_DAY = timedelta(days=1)
_FIRST_DAYS = 28
_MOST_CHANGES = 2_000  # of one step within four weeks: hand-overs and hours of some hundred people

Span = tuple[int, int]
"""From one instant in Unix milliseconds up to another."""


@dataclass(frozen=True, slots=True)
class _Walk:
    config: IncidentConfig
    zone: tzinfo
    unread: Collection[str]

    def spans(self, policy: EscalationPolicy, number: int, week: Span) -> list[Span]:
        """Of a week those in which the step reaches nobody, whom its hours do not excuse."""
        recipients, severity = policy.steps[number].notify, worst(policy)
        hours = self.config.roster.policy_hours.get(policy.name)
        if severity is Severity.P0 or any(who.schedule in self.unread for who in recipients):
            return []
        found: list[Span] = []
        at_ms = week[0]
        for _ in range(_MOST_CHANGES):
            if at_ms >= week[1]:
                break
            until_ms = min(self._next_change_ms(recipients, hours, at_ms), week[1])
            if not self._reaches(recipients, severity, hours, at_ms):
                found.append((at_ms, until_ms))
            at_ms = until_ms
        return list(_joined(found))

    def _reaches(
        self,
        recipients: tuple[Recipient, ...],
        severity: Severity,
        hours: TimeInterval | None,
        at_ms: int,
    ) -> bool:
        """Outside of its policy's hours what is milder than P1 is meant to wait."""
        if hours is not None and not hours.contains(at_ms):
            return severity is not Severity.P1
        return bool(resolve(recipients, self.config.roster, at_ms, severity))

    def _next_change_ms(
        self, recipients: tuple[Recipient, ...], hours: TimeInterval | None, at_ms: int
    ) -> int:
        changes = [next_change_ms(recipients, self.config.roster, at_ms)]
        changes.append(hours.next_change_ms(at_ms) if hours is not None else None)
        return min((change for change in changes if change is not None), default=1 << 62)


def worst(policy: EscalationPolicy) -> Severity:
    """The worst severity that it may page for: a policy of another name is for what a route sends
    it, of which P0 knows no hours."""
    named = Severity.__members__.get(policy.name)
    return Severity.P1 if named is None else named


def reach_warnings(
    config: IncidentConfig, now_ms: int, zone: tzinfo, unread: Collection[str] = ()
) -> Iterator[str]:
    """A step that reaches nobody on a whole day, and a P1 that no step tells anybody of at some
    hour. `unread` are schedules of which nothing is known."""
    walk = _Walk(config, zone, unread)
    weeks = _weeks(now_ms, zone)
    for policy in config.policies.values():
        yield from _of_policy(policy, walk, weeks)


def _of_policy(policy: EscalationPolicy, walk: _Walk, weeks: list[Span]) -> Iterator[str]:
    for week in weeks:
        spans = [walk.spans(policy, number, week) for number in range(len(policy.steps))]
        nowhere = spans[0] if spans else []
        for other in spans[1:]:
            nowhere = list(_overlaps(nowhere, other))
        if nowhere and worst(policy) is Severity.P1:
            when = _when(nowhere, walk.zone)
            yield f"policy {policy.name} reaches nobody {when}: its pages wait; {_MEND}"
            return
        days = [_days(step, walk.zone) for step in spans]
        for number, lost in enumerate(days):
            if lost:
                names = ", ".join(map(str, policy.steps[number].notify))
                when = _when(lost, walk.zone)
                yield (
                    f"policy {policy.name}, step {number} ({names}) reaches nobody {when}; {_MEND}"
                )
        if any(days):
            return


_MEND = "add somebody whose hours cover that"


def _weeks(now_ms: int, zone: tzinfo) -> list[Span]:
    """Four weeks from today, in which rotations show whom they name, and each week of the next year
    in which the clock is set."""
    midnight = datetime.fromtimestamp(now_ms // 1000, zone).replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=None
    )
    days = [midnight + n * _DAY for n in range(373)]
    offsets = [day.replace(tzinfo=zone).utcoffset() for day in days]
    set_on = (n for n in range(_FIRST_DAYS, 366) if offsets[n] != offsets[n + 1])
    spans = [(0, _FIRST_DAYS), *((n - 3, n + 4) for n in set_on)]
    return [(wall_clock_ms(days[a], zone), wall_clock_ms(days[b], zone)) for a, b in spans]


def _days(spans: list[Span], zone: tzinfo) -> list[Span]:
    """Those that hold a whole day of the calendar."""
    return [span for span in spans if _holds_a_day(span, zone)]


def _holds_a_day(span: Span, zone: tzinfo) -> bool:
    start = datetime.fromtimestamp(span[0] // 1000, zone).replace(tzinfo=None)
    first = start.replace(hour=0, minute=0, second=0, microsecond=0)
    first += _DAY if first < start else timedelta()
    return wall_clock_ms(first, zone) >= span[0] and wall_clock_ms(first + _DAY, zone) <= span[1]


def _joined(spans: list[Span]) -> Iterator[Span]:
    """Those that follow each other without a gap are one."""
    begun: Span | None = None
    for span in spans:
        if begun is not None and begun[1] == span[0]:
            begun = (begun[0], span[1])
            continue
        if begun is not None:
            yield begun
        begun = span
    if begun is not None:
        yield begun


def _overlaps(these: list[Span], those: list[Span]) -> Iterator[Span]:
    for start, end in these:
        for other_start, other_end in those:
            both = max(start, other_start), min(end, other_end)
            if both[0] < both[1]:
                yield both


def _when(spans: list[Span], zone: tzinfo) -> str:
    start, end = (clock_text(at_ms, zone) for at_ms in spans[0])
    more = f" ({len(spans) - 1} more such times)" if len(spans) > 1 else ""
    return f"from {start} to {end}{more}"
