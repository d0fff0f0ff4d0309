"""Rules over a simulated week: which alert told of which fault, and what was noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import simulated_week as week
from support.simulated_week import Fault, Series, SimulatedBox
from tocsin_alerting.backtest.report import Judgement, LabelledIncident
from tocsin_alerting.backtest.run import Backtest, BacktestResult
from tocsin_alerting.config.load import load
from tocsin_alerting.promql.parser.types import refuse_unsupported
from tocsin_alerting.rules.rule_file import load as load_rules

_RULES = Path(__file__).resolve().parents[2] / "rules"
_AFTERWARDS_MS = 900_000  # a window of five minutes has to run full, and `for` as well


@dataclass(frozen=True)
class Pack:
    """Rule files, and the series of a box that they read."""

    files: Sequence[str]
    series: Callable[[SimulatedBox], Series]

    def replay(self, box: SimulatedBox, wrong: Sequence[Fault], interval_s: int) -> BacktestResult:
        files = load_rules([str(_RULES / name) for name in self.files], refuse_unsupported, 3)
        groups = [group for file in files for group in file.groups]
        within = int(box.times[0]), int(box.times[-1])
        job = Backtest(load(None), groups, within, interval_s * 1000)
        real = [
            LabelledIncident(
                week.BEGIN_MS + 1000 * f.start, week.BEGIN_MS + 1000 * f.end + _AFTERWARDS_MS
            )
            for f in wrong
        ]
        judgement = Judgement(tuple(real), complete=True)
        return job.run(self.series(box), judgement, 300_000, lambda done: None)


OWN = ("inference.yml", "baseline.yml", "gpu.yml", "host.yml", "tocsin.yml")
_ENGINE = ("inference.yml", "baseline.yml")
BASELINE_DAYS = 16  # a baseline is of two weeks and more
SLOWER = {
    "baseline": Pack(_ENGINE, week.agent_series),
    "targets": Pack(_ENGINE, week.with_targets),
}
PACKS = {
    "bundled": Pack(OWN, week.agent_series),
    "vllm": Pack(("prometheus/vllm.yml",), week.vllm_series),
    "sglang": Pack(("prometheus/sglang.yml",), week.sglang_series),
    "llamacpp": Pack(("prometheus/llamacpp.yml",), week.llamacpp_series),
}


def fired_after(result: BacktestResult, fault: Fault) -> float | None:
    """Seconds from the begin of the fault until its alert fired, in any tier; None: never."""
    begin = week.BEGIN_MS + 1000 * fault.start
    fired = [
        (span.fired_ms - begin) / 1000
        for replay in result.replays
        if replay.rule.name == fault.alertname
        for span in replay.spans
        if begin <= span.fired_ms <= week.BEGIN_MS + 1000 * fault.end + _AFTERWARDS_MS
    ]
    return min(fired, default=None)


def known_to(result: BacktestResult, fault: Fault) -> bool:
    return any(replay.rule.name == fault.alertname for replay in result.replays)
