"""What a backtest says of each rule: how often it would have fired, who would have been called,
and how much of that was noise."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, tzinfo
from statistics import median
from typing import Any

from tocsin_alerting.backtest.alert_spans import AlertSpan, ConditionCells, alert_spans
from tocsin_alerting.backtest.paging import PagingLog
from tocsin_alerting.backtest.replay import RuleReplay
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.severity import SEVERITY_LABEL
from tocsin_exporter.snapshot import Labels

SHORT_MS = 2 * 60_000
FLAP_MS = 30 * 60_000
EARLY_MS = 5 * 60_000
_WEIGHTS = (0.5, 0.3, 0.2)


@dataclass(frozen=True, slots=True)
class LabelledIncident:
    """A time that somebody has judged, in Unix ms: `real` is whether something was wrong then.
    `alertname` is "" where it is about any alert."""

    start_ms: int
    end_ms: int
    alertname: str = ""
    real: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """`complete`: whatever is not among `incidents` was a false alarm."""

    incidents: Sequence[LabelledIncident] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class WhatIf:
    """How often the rule would have fired with another `for` or threshold, how often for less than
    two minutes, and how long all of it was."""

    change: str
    fired: int
    short: int
    firing_ms: int

    def to_json(self) -> dict[str, Any]:
        shown = {"change": self.change, "fired": self.fired, "short": self.short}
        return {**shown, "firing_seconds": self.firing_ms / 1000}


@dataclass(slots=True)
class RuleReport:
    """`severity` is the rule's own label. `pages` are counted by severity, `hours` by the hour of
    the day, 24 of them. `judged` are the true and the false alarms. `found` of `to_find` labelled
    incidents are those in which the rule fired. Shares are None where there is nothing to divide
    by."""

    file: str
    group: str
    rule: str
    severity: str = ""
    fired: int = 0
    still_firing: int = 0
    incidents: int = 0
    pages: Counter[str] = field(default_factory=Counter)
    hours: list[int] = field(default_factory=lambda: [0] * 24)
    median_ms: int | None = None
    firing_ms: int = 0
    short: int = 0
    flaps: int = 0
    true_alarms: int = 0
    false_alarms: int = 0
    found: int = 0
    to_find: int = 0
    failures: int = 0
    last_error: str = ""
    what_if: tuple[WhatIf, ...] = ()

    @property
    def precision(self) -> float | None:
        return _share(self.true_alarms, self.true_alarms + self.false_alarms)

    @property
    def recall(self) -> float | None:
        return _share(self.found, self.to_find)

    @property
    def noise(self) -> float | None:
        return noise(self.short, self.flaps, self.false_alarms, self.fired, self.judged)

    @property
    def judged(self) -> int:
        return self.true_alarms + self.false_alarms

    def to_json(self) -> dict[str, Any]:
        """Durations are in seconds."""
        shown = asdict(self)
        shown["pages"] = dict(sorted(self.pages.items()))
        median_ms, firing_ms = shown.pop("median_ms"), shown.pop("firing_ms")
        shown["median_seconds"] = None if median_ms is None else median_ms / 1000
        shown["firing_seconds"] = firing_ms / 1000
        shown["what_if"] = [one.to_json() for one in self.what_if]
        scores = {"precision": self.precision, "recall": self.recall, "noise": self.noise}
        return shown | {name: _rounded(score) for name, score in scores.items()}


def noise(short: int, flaps: int, false_alarms: int, fired: int, judged: int) -> float | None:
    """From 0 to 1: 0.5 of the share of firings that were over within two minutes, 0.3 of the share
    that fired again within 30 minutes of its last end, and 0.2 of the share of false alarms among
    those that were judged. Where none was judged the first two count for all: 0.625 and 0.375.
    None of a rule that did not fire."""
    if not fired:
        return None
    over, again, false = _WEIGHTS
    score = over * short / fired + again * flaps / fired
    if not judged:
        return score / (over + again)
    return score + false * false_alarms / judged


def reports(
    replays: Iterable[RuleReplay],
    log: PagingLog,
    judgement: Judgement,
    within: tuple[int, int],
    zone: tzinfo | None = None,
) -> list[RuleReport]:
    """Of each alerting rule, in the order of the files; `within` is the time that counts, in ms."""
    paged = _pages_by_rule(log)
    opened = Counter(rule for rules in log.rules.values() for rule in rules)
    found: list[RuleReport] = []
    for replay in replays:
        if not isinstance(replay.rule, AlertingRule):
            continue
        spans = [span for span in replay.spans if within[0] <= span.fired_ms <= within[1]]
        severity = dict(replay.rule.labels).get(SEVERITY_LABEL, "")
        report = RuleReport(replay.group.file, replay.group.name, replay.rule.name, severity)
        report.failures, report.last_error = replay.failures, replay.last_error
        report.incidents = opened[replay.rule.uid]
        for at_ms, severity in paged.get(replay.rule.uid, ()):
            report.pages[severity] += 1
            report.hours[datetime.fromtimestamp(at_ms / 1000, zone).hour] += 1
        _count(report, spans, within[1])
        _judge(report, replay.rule.name, spans, judgement, within)
        found.append(report)
    return found


def _pages_by_rule(log: PagingLog) -> Mapping[str, Sequence[tuple[int, str]]]:
    """A page of an incident is one of each rule that has an alert in it."""
    paged: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for page in log.pages:
        for rule in log.rules.get(page.incident, ()):
            paged[rule].append((page.at_ms, page.severity))
    return paged


def _count(report: RuleReport, spans: Sequence[AlertSpan], end_ms: int) -> None:
    lengths = [(span.resolved_ms or end_ms) - span.fired_ms for span in spans]
    report.fired = len(spans)
    report.still_firing = sum(span.resolved_ms is None for span in spans)
    report.firing_ms = sum(lengths)
    report.median_ms = round(median(lengths)) if lengths else None
    report.short = short_ones(spans)
    report.flaps = _flaps(spans)


def short_ones(spans: Iterable[AlertSpan]) -> int:
    """Those that were over by themselves within two minutes."""
    return sum(
        span.resolved_ms is not None and span.resolved_ms - span.fired_ms < SHORT_MS
        for span in spans
    )


def _flaps(spans: Iterable[AlertSpan]) -> int:
    """Those that fired again within 30 minutes of their last end."""
    ended: dict[Labels, int] = {}
    flaps = 0
    for span in spans:
        before = ended.get(span.labels)
        flaps += before is not None and span.fired_ms - before < FLAP_MS
        if span.resolved_ms is not None:
            ended[span.labels] = span.resolved_ms
    return flaps


def _judge(
    report: RuleReport,
    name: str,
    spans: Sequence[AlertSpan],
    judgement: Judgement,
    within: tuple[int, int],
) -> None:
    """A firing is of a labelled incident that it overlaps, up to five minutes before its start."""
    about = [one for one in judgement.incidents if one.alertname in ("", name)]
    hit: set[LabelledIncident] = set()
    for span in spans:
        touched = [one for one in about if _overlap(span, one, within[1])]
        hit.update(touched)
        if any(one.real for one in touched):
            report.true_alarms += 1
        elif touched or judgement.complete:
            report.false_alarms += 1
    real = [one for one in about if one.real and _is_within(one, within)]
    report.to_find, report.found = len(real), sum(one in hit for one in real)


def real_incidents(judgement: Judgement, within: tuple[int, int]) -> list[LabelledIncident]:
    """Those of the time that counts in which something was wrong."""
    return [one for one in judgement.incidents if one.real and _is_within(one, within)]


def missed_incidents(
    replays: Iterable[RuleReplay], judgement: Judgement, within: tuple[int, int]
) -> list[LabelledIncident]:
    """The real ones in which no alert fired that they are about."""
    spans = [
        (replay.rule.name, span)
        for replay in replays
        if isinstance(replay.rule, AlertingRule)
        for span in replay.spans
    ]
    return [
        one
        for one in real_incidents(judgement, within)
        if not any(
            one.alertname in ("", name) and _overlap(span, one, within[1]) for name, span in spans
        )
    ]


def _is_within(one: LabelledIncident, within: tuple[int, int]) -> bool:
    return one.end_ms >= within[0] and one.start_ms <= within[1]


def _overlap(span: AlertSpan, labelled: LabelledIncident, end_ms: int) -> bool:
    until_ms = span.resolved_ms or end_ms
    return span.fired_ms <= labelled.end_ms and until_ms >= labelled.start_ms - EARLY_MS


def what_if(
    change: str, cells: ConditionCells, for_ms: int, keep_ms: int, within: tuple[int, int]
) -> WhatIf:
    """What `cells` would have fired so."""
    spans = [
        span
        for span in alert_spans(cells, for_ms, keep_ms)
        if within[0] <= span.fired_ms <= within[1]
    ]
    firing_ms = sum((span.resolved_ms or within[1]) - span.fired_ms for span in spans)
    return WhatIf(change, len(spans), short_ones(spans), firing_ms)


def hours_of(log: PagingLog, zone: tzinfo | None = None) -> dict[str, list[int]]:
    """The pages of each severity by the hour of the day, 24 of them."""
    hours: dict[str, list[int]] = {}
    for page in log.pages:
        row = hours.setdefault(page.severity, [0] * 24)
        row[datetime.fromtimestamp(page.at_ms / 1000, zone).hour] += 1
    return dict(sorted(hours.items()))


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
