"""How far a rule and its group have come: the state between two evaluations, and for the API."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count

from tocsin_alerting.promql.parser.ast import Expr, VectorSelector, selectors
from tocsin_alerting.rules.alert import Alert, AlertState, moved, plus, rules_origin
from tocsin_alerting.rules.alerting import (
    AlertLabelsMemo,
    AlertsUpdate,
    Candidate,
    alert_samples,
    update_alerts,
)
from tocsin_alerting.rules.fair_share import FairShare
from tocsin_alerting.rules.inputs import (
    Read,
    alerts_read,
    keeps_instance,
    measured,
    measured_reads,
    mixes_series,
    presence,
    reach_ms,
    reads_alert,
    window_ms,
)
from tocsin_alerting.rules.instance_journal import EngineGap, InstanceRow
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_alerting.rules.rule import AlertingRule, Rule, RuleGroup
from tocsin_alerting.rules.unknown_alerts import RULES_JOB, LastFiring, UnknownAlert
from tocsin_exporter.slices import Work, at_once
from tocsin_exporter.snapshot import Labels, Source

HeldByOthers = Callable[["RuleState", UnknownAlert], bool]
_Node = tuple[int, int | frozenset[Source]]
"""Ids of a rule and of one whose alerts it reads; or of a rule, and what alerts of it wait for."""


MOST_RUNS = 320  # of one each second, all that a sample which is still read may have read
MOST_SETTLED = 256


MakeRoom = Callable[[Source, Sequence[tuple[Labels, float]]], Work[None]]


def no_room(source: Source, samples: Sequence[tuple[Labels, float]]) -> Work[None]:
    """Of a store that needs no time for series that are new."""
    yield from ()


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation that succeeded and is in the store: it read the samples up to `at_ms`. `began`
    and `ended` count over all rules, so that it is known which of two came first."""

    at_ms: int
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Settled:
    """An alert that was unknown until the evaluation at `at_ms`, the `ended`th of all."""

    alert: Alert
    at_ms: int
    ended: int


class RuleHealth(StrEnum):
    """As the API names it; `unknown` until the first evaluation."""

    UNKNOWN = "unknown"
    OK = "ok"
    ERR = "err"


@dataclass(slots=True)
class RuleState:
    """One rule's state: `alerts` and `unknown_alerts` by fingerprint, times in Unix milliseconds.

    `rows` wait to be restored at the first evaluation. `measured_seen` says when each source that
    the rule measures was last alive at an evaluation, `presence_seen` when each said last whether
    it is up; `restored_ms` when alerts of the last run were put back in place, `history_ms` the
    newest sample that it left (None: there is none), and `complete_ms` the last evaluation of this
    rule that the store holds, and so all that came before it. `last_firing` are the alerts of the
    last run, by fingerprint, of which nothing has shown yet how they stand. `removed` stops an
    evaluation that is under way. `former_origins` are those that it had in the last run, when it
    stood in another group or file.

    `inputs` are the selectors of its query and of those of the recording rules that it reads,
    directly or not: `measured` those whose series end when their source dies, `presence` those of
    what is said of it all the same, and `alerts_read` those of ALERTS, which are of
    `alerting_rules`: all rules, by the source that stands for their alerts.

    `failures_in_a_row` ends with the first evaluation that succeeds; `failure` is what kind the
    last one was. `warnings` say which of its selectors match no series.

    `behind` are the rules whose newest samples it reads, and `alert_reach` says how far back, in
    ms, it reads which alerts; `lag_ms` is how old what it records may be. `runs` are its own last
    evaluations, and `settled` what they settled; `turns` numbers those of all rules, and `began` is
    the number of the last one. `held` are the unknown alerts (fingerprints) that anything but
    alerts of others kept unknown at the last one. `gaps` are those of an engine elsewhere.
    """

    file: str
    group: str
    rule: Rule
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    unknown_alerts: Mapping[str, UnknownAlert] = field(default_factory=dict)
    rows: tuple[InstanceRow, ...] = ()
    interval_ms: int = 0
    measured_seen: dict[Source, int] = field(default_factory=dict)
    presence_seen: dict[Source, int] = field(default_factory=dict)
    health: RuleHealth = RuleHealth.UNKNOWN
    last_error: str = ""
    evaluated_ms: int | None = None
    last_success_ms: int | None = None
    evaluation_seconds: float = 0.0
    evaluations: int = 0
    failures: int = 0
    unreachable: bool = False
    gaps: tuple[EngineGap, ...] = ()
    failures_in_a_row: int = 0
    failing_since_ms: int | None = None
    failure: type[Exception] | None = None
    warnings: tuple[str, ...] = ()
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
    windows: frozenset[Read] = field(init=False)
    restored_ms: int | None = None
    history_ms: int | None = None
    complete_ms: int | None = None
    last_firing: dict[str, LastFiring] = field(default_factory=dict)
    former_origins: tuple[str, ...] = ()
    alerting_rules: Mapping[Source, "RuleState"] = field(default_factory=dict)
    behind: tuple["RuleState", ...] = ()
    lag_ms: int = 0
    alert_reach: tuple[tuple[VectorSelector, int], ...] = ()
    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=MOST_RUNS))
    settled: deque[Settled] = field(default_factory=lambda: deque(maxlen=MOST_SETTLED))
    began: int = 0
    turns: Iterator[int] = field(default_factory=count)
    held: frozenset[str] = frozenset()
    mixes_series: bool = field(init=False)
    naming: AlertLabelsMemo = field(default_factory=AlertLabelsMemo)
    _shape: object = None
    samples: Sequence[tuple[Labels, float]] = ()

    def __post_init__(self) -> None:
        self.reads((self.rule.query,))

    def reads(self, queries: tuple[Expr, ...], through: frozenset[Read] = frozenset()) -> None:
        """A recorded series stands for the sources that it was made from; `through` are the windows
        of a range, or of an offset, of what others recorded."""
        self.inputs = tuple(selector for query in queries for selector in selectors(query))
        self.measured = tuple(selector for query in queries for selector in measured(query))
        self.presence = tuple(selector for query in queries for selector in presence(query))
        self.alerts_read = tuple(selector for query in queries for selector in alerts_read(query))
        self.keeps_instance = all(map(keeps_instance, queries))
        self.mixes_series = any(map(mixes_series, queries))
        self.reach_ms = sum(map(reach_ms, queries))
        self.window_ms = sum(map(window_ms, queries))
        self.windows = through.union(*map(measured_reads, queries))

    def run_before(self, began: int) -> Run | None:
        """Its last evaluation that had ended when the one began that has this number."""
        return next((run for run in reversed(self.runs) if run.ended < began), None)

    def reload(self, rule: Rule) -> None:
        """The same rule as a reload has it; its alerts take its name."""
        before, self.rule = self.origin, rule
        if self.origin != before:
            self.former_origins = (*self.former_origins, before)
        self.alerts = {key: replace(alert, rule=rule.uid) for key, alert in self.alerts.items()}

    def succeed(self) -> None:
        self.health, self.last_error, self.failure = RuleHealth.OK, "", None
        self.failures_in_a_row, self.failing_since_ms, self.unreachable = 0, None, False

    def fail(self, error: Exception, at_ms: int) -> None:
        self.health, self.last_error = RuleHealth.ERR, str(error) or type(error).__name__
        self.failure, self.unreachable = type(error), isinstance(error, EngineUnreachable)
        if self.unreachable:  # which is its engine's fault, and told as such
            if all(gap.until_ms is not None for gap in self.gaps):
                self.gaps = (*self.gaps, EngineGap(self.last_success_ms or at_ms))
            return
        self.failures += 1
        self.failures_in_a_row += 1
        if self.failing_since_ms is None:
            self.failing_since_ms = at_ms

    def take_gaps(self, rows: Iterable[InstanceRow]) -> None:
        """Those of the last run beside those of this one."""
        left = (gap for row in rows for gap in row.gaps)
        self.gaps = tuple(dict.fromkeys((*self.gaps, *left)))

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

    def unknown_inputs(self, holds: HeldByOthers) -> frozenset[Source]:
        """By whose alerts, which are unknown, this rule may have lost its own.

        `holds(rule, unknown_alert)`: whether anything but alerts of others keeps it unknown. Rules
        that only wait for each other do not hold each other.
        """
        if not self.alerts_read:
            return frozenset()
        held, behind = self._held(holds)
        reached = set(held)
        for node in held:  # it grows
            new = [other for other in behind[node] if other not in reached]
            reached.update(new)
            held += new
        others = self.alerting_rules.items()
        return frozenset(source for source, other in others if (id(self), id(other)) in reached)

    def _held(self, holds: HeldByOthers) -> tuple[list[_Node], dict[_Node, list[_Node]]]:
        """Of what this rule reads, and of what that waits for, the pairs (reader, rule) that are
        held; and what waits for a node. Each pair is looked at once, and what waits for the same
        sources is one node: rules that all read each other cost no more than their pairs.
        """
        pairs: list[tuple[RuleState, RuleState]] = [
            (self, other)
            for other in self.alerting_rules.values()
            if other is not self and other.may_have_unknown
        ]
        behind: dict[_Node, list[_Node]] = {(id(self), id(other)): [] for _, other in pairs}
        held: list[_Node] = []
        for reader, other in pairs:  # it grows
            pair: _Node = id(reader), id(other)
            waits = reader._waits_for(other, holds)
            if waits is None:
                held.append(pair)
            for sources in waits or ():
                node: _Node = id(other), sources
                if node not in behind:
                    behind[node] = []
                    for cause in map(other.alerting_rules.get, sources):
                        if cause is not None and (id(other), id(cause)) not in behind:
                            behind[id(other), id(cause)] = []
                            pairs.append((other, cause))
                        if cause is not None:
                            behind[id(other), id(cause)].append(node)
                behind[node].append(pair)
        return held, behind

    @property
    def may_have_unknown(self) -> bool:
        return bool(self.unknown_alerts or self.rows)

    def _waits_for(self, other: "RuleState", holds: HeldByOthers) -> set[frozenset[Source]] | None:
        """The sources that keep unknown what this rule reads of `other`; None if something
        besides the alerts of others does."""
        waits: set[frozenset[Source]] = set()
        for unknown_alert in self._unknown_alerts_of(other):
            if other.rows or holds(other, unknown_alert):
                return None
            waits.add(unknown_alert.sources)
        return waits

    def _unknown_alerts_of(self, other: "RuleState") -> Iterator[UnknownAlert]:
        """Those of `other` whose alerts this rule reads."""
        for unknown_alert in (
            *other.unknown_alerts.values(),
            *(row.unknown_alert for row in other.rows),
        ):
            if unknown_alert is not None and not unknown_alert.over:
                if any(reads_alert(selector, unknown_alert.alert) for selector in self.alerts_read):
                    yield unknown_alert

    async def step(
        self,
        rule: AlertingRule,
        vector: Sequence[Candidate],
        at_ms: int,
        share: FairShare,
        make_room: MakeRoom,
    ) -> AlertsUpdate:
        """What the alerts become, in slices; what they are in the store is ready then."""
        stepped = await share.of(update_alerts(rule, vector, at_ms, self.alerts))
        if await share.of(self.make_samples(rule, stepped.alerts)):
            await share.of(make_room(self.source, self.samples))
        return stepped

    def alert_samples(self, rule: AlertingRule) -> Sequence[tuple[Labels, float]]:
        """What the alerts of `rule`, which is this one, are in the store; the same object while
        none of them changed."""
        at_once(self.make_samples(rule, self.alerts))
        return self.samples

    def make_samples(self, rule: AlertingRule, alerts: Mapping[str, Alert]) -> Work[bool]:
        """Have those of `alerts` in `samples`, should the rule keep these; whether it had not."""
        shape = [(alert.labels, alert.state, alert.active_at_ms) for alert in alerts.values()]
        if (rule.labels, shape) == self._shape:
            return False
        samples = yield from alert_samples(rule, alerts.values())
        self._shape, self.samples = (rule.labels, shape), samples
        return True

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
    def standing(self) -> Mapping[str, Alert]:
        """Its alerts by fingerprint; what the last run left stands until an evaluation has said
        what became of it."""
        if not self.rows:
            return self.alerts
        left = {row.fingerprint: row.alert for row in self.rows if row.alert is not None}
        return {**left, **self.alerts}

    @property
    def state(self) -> AlertState | None:
        """The worst of its alerts; None for recording rules, and until the first evaluation where
        the last run left no alert."""
        standing = self.standing
        is_known = self.evaluated_ms is not None or standing
        if not is_known or not isinstance(self.rule, AlertingRule):
            return None
        states = {alert.state for alert in standing.values()}
        order = (AlertState.FIRING, AlertState.PENDING)
        return next((state for state in order if state in states), AlertState.INACTIVE)

    def instance_rows(self) -> list[InstanceRow]:
        """What a restart needs; rows that still wait to be restored among them."""
        sources = frozenset(self.measured_seen)

        good_ms = self.last_success_ms or 0
        watched_ms = max(good_ms, self.evaluated_ms or 0) if self.unreachable else good_ms

        def row(key: str) -> InstanceRow:
            alert = self.alerts.get(key)
            waits = alert is not None and alert.state is AlertState.PENDING
            return InstanceRow(
                self.file,
                self.group,
                self.rule.uid,
                watched_ms if waits else good_ms,
                alert,
                self.unknown_alerts.get(key),
                sources,
                self.gaps,
            )

        return [*self.rows, *map(row, dict.fromkeys((*self.alerts, *self.unknown_alerts)))]

    def shift(self, delta_ms: int) -> None:
        """The wall clock was set: every time of this rule moves with it."""
        self.alerts = {key: moved(alert, delta_ms) for key, alert in self.alerts.items()}
        self.unknown_alerts = {
            key: unknown_alert.shifted(delta_ms)
            for key, unknown_alert in self.unknown_alerts.items()
        }
        self.rows = tuple(row.shifted(delta_ms) for row in self.rows)
        self.gaps = tuple(gap.shifted(delta_ms) for gap in self.gaps)
        self.measured_seen = {source: at + delta_ms for source, at in self.measured_seen.items()}
        self.presence_seen = {source: at + delta_ms for source, at in self.presence_seen.items()}
        self.evaluated_ms = plus(self.evaluated_ms, delta_ms)
        self.last_success_ms = plus(self.last_success_ms, delta_ms)
        self.failing_since_ms = plus(self.failing_since_ms, delta_ms)
        self.restored_ms = plus(self.restored_ms, delta_ms)
        self.history_ms = plus(self.history_ms, delta_ms)
        self.complete_ms = plus(self.complete_ms, delta_ms)
        self.runs = deque(
            (replace(run, at_ms=run.at_ms + delta_ms) for run in self.runs), MOST_RUNS
        )
        self.settled = deque(
            (replace(settled, at_ms=settled.at_ms + delta_ms) for settled in self.settled),
            MOST_SETTLED,
        )
        self.last_firing = {
            key: replace(firing, at_ms=firing.at_ms + delta_ms)
            for key, firing in self.last_firing.items()
        }


@dataclass(slots=True)
class GroupState:
    """One group's state; `saved` is what the journal has of it, without what always changes; None
    when it has rows that nothing of this run stands for.

    `loaded_ms` is when it came: from then on its slots count. `begun_ms` is the slot that was begun
    last, and `evaluated_ms` the one that has ended. `phase_ms` is how long after the multiples of
    the interval they lie, with the `fraction_ns` of a millisecond that a Prometheus has besides;
    `reads_own`: it was seen to read what we scrape ourselves.
    """

    group: RuleGroup
    interval_ms: int
    rules: list[RuleState]
    loaded_ms: int
    begun_ms: int | None = None
    evaluated_ms: int | None = None
    evaluation_seconds: float = 0.0
    evaluations: int = 0
    missed: int = 0
    saved: list[object] | None = field(default_factory=list)
    saved_ms: int | None = None
    phase_ms: int = 0
    fraction_ns: int = 0
    reads_own: bool = False

    def nanoseconds(self, at_ms: int) -> int:
        """In Unix time, of one of its evaluations as a Prometheus beside us dates it."""
        is_slot = (at_ms - self.phase_ms) % self.interval_ms == 0
        return at_ms * 1_000_000 + (self.fraction_ns if is_slot else 0)

    def shift(self, delta_ms: int) -> None:
        self.loaded_ms += delta_ms
        self.begun_ms = plus(self.begun_ms, delta_ms)
        self.evaluated_ms = plus(self.evaluated_ms, delta_ms)
        self.saved_ms = plus(self.saved_ms, delta_ms)
        for rule in self.rules:
            rule.shift(delta_ms)
