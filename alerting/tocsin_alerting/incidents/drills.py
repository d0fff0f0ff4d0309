"""A drill: an incident that pages for real, by the real policy, and says that it is one.

It touches nothing but itself: it is grouped with nothing, inhibits nothing, is inhibited by
nothing, and ends by itself.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tocsin_alerting.incidents.actions import end_drill
from tocsin_alerting.incidents.alert_changes import open_incident
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy
from tocsin_alerting.incidents.grouping import AlertGroup
from tocsin_alerting.incidents.incident import Change
from tocsin_alerting.incidents.routing import IncidentConfig, policy_for
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind, firing_alert
from tocsin_alerting.rules.severity import SEVERITY_LABEL, Severity

SUBJECT = "drill"
ALERT_NAME = "Drill"
ORIGIN = "drill;"
OWN_LABELS = frozenset({"drill", SEVERITY_LABEL})
TIME_IS_UP = "the time of the drill is up"


@dataclass(frozen=True, slots=True)
class Drill:
    """`labels` choose the policy as those of an alert do, unless `policy` names one."""

    id: str
    severity: Severity
    labels: Mapping[str, str]
    ends_at_ms: int
    started_by: str
    policy: str = ""
    note: str = ""

    @property
    def routed_labels(self) -> dict[str, str]:
        return {"alertname": ALERT_NAME, **self.labels, SEVERITY_LABEL: self.severity.value}

    @property
    def group(self) -> AlertGroup:
        return AlertGroup((("alertname", ALERT_NAME), ("drill", self.id)))

    def policy_in(self, config: IncidentConfig) -> EscalationPolicy:
        """Raises KeyError for one that there is not."""
        if self.policy:
            return config.policies[self.policy]
        return policy_for(config, self.routed_labels, self.severity)

    def alert(self, now_ms: int) -> Alert:
        labels = {**self.routed_labels, "alertname": ALERT_NAME, "drill": self.id}
        words = f"Nothing is wrong. {self.started_by} drills how {self.severity} reaches people."
        annotations = {
            "summary": f"Drill of {self.severity}: please acknowledge",
            "description": f"{words}\n{self.note}".strip(),
        }
        return firing_alert(labels, annotations, now_ms, now_ms)


def open_drill(number: int, drill: Drill, now_ms: int, config: IncidentConfig) -> Change:
    """Its incident. Raises KeyError for a policy that there is not."""
    origin = ORIGIN + drill.id
    event = AlertEvent(EventKind.FIRING, drill.alert(now_ms), now_ms, origin=origin)
    policy = drill.policy_in(config)
    return open_incident(number, drill.group, event, now_ms, config, drill_policy=policy)


class DrillRunner:
    """`save` writes what changed, and returns when it is on the disk or does not answer."""

    def __init__(self, working: WorkingSet, save: Callable[[int], Awaitable[None]]) -> None:
        self._working, self._save = working, save

    async def begin(self, drill: Drill, now_ms: int) -> int:
        """The number of its incident; the same id begins once. Raises KeyError for a policy that
        there is not."""
        before = self._working.by_group_key(drill.group.key)
        if before is not None:
            return before.number
        number = _begin(self._working, drill, now_ms)
        await self._save(now_ms)
        return number


def _begin(working: WorkingSet, drill: Drill, now_ms: int) -> int:
    drill.policy_in(working.config)
    number = working.numbers.give(now_ms)
    working.apply(open_drill(number, drill, now_ms, working.config), now_ms)
    working.set_subject_timer(f"{SUBJECT}:{number}", drill.ends_at_ms)
    data = {"severity": drill.severity.value, "until_ms": drill.ends_at_ms, "note": drill.note}
    working.note(number, "drill_started", now_ms, drill.started_by, data)
    return number


def drill_time_is_up(working: WorkingSet, subject: str, now_ms: int) -> None:
    """What is not over yet is now."""
    number = subject.partition(":")[2]
    incident = working.incidents.get(int(number)) if number.isdecimal() else None
    if incident is not None and incident.drill and incident.is_open:
        working.apply(end_drill(incident, now_ms, working.config, TIME_IS_UP), now_ms)
