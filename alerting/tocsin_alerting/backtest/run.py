"""A backtest from the rules and samples to the report."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tocsin_alerting.backtest.history import History, InputSeries, PastSeries
from tocsin_alerting.backtest.paging import PagingLog, paging_log
from tocsin_alerting.backtest.replay import Replay, ReplaySettings, RuleReplay
from tocsin_alerting.backtest.report import (
    Judgement,
    LabelledIncident,
    RuleReport,
    hours_of,
    missed_incidents,
    real_incidents,
    reports,
)
from tocsin_alerting.backtest.rule_order import reach_ms, warm_up_ms, without_recorded
from tocsin_alerting.backtest.timeline_svg import timeline_svg
from tocsin_alerting.backtest.what_if import what_ifs
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import incident_config
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.rule import RuleGroup

Progress = Callable[[int], None]
FORMULA = "0.5 * short / fired + 0.3 * flaps / fired + 0.2 * false_alarms / judged"


@dataclass(slots=True)
class Backtest:
    """What is replayed: from `within[0]` to `within[1]`, in Unix ms."""

    config: Config
    groups: Sequence[RuleGroup]
    within: tuple[int, int]
    interval_ms: int
    semantics: Semantics = 3

    @property
    def rule_count(self) -> int:
        return sum(len(group.rules) for group in self.groups)

    @property
    def needs(self) -> tuple[int, int]:
        """From when until when samples are read."""
        every = (rule for group in self.groups for rule in group.rules)
        farthest = max((reach_ms(rule.query) for rule in every), default=0)
        return self._evaluated_from_ms - farthest, self.within[1]

    @property
    def _evaluated_from_ms(self) -> int:
        return self.within[0] - warm_up_ms(self.groups)

    def run(
        self,
        series: InputSeries,
        judgement: Judgement,
        ack_after_ms: int | None,
        progress: Progress,
    ) -> "BacktestResult":
        """`progress` hears how many rules are done."""
        history = History(PastSeries(without_recorded(series, self.groups)))
        engine = QueryEngine(history, self.semantics, subquery_step_ms=self.interval_ms)
        settings = ReplaySettings(
            self._evaluated_from_ms,
            self.within[1],
            self.interval_ms,
            self.config.external_labels,
            progress,
        )
        replay = Replay(engine, history, settings)
        return asyncio.run(self._result(replay, judgement, ack_after_ms))

    async def _result(
        self, replay: Replay, judgement: Judgement, ack_after_ms: int | None
    ) -> "BacktestResult":
        replays = await replay.run(self.groups)
        for one in replays:
            one.spans = [span for span in one.spans if span.fired_ms >= self.within[0]]
        spans = ((one.rule.uid, span) for one in replays for span in one.spans)
        log = await paging_log(incident_config(self.config), spans, self.within[1], ack_after_ms)
        found = reports(replays, log, judgement, self.within)
        return BacktestResult(self.within, replays, log, found, replay, judgement)


@dataclass(slots=True)
class BacktestResult:
    within: tuple[int, int]
    replays: Sequence[RuleReplay]
    log: PagingLog
    reports: Sequence[RuleReport]
    replay: Replay = field(repr=False)
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def fired(self) -> list[tuple[RuleReport, RuleReplay]]:
        """The alerting rules that fired, with what was replayed."""
        alerting = [one for one in self.replays if not one.records]
        pairs = zip(self.reports, alerting, strict=True)
        return [(report, one) for report, one in pairs if report.fired]

    def add_what_ifs(self, progress: Progress) -> None:
        """Replays each rule that fired with other thresholds and another `for`."""
        asyncio.run(self._add_what_ifs(progress))

    async def _add_what_ifs(self, progress: Progress) -> None:
        for number, (report, one) in enumerate(self.fired, 1):
            report.what_if = await what_ifs(one, self.replay.quiet(), self.within)
            progress(number)

    def svg(self) -> str:
        return timeline_svg(self.replays, self.log, self.within, self.real)

    @property
    def real(self) -> list[LabelledIncident]:
        """The labelled incidents that had to be found."""
        return real_incidents(self.judgement, self.within)

    @property
    def missed(self) -> list[LabelledIncident]:
        return missed_incidents(self.replays, self.judgement, self.within)

    def hours(self) -> Mapping[str, Sequence[int]]:
        """The pages by severity and hour of the day in this machine's zone, each counted once."""
        return hours_of(self.log)

    def to_json(self) -> dict[str, Any]:
        """For programs; times in Unix seconds, durations in seconds."""
        return {
            "start": self.within[0] / 1000,
            "end": self.within[1] / 1000,
            "noise_formula": FORMULA,
            "incidents": len(self.log.rules),
            "pages": len(self.log.pages),
            "hours": self.hours(),
            "to_find": len(self.real),
            "missed": [
                {"start": one.start_ms / 1000, "end": one.end_ms / 1000, "alertname": one.alertname}
                for one in self.missed
            ],
            "rules": [report.to_json() for report in self.reports],
        }
