"""How far a rule and its group have come: the state between two evaluations, and for the API."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tocsin_alerting.promql.ast import Expr, VectorSelector, selectors
from tocsin_alerting.rules.alert import Alert, AlertState, moved, plus, rules_origin
from tocsin_alerting.rules.alerting import Naming, alert_samples
from tocsin_alerting.rules.journal import InstanceRow
from tocsin_alerting.rules.rule import AlertingRule, Group, Rule
from tocsin_alerting.rules.unknown import (
    Doubt,
    Fired,
    Window,
    alerts_of,
    alerts_read,
    keeps_instance,
    measured,
    mixes_series,
    presence,
    reach_ms,
    reads_alert,
    window_ms,
    windows,
)
from tocsin_exporter.snapshot import Labels, Source

RULES_JOB = "tocsin_rules"
Holds = Callable[["RuleProgress", Doubt], bool]


class RuleHealth(StrEnum):
    """As the API names it; `unknown` until the first evaluation."""

    UNKNOWN = "unknown"
    OK = "ok"
    ERR = "err"


@dataclass(slots=True)
class RuleProgress:
    """One rule's state: `alerts` and `doubts` by fingerprint, times in Unix milliseconds.

    `rows` wait to be restored at the first evaluation. `seen` says when each source that the rule
    measures was last alive at an evaluation, `spoke` when each said last whether it is up;
    `restored_ms` when alerts of the last run were put back in place, `history_ms` the newest sample
    that it left (None: there is none), and `complete_ms` the last evaluation of this rule that the
    store holds, and so all that came before it. `fired` are the alerts of the last run, by
    fingerprint, of which nothing has shown yet how they stand. `removed` stops an evaluation that
    is under way. `former` are the origins that it had in the last run, when it stood in another
    group or file.
    `inputs` are the selectors of its query and of those of the recording rules that it reads,
    directly or not: `measured` those whose series end when their source dies, `presence` those of
    what is said of it all the same, and `alerts_read` those of ALERTS, which are of `others`.
    """

    file: str
    group: str
    rule: Rule
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    rows: tuple[InstanceRow, ...] = ()
    interval_ms: int = 0
    seen: dict[Source, int] = field(default_factory=dict)
    spoke: dict[Source, int] = field(default_factory=dict)
    health: RuleHealth = RuleHealth.UNKNOWN
    last_error: str = ""
    evaluated_ms: int | None = None
    good_ms: int | None = None
    evaluation_seconds: float = 0.0
    evaluations: int = 0
    failures: int = 0
    ready: bool = False
    written: bool = False
    removed: bool = False
    inputs: tuple[VectorSelector, ...] = field(init=False)
    measured: tuple[VectorSelector, ...] = field(init=False)
    presence: tuple[VectorSelector, ...] = field(init=False)
    alerts_read: tuple[VectorSelector, ...] = field(init=False)
    keeps_instance: bool = field(init=False)
    reach_ms: int = field(init=False)
    window_ms: int = field(init=False)
    windows: frozenset[Window] = field(init=False)
    restored_ms: int | None = None
    history_ms: int | None = None
    complete_ms: int | None = None
    fired: dict[str, Fired] = field(default_factory=dict)
    former: tuple[str, ...] = ()
    others: Sequence["RuleProgress"] = ()
    mixes_series: bool = field(init=False)
    naming: Naming = field(default_factory=Naming)
    _shape: object = None
    _samples: Sequence[tuple[Labels, float]] = ()

    def __post_init__(self) -> None:
        self.reads((self.rule.query,))

    def reads(self, queries: tuple[Expr, ...]) -> None:
        """A recorded series stands for the sources that it was made from."""
        self.inputs = tuple(one for query in queries for one in selectors(query))
        self.measured = tuple(one for query in queries for one in measured(query))
        self.presence = tuple(one for query in queries for one in presence(query))
        self.alerts_read = tuple(one for query in queries for one in alerts_read(query))
        self.keeps_instance = all(map(keeps_instance, queries))
        self.mixes_series = any(map(mixes_series, queries))
        self.reach_ms = sum(map(reach_ms, queries))
        self.window_ms = sum(map(window_ms, queries))
        self.windows = frozenset[Window]().union(*map(windows, queries))
        if self.windows and self.window_ms not in {0, *(one.length_ms for one in self.windows)}:
            whole = any(one.whole for one in self.windows)
            self.windows |= {
                Window(self.window_ms, whole=whole)
            }  # of a range of what others recorded

    def become(self, rule: Rule) -> None:
        """The same rule as a reload has it; its alerts take its name."""
        self.rule = rule
        self.alerts = {key: replace(one, rule=rule.uid) for key, one in self.alerts.items()}

    def young(self, at_ms: int) -> bool:
        """Whether a restart has cost more than half of the samples in the rule's windows.

        What fired before it may then have left the result for want of history alone.
        """
        if self.restored_ms is None:
            return False
        lost_ms = self.window_ms - (at_ms - self.restored_ms)
        if self.history_ms is None:
            return lost_ms > 0
        return min(lost_ms, self.restored_ms - self.history_ms) > self.window_ms / 2

    def unknown_alerts(self, holds: Holds) -> frozenset[Source]:
        """By whose alerts, which are in doubt, this rule may have lost its own.

        `holds(rule, doubt)`: whether anything but alerts of others keeps one of its alerts in
        doubt. Rules that only wait for each other do not hold each other.
        """
        if not self.alerts_read:
            return frozenset()
        others = (other for other in self.others if other is not self)
        return frozenset(alerts_of(one.source) for one in others if self._is_held(one, holds))

    def _is_held(self, other: "RuleProgress", holds: Holds) -> bool:
        """Whether what this rule reads of `other` is in doubt for a cause that lies in a rule."""
        waiting: list[tuple[RuleProgress, RuleProgress]] = [(self, other)]
        walked = {(id(self), id(other))}
        while waiting:
            reader, other = waiting.pop()
            waits: set[frozenset[Source]] = set()
            for doubt in reader._doubts_of(other):
                if other.rows or holds(other, doubt):
                    return True
                waits.add(doubt.sources)
            causes = frozenset[Source]().union(*waits)
            for cause in other.others if causes else ():
                pair = id(other), id(cause)
                if alerts_of(cause.source) in causes and pair not in walked:
                    walked.add(pair)
                    waiting.append((other, cause))
        return False

    def _doubts_of(self, other: "RuleProgress") -> Iterator[Doubt]:
        """Those of `other` whose alerts this rule reads."""
        for doubt in (*other.doubts.values(), *(row.doubt for row in other.rows)):
            if doubt is not None and not doubt.over:
                if any(reads_alert(one, doubt.alert) for one in self.alerts_read):
                    yield doubt

    def alert_samples(self, rule: AlertingRule) -> Sequence[tuple[Labels, float]]:
        """What the alerts of `rule`, which is this one, are in the store; the same object while
        none of them changed."""
        alerts = self.alerts.values()
        shape = [(one.labels, one.state, one.active_at_ms) for one in alerts]
        if (rule.labels, shape) != self._shape:
            self._shape, self._samples = (rule.labels, shape), alert_samples(rule, alerts)
        return self._samples

    @property
    def lasts_ms(self) -> int:
        """How long after its source's last sample an alert may fire."""
        kept_ms = self.rule.keep_firing_for_ms if isinstance(self.rule, AlertingRule) else 0
        return self.reach_ms + kept_ms

    @property
    def source(self) -> Source:
        """Under which name the store keeps what this rule writes; it adds no label."""
        return Source(RULES_JOB, f"{self.file};{self.rule.uid}")

    @property
    def origin(self) -> str:
        """As whom it speaks to the incident layer."""
        return rules_origin(self.file, self.rule.uid)

    @property
    def state(self) -> AlertState | None:
        """The worst of its alerts; None until the first evaluation and for recording rules."""
        if self.evaluated_ms is None or not isinstance(self.rule, AlertingRule):
            return None
        states = {alert.state for alert in self.alerts.values()}
        order = (AlertState.FIRING, AlertState.PENDING)
        return next((state for state in order if state in states), AlertState.INACTIVE)

    def instance_rows(self) -> list[InstanceRow]:
        """What a restart needs; rows that still wait to be restored among them."""
        sources = frozenset(self.seen)

        def row(key: str) -> InstanceRow:
            return InstanceRow(
                self.file,
                self.group,
                self.rule.uid,
                self.good_ms or 0,
                self.alerts.get(key),
                self.doubts.get(key),
                sources,
            )

        return [*self.rows, *map(row, dict.fromkeys((*self.alerts, *self.doubts)))]

    def move(self, delta_ms: int) -> None:
        """The wall clock was set: every time of this rule moves with it."""
        self.alerts = {key: moved(alert, delta_ms) for key, alert in self.alerts.items()}
        self.doubts = {key: doubt.shifted(delta_ms) for key, doubt in self.doubts.items()}
        self.rows = tuple(row.shifted(delta_ms) for row in self.rows)
        self.seen = {source: at + delta_ms for source, at in self.seen.items()}
        self.spoke = {source: at + delta_ms for source, at in self.spoke.items()}
        self.evaluated_ms = plus(self.evaluated_ms, delta_ms)
        self.good_ms = plus(self.good_ms, delta_ms)
        self.restored_ms = plus(self.restored_ms, delta_ms)
        self.history_ms = plus(self.history_ms, delta_ms)
        self.complete_ms = plus(self.complete_ms, delta_ms)
        self.fired = {
            key: replace(one, at_ms=one.at_ms + delta_ms) for key, one in self.fired.items()
        }


@dataclass(slots=True)
class GroupProgress:
    """One group's state; `saved` is what the journal has of it, without what always changes; None
    when it has rows that nothing of this run stands for.

    `loaded_ms` is when it came: from then on its slots count. `begun_ms` is the slot that was begun
    last, and `evaluated_ms` the one that has ended.
    """

    group: Group
    interval_ms: int
    rules: list[RuleProgress]
    loaded_ms: int
    begun_ms: int | None = None
    evaluated_ms: int | None = None
    evaluation_seconds: float = 0.0
    iterations: int = 0
    missed: int = 0
    saved: list[object] | None = field(default_factory=list)
    saved_ms: int | None = None

    def move(self, delta_ms: int) -> None:
        self.loaded_ms += delta_ms
        self.begun_ms = plus(self.begun_ms, delta_ms)
        self.evaluated_ms = plus(self.evaluated_ms, delta_ms)
        self.saved_ms = plus(self.saved_ms, delta_ms)
        for rule in self.rules:
            rule.move(delta_ms)
