"""The load of `scripts/bench rules`: one target with many series, and the rules that read it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tocsin_exporter.snapshot import Family, Labels, Layout, Series, labels

Values = NDArray[np.float64]

KINDS = {
    "gauge > 85": "gauge > 85",
    "ratio of rates": 'sum by (shard) (rate(c{code="500"}[5m])) / sum by (shard) (rate(c[5m]))'
    " > 0.5",
    "histogram_quantile": "histogram_quantile(0.95, sum by (le, shard) (rate(b_bucket[5m]))) > 9",
    "avg_over_time": 'avg_over_time(gauge{zone="z1"}[5m]) < 5',
    "max by": "max by (replica) (gauge) > 89.9",
}
SHARDS, ZONES = 20, 3
CODES = ("200", "404", "500")
BOUNDS = ("0.5", "1", "2.5", "5", "7.5", "10", "25", "50", "+Inf")
QUICK = np.array([0.4, 0.6, 0.9, 0.97, 0.99, 1.0, 1.0, 1.0, 1.0])  # share below each bound
SLOW = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.97, 0.99, 1.0])
GAUGE = Family("gauge", "gauge", "")
COUNTER = Family("c", "counter", "")
HISTOGRAM = Family("b", "histogram", "")


@dataclass(frozen=True)
class RuleLoad:
    """`series` series: a third gauges, a third counters, a third buckets.

    With `firing` gauges lie anywhere in 0..90, and half of the shards fail and are slow; without,
    no rule has anything to say. Values depend on `page`, the number of the scrape, alone.
    """

    series: int = 5000
    firing: bool = True
    every_seconds: float = 5.0
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(4911))

    @cached_property
    def layout(self) -> Layout:
        return Layout(tuple(self._all_series()))

    @cached_property
    def counters(self) -> int:
        return self.series // 3 // len(BOUNDS) * len(BOUNDS)

    def values(self, page: int) -> Values:
        """One number a series, in the order of `layout`."""
        seconds = (page + 1_000) * self.every_seconds  # counters have counted for a while
        gauges = self._levels + 0.02 * np.sin(page + np.arange(len(self._levels)))
        counted = np.floor(self._rates * seconds)
        observed = np.floor(self._observed * seconds)
        return np.concatenate([gauges, counted, observed])

    def page(self, page: int) -> bytes:
        """The same in the text format."""
        lines = zip(self._heads, self.values(page).tolist(), strict=True)
        return "\n".join([f"{head}{value!r}" for head, value in lines]).encode() + b"\n"

    def _all_series(self) -> Iterator[Series]:
        for i in range(self.series - 2 * self.counters):
            yield Series(GAUGE, "gauge", _place(i))
        for i in range(self.counters):
            yield Series(COUNTER, "c", _place(i // len(CODES), code=CODES[i % len(CODES)]))
        for i in range(self.counters):
            bound = BOUNDS[i % len(BOUNDS)]
            yield Series(HISTOGRAM, "b_bucket", _place(i // len(BOUNDS), le=bound))

    @cached_property
    def _heads(self) -> list[str]:
        return [_head(one) for one in self.layout.series]

    @cached_property
    def _levels(self) -> Values:
        """No level is so near to a threshold that its noise crosses it."""
        count = self.series - 2 * self.counters
        if not self.firing:
            return self._random.uniform(10, 80, count)
        levels = self._random.permutation(np.linspace(0, 90, count))
        for threshold in (5.0, 85.0, 89.9):
            levels[np.abs(levels - threshold) < 0.05] = threshold + 0.05
        return levels

    @cached_property
    def _rates(self) -> Values:
        """A second, by counter; errors are the larger part in shards that fail."""
        rates = self._random.uniform(1, 20, self.counters)
        place, code = np.divmod(np.arange(self.counters), len(CODES))
        errors = code == CODES.index("500")
        rates[errors] *= np.where(self._troubled(place[errors]), 10, 0.01)
        return rates

    @cached_property
    def _observed(self) -> Values:
        """Observations a second up to each bound; they never fall from a bound to the next."""
        histograms = np.arange(self.counters // len(BOUNDS))
        shares = np.where(self._troubled(histograms)[:, None], SLOW, QUICK)
        return (shares * self._random.uniform(5, 50, (len(histograms), 1))).ravel()

    def _troubled(self, place: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.firing & (place % SHARDS < SHARDS // 2)


def _place(number: int, **more: str) -> Labels:
    """The labels of the so-manieth place: a replica has one in every shard, in every zone."""
    shard, zone = number % SHARDS, number // SHARDS % ZONES
    replica = number // (SHARDS * ZONES)
    return labels(replica=f"r{replica}", shard=f"s{shard}", zone=f"z{zone}", **more)


def _head(series: Series) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in series.labels)
    return f"{series.name}{{{inside}}} "


def rule_file(each: int, waits: str, every: str) -> str:
    """One group with `each` rules of each kind; alert K3x17 is the 17th of the third kind."""
    lines = ["groups:", "- name: load", f"  interval: {every}", "  rules:"]
    for kind, expr in enumerate(KINDS.values()):
        for number in range(each):
            lines += [
                f"  - alert: K{kind}x{number}",
                f"    expr: {expr}",
                f"    for: {waits}",
            ]
    return "\n".join(lines) + "\n"


def kind_of(alertname: str) -> str:
    return list(KINDS)[int(alertname[1 : alertname.index("x")])]
