"""Runs a script's commands one after the other and says how each evaluation went."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from support.promqltest.script import Clear, Command, Eval, Load
from support.promqltest.verdict import error_faults, faults, vector_faults
from support.scattered import ScatteredReader
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.parser.ast import Call, selectors, walk
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.result import Matrix, ScalarValue, StringValue
from tocsin_alerting.rules.series_notation import STALE
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.snapshot import Labels

_FOREVER = 10**15
_STALE = np.array([STALE_BITS], np.int64).view(np.float64)[0]
_OF_THE_QUERY = re.compile(r"\b(range|step|start|end)\(\)")
_MINUTE = 60_000
Samples = dict[Labels, dict[int, float]]


@dataclass(frozen=True)
class Outcome:
    """`faults` is empty for a pass; `skipped` says that it needs native histograms."""

    command: Eval
    faults: list[str]
    skipped: bool = False


class Bench:
    """The samples loaded so far, and an engine over them."""

    def __init__(self, semantics: Semantics = 3) -> None:
        self._semantics: Semantics = semantics
        self._samples: Samples = {}
        self._starts: dict[Labels, dict[int, int]] = {}
        self._native: list[Labels] = []
        self._engine: QueryEngine | None = None

    def run(self, commands: Iterator[Command]) -> Iterator[Outcome]:
        for command in commands:
            match command:
                case Clear():
                    self._samples, self._starts, self._native, self._engine = {}, {}, [], None
                case Load():
                    self._load(command)
                case Eval():
                    yield self._evaluate(command)

    def _load(self, command: Load) -> None:
        self._engine = None
        for points in command.series:
            if points.native:
                self._native.append(points.labels)
            into = self._samples.setdefault(points.labels, {})
            for at, value in enumerate(points.values):
                if value is not None:
                    into[at * command.step_ms] = _STALE if value == STALE else float(value)
            if command.nhcb and dict(points.labels).get("__name__", "").endswith("_bucket"):
                self._native.append(_native_of(points.labels))
        for points in command.starts:
            began = self._starts.setdefault(points.labels, {})
            for at, offset_ms in enumerate(points.values):
                if isinstance(offset_ms, float):
                    began[at * command.step_ms] = at * command.step_ms + int(offset_ms)

    def engine(self) -> QueryEngine:
        if self._engine is None:
            store = Store(retention_ms=_FOREVER)
            store.write(
                (labels, at_ms, value)
                for labels, samples in self._samples.items()
                for at_ms, value in samples.items()
                if labels not in self._starts
            )
            scattered = {labels: sorted(self._samples[labels].items()) for labels in self._starts}
            reader = ScatteredReader(scattered, self._starts, store) if scattered else store
            self._engine = QueryEngine(reader, self._semantics)
        return self._engine

    def _evaluate(self, command: Eval) -> Outcome:
        """Skipped only when native histograms are expected, or in play where it would fail."""
        if any(points.native for points in command.expected.series):
            return Outcome(command, [], skipped=True)
        try:
            found = self._faults(command)
        except (ParseError, QueryError) as error:
            found = error_faults(command, error)
        skipped = bool(found) and self._needs_native(command)
        return Outcome(command, [] if skipped else found, skipped)

    def _needs_native(self, command: Eval) -> bool:
        try:
            expr = parse(command.query, self._semantics)
        except ParseError:
            return False
        native = ("histogram_avg", "histogram_count", "histogram_sum", "histogram_std")
        if any(isinstance(node, Call) and node.function.startswith(native) for node in walk(expr)):
            return True
        return any(
            all(matcher.matches(dict(labels).get(matcher.name, "")) for matcher in matchers)
            for selector in selectors(expr)
            for matchers in selector.matcher_sets
            for labels in self._native
        )

    def _faults(self, command: Eval) -> list[str]:
        engine = self.engine()
        if command.is_range:
            times = (command.start_ms, command.end_ms, command.step_ms)
            return faults(command, engine.evaluate_range(command.query, *times))
        result = engine.evaluate(command.query, command.start_ms)
        found = faults(command, result)
        if found or isinstance(result.value, StringValue | Matrix) or command.expected.ordered:
            return found
        return [f"as a range: {one}" for one in self._as_range(command, engine, result.value)]

    def _as_range(self, command: Eval, engine: QueryEngine, value: object) -> list[str]:
        """An instant query must answer the same as the middle step of a range query."""
        if _OF_THE_QUERY.search(command.query):
            return []
        at_ms = command.start_ms
        matrix = engine.evaluate_range(command.query, at_ms - _MINUTE, at_ms + _MINUTE, _MINUTE)
        assert isinstance(matrix.value, Matrix)
        found = [
            (one.labels, number)
            for one in matrix.value
            for time, number in zip(one.times.tolist(), one.values.tolist(), strict=True)
            if time == at_ms
        ]
        if isinstance(value, ScalarValue):
            same = repr(found) == repr([((), value.value)])
            return [] if same else [f"{found} is not {value.value}"]
        return vector_faults(command, found, ordered=False)


def _native_of(labels: Labels) -> Labels:
    """The native histogram that `load_with_nhcb` makes of a bucket's series."""
    held = {name: value for name, value in labels if name != "le"}
    held["__name__"] = held["__name__"].removesuffix("_bucket")
    return tuple(sorted(held.items()))
