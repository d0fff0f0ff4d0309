"""What rules run in under a test: scripted answers, kept samples, sources that can be set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from support.scripted_engine import Answer, ScriptedEngine
from tocsin_alerting.promql.parser.ast import Expr, VectorSelector
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.inputs import RangeWindow
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import Reported, SourceStatus
from tocsin_exporter.snapshot import Labels, Source


class SetSources:
    """Every selector touches all of `healths`; where `touching` is set, what that says."""

    def __init__(self, healths: dict[Source, SourceStatus] | None = None) -> None:
        self.healths = healths or {}
        self.unready: set[Expr] = set()
        self.touching: dict[VectorSelector, set[Source]] | None = None
        self.words: dict[Source, Reported] = {}
        self.patchy: set[Source] = set()
        self.silent: set[Source] = set()
        self.samples: dict[str, list[int]] = {}

    def touched(self, selector: VectorSelector) -> frozenset[Source]:
        if self.touching is not None:
            return frozenset(self.touching.get(selector, ()))
        return frozenset(self.healths)

    def health(self, source: Source) -> SourceStatus:
        return self.healths.get(source, SourceStatus.GONE)

    def speaks(self, source: Source) -> bool:
        return source not in self.silent and self.health(source) is not SourceStatus.GONE

    def fills(self, source: Source, window: RangeWindow, at_ms: int) -> bool:
        return window.length_ms == 0 or source not in self.patchy

    def ready(self, expr: Expr) -> bool:
        return expr not in self.unready

    def said(self, source: Source, since_ms: int) -> Reported:
        known = Reported.ALL if source in self.healths else Reported.NOTHING
        return self.words.get(source, known)

    def has(self, selector: VectorSelector, labels: Labels, t0_ms: int, t1_ms: int) -> bool:
        return any(t0_ms <= at <= t1_ms for at in self.samples.get(selector.name, ()))


class Written:
    """Keeps what each source wrote, by time; gives what is in force as Prometheus would."""

    def __init__(self) -> None:
        self.calls: list[tuple[Source, int, dict[Labels, float]]] = []

    def __call__(self, source: Source, at_ms: int, samples: Sequence[tuple[Labels, float]]) -> None:
        self.calls.append((source, at_ms, dict(samples)))

    def last(self, source: Source) -> dict[Labels, float]:
        return next((held for one, _, held in reversed(self.calls) if one == source), {})

    def now(self) -> dict[Labels, float]:
        """Every series that is not stale."""
        held: dict[Labels, float] = {}
        for source in dict.fromkeys(source for source, _, _ in self.calls):
            held |= self.last(source)
        return held


class MemoryJournal:
    """An InstanceJournal whose rows are a dict."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[InstanceRow]] = {}
        self.saves = 0

    async def load(self) -> list[InstanceRow]:
        return [row for rows in self.rows.values() for row in rows]

    async def save(self, file: str, group: str, rows: Sequence[InstanceRow]) -> None:
        self.saves += 1
        self.rows[file, group] = list(rows)


def surroundings(script: Mapping[str, Answer], **changes: Any) -> EvaluationDeps:
    """Scripted answers, nothing dead, a clock that stands; `changes` replace fields."""
    plain = EvaluationDeps(ScriptedEngine(script), Written(), SetSources(), lambda: 0.0)
    return replace(plain, **changes)
