"""What a storm says of the incidents that it tells of: how many, by severity and by label."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.storm_members import StormMembers

MOST_NUMBERS = 100
_MOST_LABELS, _MOST_VALUES = 3, 5


def storm_incidents(
    storm: Incident, members: StormMembers, incidents: Mapping[int, Incident]
) -> list[Incident]:
    """Those that are not closed, the worst and of these the first one first; what fires before
    what is over."""
    known = (incidents[number] for number in members.of(storm.number).known if number in incidents)
    return sorted(known, key=lambda one: (not one.counts_as_firing, one.severity, one.number))


def storm_counts(storm: Incident, told: list[Incident]) -> Mapping[str, Any]:
    """Plain data, for a message and for the API. Labels are those that the incidents are grouped
    by; of each the values that most have, those of all under `others`."""
    severities = Counter(one.severity.value for one in told)
    return {
        "incidents": max(storm.joined, len(told)),
        "firing": sum(one.counts_as_firing for one in told),
        "lost": storm.lost,
        "severities": [[name, severities[name]] for name in sorted(severities)],
        "labels": _label_counts(told),
    }


def _label_counts(told: Iterable[Incident]) -> list[dict[str, Any]]:
    values: dict[str, Counter[str]] = {}
    for one in told:
        for name, value in one.group_labels:
            values.setdefault(name, Counter())[value] += 1
    chosen = sorted(values, key=lambda name: (name != "alertname", len(values[name]), name))
    return [
        {
            "name": name,
            "values": [list(pair) for pair in values[name].most_common(_MOST_VALUES)],
            "others": max(0, len(values[name]) - _MOST_VALUES),
        }
        for name in chosen[:_MOST_LABELS]
    ]


def storm_text(counts: Mapping[str, Any]) -> str:
    """`37 incidents opened at once: 3 P0, 34 P2`, for receivers that know annotations alone."""
    severities = ", ".join(f"{count} {name}" for name, count in counts["severities"])
    return f"{counts['incidents']} incidents opened at once: {severities}"
