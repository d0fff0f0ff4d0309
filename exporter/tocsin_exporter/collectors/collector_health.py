"""How one collector is doing: kept by the runner, shown as `tocsin_collector_*`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from tocsin_exporter.catalogue import OWN
from tocsin_exporter.snapshot import Labels, Sample, labels

_DURATION = OWN["tocsin_collector_duration_seconds"]
_SUCCESS = OWN["tocsin_collector_success"]
_AGE = OWN["tocsin_collector_age_seconds"]
_LAST_SUCCESS = OWN["tocsin_collector_last_success_timestamp_seconds"]
_TIMEOUTS = OWN["tocsin_collector_timeouts_total"]
_ERRORS = OWN["tocsin_collector_errors_total"]
_SKIPPED = OWN["tocsin_collector_lines_skipped_total"]
_DROPPED = OWN["tocsin_series_dropped_total"]


@dataclass
class CollectorHealth:
    """`success` is None while the collector has nothing to read here (no GPU); `error` says why
    the last reading failed. `down`: what it reads is down, which an `up` says, and the collector
    did its work. `skipped` and `dropped` are the collector's own counts."""

    collector: str
    target: str = ""
    success: bool | None = None
    down: bool = False
    duration_seconds: float = 0.0
    last_success_ms: int | None = None
    last_success_at: float | None = None  # on the monotonic clock
    error: str = ""
    failure: type[BaseException] | None = None  # the kind of the last one
    timeouts: int = 0
    errors: Counter[str] = field(default_factory=lambda: Counter({"CollectorError": 0}))

    skipped: Mapping[str, int] = field(default_factory=dict)  # lines, by reason
    dropped: Mapping[str, int] = field(default_factory=dict)  # series, by family

    def __post_init__(self) -> None:
        self._labels = labels(collector=self.collector, target=self.target)

    def succeeded(self, at_ms: int, at: float) -> None:
        self.success, self.last_success_ms, self.last_success_at = True, at_ms, at
        self.error, self.down = "", False

    def failed(self, error: BaseException, down: bool = False) -> None:
        self.success, self.down = False, down
        self.failure = type(error)
        self.error = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            self.error = "missed its deadline"
            self.timeouts += 1
        else:
            self.errors[type(error).__name__] += 1

    def samples(self, at: float) -> Iterator[Sample]:
        """Nothing for a collector that has nothing to read; `at` is monotonic."""
        if self.success is None:
            return
        own = self._labels
        yield Sample(_DURATION, self.duration_seconds, own)
        yield Sample(_SUCCESS, float(self.success or self.down), own)
        yield Sample(_TIMEOUTS, self.timeouts, own)
        if self.last_success_ms is not None and self.last_success_at is not None:
            yield Sample(_LAST_SUCCESS, self.last_success_ms / 1000, own)
            yield Sample(_AGE, at - self.last_success_at, own)
        for kind, count in self.errors.items():
            yield Sample(_ERRORS, count, _and(own, "error_type", kind))
        for reason, count in self.skipped.items():
            yield Sample(_SKIPPED, count, _and(own, "reason", reason))
        for family, count in self.dropped.items():
            yield Sample(_DROPPED, count, _and(own, "family", family))


@lru_cache(maxsize=1024)
def _and(own: Labels, name: str, value: str) -> Labels:
    return tuple(sorted((*own, (name, value))))
