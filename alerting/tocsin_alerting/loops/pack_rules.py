"""CollectorFailing and ClockStepped, where the user's own files of rules have none of that name.

They are the rules of the bundled pack, evaluated beside the user's: what the agent says of itself
does not depend on which files somebody has chosen.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from tocsin_alerting.loops.meta_alerts import End, Groups
from tocsin_alerting.rules.alert import Alert, AlertState, EventKind, plus
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups as RuleGroups
from tocsin_alerting.rules.meta_alerts import MetaAlertName, meta_origin
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.severity import SEVERITY_LABEL, Severity
from tocsin_alerting.rules.state import RuleHealth

EVERY_MS = 15_000
_FILE = "meta-alerts"  # under which it writes ALERTS: no file of rules has it


class PackRule:
    """The rule `name` of `files`. `groups` are those of the user; `deps` gives what rules are
    evaluated with."""

    def __init__(
        self,
        name: MetaAlertName,
        files: Collection[RuleFile],
        groups: Groups,
        deps: Callable[[], EvaluationDeps],
        severity: Severity = Severity.P3,
    ) -> None:
        self.name, self.severity = name, severity
        self._groups, self._deps = groups, deps
        self._own = RuleGroups(deps(), EVERY_MS)
        self._wanted = [_alone(file, name) for file in files]
        self._looked_ms: int | None = None

    async def firing(self, now_ms: int, known: Collection[str]) -> Mapping[str, Alert]:
        if self._is_theirs():
            return {}
        if not self._own.all:
            self._own.load(self._wanted, now_ms)
        looked_ms = self._looked_ms
        if looked_ms is None or not 0 <= now_ms - looked_ms < EVERY_MS:
            self._looked_ms = now_ms
            deps = self._deps()
            self._own.take(deps, lambda group: deps)
            for progress in self._own.all:
                await self._own.evaluate(progress, now_ms)
        alerts = (alert for group in self._own.all for alert in group.rules[0].alerts.values())
        return {
            self._origin(alert): self._as_bad(alert)
            for alert in alerts
            if alert.state is AlertState.FIRING
        }

    def end(self, origin: str, now_ms: int) -> End | None:
        if self._is_theirs():
            return End(EventKind.REMOVED, "a rule of that name in rule_files says it")
        if not self._own.all:
            return None
        (rule,) = self._own.all[0].rules
        doubtful = [one.alert for one in rule.unknown_alerts.values()]
        stands = [one for one in rule.alerts.values() if one.state is not AlertState.INACTIVE]
        if rule.evaluated_ms is None or rule.health is RuleHealth.ERR:
            return None
        over = origin not in map(self._origin, (*stands, *doubtful))
        return End(EventKind.CLEAR, "it is over") if over else None

    def shift(self, delta_ms: int) -> None:
        self._own.shift(delta_ms)
        self._looked_ms = plus(self._looked_ms, delta_ms)

    def _is_theirs(self) -> bool:
        return any(rule.rule.name == self.name for one in self._groups() for rule in one.rules)

    def _origin(self, alert: Alert) -> str:
        about = sorted((k, v) for k, v in alert.labels if k != SEVERITY_LABEL)
        return meta_origin(self.name, ";".join(f"{name}={value}" for name, value in about))

    def _as_bad(self, alert: Alert) -> Alert:
        labels = {**dict(alert.labels), SEVERITY_LABEL: self.severity.value}
        return replace(alert, labels=tuple(sorted(labels.items())))


def _alone(file: RuleFile, name: str) -> RuleFile:
    """The one rule of it, in a group of its own."""
    (one,) = [
        replace(group, file=_FILE, name=name, interval_ms=EVERY_MS, rules=(rule,))
        for group in file.groups
        for rule in group.rules
        if rule.name == name
    ]
    return RuleFile(_FILE, (one,))
