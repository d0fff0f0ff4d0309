"""The load of `scripts/bench backtest`: a day of one target, and 100 rules that have something to
say now and then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from measuring.history import DAY_MS, Times
from measuring.remote_write import RemoteWriter
from measuring.rule_load import BOUNDS, QUICK, SHARDS, SLOW, RuleLoad, Values
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.target_labels import METRIC_NAME, stored_labels
from tocsin_exporter.snapshot import Labels, Snapshot, Source

SOURCE = Source("load", "127.0.0.1:9100")
_TOGETHER = 480  # pages of a request of remote write
_KINDS = (
    ("gauge > {:.1f}", 80.0, 0.5),
    (
        'sum by (shard) (rate(c{{code="500"}}[5m])) / sum by (shard) (rate(c[5m])) > {:.3f}',
        0.3,
        0.01,
    ),
    ("histogram_quantile(0.95, sum by (le, shard) (rate(b_bucket[5m]))) > {:.1f}", 9.0, 0.5),
    ('avg_over_time(gauge{{zone="z1"}}[5m]) < {:.1f}', 12.0, 0.2),
    ("max by (replica) (gauge) > {:.1f}", 86.0, 0.2),
)


@dataclass(frozen=True)
class RuleDay:
    """`series` series, a third gauges, a third counters, a third buckets, every `every_seconds` for
    `hours` from `start_ms` on (Unix ms). A gauge swings about its level, each at its own pace; a
    shard fails and is slow for some quarters of an hour, each at other times."""

    start_ms: int
    series: int = 1500
    every_seconds: float = 15.0
    hours: float = 24.0
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(4911))

    @property
    def times(self) -> Times:
        step_ms = round(self.every_seconds * 1000)
        return self.start_ms + step_ms * np.arange(round(self.hours * 3_600_000 / step_ms))

    @property
    def end_ms(self) -> int:
        return int(self.times[-1])

    @cached_property
    def labels(self) -> list[Labels]:
        """As a Prometheus keeps them."""
        layout = RuleLoad(self.series).layout
        return [stored_labels(SOURCE, one) for one in layout.series]

    @cached_property
    def values(self) -> Values:
        """A row a series, a column a time."""
        counters = RuleLoad(self.series).counters
        histograms = counters // len(BOUNDS)
        troubled = self._troubled
        seconds = self.every_seconds
        rates = self._random.uniform(1, 20, (counters, 1)) * np.ones(len(self.times))
        for i in range(2, counters, 3):  # code="500"
            rates[i] *= np.where(troubled[i // 3 % SHARDS], 10, 0.01)
        observed = self._random.uniform(5, 50, histograms)
        seen = [self._seen(observed[i], troubled[i % SHARDS]) for i in range(histograms)]
        counted = np.floor(np.cumsum(rates * seconds, axis=1))
        return np.concatenate([self._gauges(self.series - 2 * counters), counted, *seen])

    def _seen(self, each_second: float, troubled: Values) -> Values:
        """A histogram's buckets (bounds, times): what is in one is in all that follow."""
        shares = np.where(troubled[None], SLOW[:, None], QUICK[:, None])
        between = np.diff(shares, axis=0, prepend=0) * each_second * self.every_seconds
        return np.cumsum(np.floor(np.cumsum(between, axis=1)), axis=0)

    def _gauges(self, count: int) -> Values:
        hours = (self.times - self.start_ms) / 3_600_000
        level, swing = self._random.uniform(10, 75, (2, count, 1))
        pace, phase = self._random.uniform(2, 9, (2, count, 1))
        noise = self._random.normal(0, 0.1, (count, len(hours)))
        swings = level + swing / 4 * np.sin(2 * np.pi * hours / pace + phase) + noise
        return np.clip(swings, 0, 90).round(3)

    @cached_property
    def _troubled(self) -> Values:
        """By shard (20 rows), whether it fails then."""
        quarters = self._random.random((SHARDS, round(self.hours * 4) + 1)) < 0.06
        at = ((self.times - self.start_ms) // 900_000).astype(int)
        return quarters[:, at]

    def to_file(self, path: Path) -> None:
        """OpenMetrics, series by series, as promtool wants and writes it."""
        seconds = [f"{at / 1000:.0f}\n" for at in self.times.tolist()]
        with path.open("w") as file:
            for labels, row in zip(self.labels, self.values, strict=True):
                head = _head(labels)
                lines = zip(row.tolist(), seconds, strict=True)
                file.writelines(f"{head} {value:g} {at}" if value < 100 else
                    f"{head} {value:.0f} {at}" for value, at in lines)  # fmt: skip
            file.write("# EOF\n")

    def to_directory(self, samples: Path) -> None:
        """As an agent leaves them that has watched this target."""
        disk = DiskPersistence(samples, BlockStore(samples, 30 * DAY_MS, 2**34))
        store = Store(persistence=disk)
        disk.start(store)
        layout = RuleLoad(self.series).layout
        for number, (at_ms, row) in enumerate(zip(self.times.tolist(), self.values.T, strict=True)):
            store.append(Snapshot(SOURCE, at_ms, True, layout, row.copy()))
            if number % 120 == 0:
                store.expire(at_ms)
                disk.tick()
        disk.close()

    def to_server(self, port: int) -> None:
        """By remote write, in the order of time."""
        writer = RemoteWriter(port, self.labels)
        for start in range(0, len(self.times), _TOGETHER):
            stop = start + _TOGETHER
            writer.write(self.times[start:stop], self.values[:, start:stop])


def rule_file(rules: int, waits: str, every: str) -> str:
    """One group of so many alerting rules; no two have the same threshold."""
    lines = ["groups:", "- name: load", f"  interval: {every}", "  rules:"]
    for number in range(rules):
        text, first, step = _KINDS[number % len(_KINDS)]
        lines += [
            f"  - alert: R{number}",
            f"    expr: {text.format(first + step * (number // len(_KINDS)))}",
            f"    for: {waits}",
            f"    labels: {{severity: P{number % 4 + 1}}}",
        ]
    return "\n".join(lines) + "\n"


def _head(labels: Labels) -> str:
    own: Mapping[str, str] = dict(labels)
    return own[METRIC_NAME] + "{" + ",".join(_pairs(own)) + "}"


def _pairs(own: Mapping[str, str]) -> Iterator[str]:
    return (f'{name}="{value}"' for name, value in own.items() if name != METRIC_NAME)
