"""Whether an alert whose rule is gone went on under other labels, and cleared as such (rule 27)."""

from collections.abc import Callable, Iterable
from functools import cache

from tocsin_alerting.incidents.incident import Condition, Incident, Member
from tocsin_alerting.incidents.joining import without_severity
from tocsin_alerting.rules.alert import Alert

_LabelPairs = frozenset[tuple[str, str]]


def left_unwatched(incident: Incident) -> bool:
    """Whether its rule is gone of an alert that no other one has outlived and cleared."""
    members = incident.members.values()
    cleared_ms = _last_cleared(member for member in members if member.source is Condition.CLEAR)
    return any(
        cleared_ms(member.alert) <= (member.ended_at_ms or 0)
        for member in members
        if member.source is Condition.UNWATCHED
    )


def _last_cleared(cleared: Iterable[Member]) -> Callable[[Alert], int]:
    """When, in Unix milliseconds (0: never), the last of `cleared` ended that is the alert under
    other labels of its rule: another severity, and some that were added or taken away."""
    by_names: dict[frozenset[str], dict[_LabelPairs, int]] = {}
    for member in cleared:
        pairs = without_severity(member.alert)
        ended = by_names.setdefault(_label_names(pairs), {})
        ended[pairs] = max(ended.get(pairs, 0), member.ended_at_ms or 0)

    @cache
    def shortened(names: frozenset[str], common: frozenset[str]) -> dict[_LabelPairs, int]:
        ended: dict[_LabelPairs, int] = {}
        for pairs, ended_ms in by_names[names].items():
            short = _restricted_to(pairs, common)
            ended[short] = max(ended.get(short, 0), ended_ms)
        return ended

    def of(alert: Alert) -> int:
        pairs = without_severity(alert)
        own = _label_names(pairs)
        commons = ((names, names & own) for names in by_names if names <= own or names >= own)
        times = (
            shortened(names, both).get(_restricted_to(pairs, both), 0) for names, both in commons
        )
        return max(times, default=0)

    return of


def _label_names(pairs: _LabelPairs) -> frozenset[str]:
    return frozenset(name for name, _ in pairs)


def _restricted_to(pairs: _LabelPairs, names: frozenset[str]) -> _LabelPairs:
    return frozenset(pair for pair in pairs if pair[0] in names)
