"""Percentiles, rates and shares of an engine over the last minutes, for people without PromQL.

They are what PromQL gives for the same samples (`histogram_quantile`, `rate`), of one model and
engine each, and cannot be put together for several. A window counts once the readings fill it: a
gauge is absent before, as it is after an outage, and a percentile or share also without a request.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.snapshot import Labels, Sample

WINDOWS = {"1m": 60.0, "5m": 300.0}
QUANTILES = {"0.5": 0.5, "0.95": 0.95, "0.99": 0.99}
MOST_SERIES = 4_096  # that are looked at; an engine of one model has some 120
_YOUNGEST, _OLDEST = 0.9, 1.25  # of a window: the age of the reading that it may begin with
_HISTOGRAMS = (
    "llm_time_to_first_token",
    "llm_request_time_per_output_token",
    "llm_inter_token_latency",
    "llm_e2e_request_latency",
)
_TOKENS = ("llm_prompt_tokens", "llm_generation_tokens")
_BUCKETS = {f"{stem}_seconds": f"{stem}_quantile_seconds" for stem in _HISTOGRAMS}
_RATES = {f"{stem}_total": f"{stem}_per_second" for stem in _TOKENS}
_REQUESTS = "llm_requests_total"
_SHARES = ("success", "error", "timeout")  # what the client did itself is no share of the service
_ABOUT = ("model_name", "engine", "target")
_Vector = NDArray[np.float64]


class _Key(NamedTuple):
    """A number that is followed: `part` is the bound of a bucket or the status of requests."""

    name: str
    about: Labels
    part: str


class EngineWindows:
    """Keeps the readings of the longest window; `read` takes one and gives the gauges after it."""

    def __init__(self, families: Table) -> None:
        self._families = families
        self._forget()

    def read(self, samples: Sequence[Sample], at: float) -> Iterator[Sample]:
        """`at` is in seconds of a clock that is never set."""
        current = _followed(samples)
        if len(current) > MOST_SERIES or len(self._rows) > 2 * MOST_SERIES:
            self._forget()
            if len(current) > MOST_SERIES:
                return
        self._keep(current, at)
        for window, seconds in WINDOWS.items():
            start = self._start(at, seconds)
            if start is not None:
                grown = self._history[-1][1][: len(start[1])] - start[1]
                yield from self._gauges(grown, at - start[0], window)

    def _forget(self) -> None:
        self._rows: dict[_Key, int] = {}
        self._raw: _Vector = np.empty(0)
        self._before: _Vector = np.empty(0)  # what was counted before the counters began anew
        self._history: deque[tuple[float, _Vector]] = deque()

    def _keep(self, current: Mapping[_Key, float], at: float) -> None:
        for key in current:
            self._rows.setdefault(key, len(self._rows))
        more = len(self._rows) - len(self._raw)
        self._raw = np.append(self._raw, np.full(more, np.nan))
        self._before = np.append(self._before, np.zeros(more))
        values = np.full(len(self._rows), np.nan)
        values[[self._rows[key] for key in current]] = list(current.values())
        self._before += np.where(values < self._raw, self._raw, 0.0)
        self._raw = np.where(np.isnan(values), self._raw, values)
        self._history.append((at, values + self._before))
        longest = max(WINDOWS.values()) * _OLDEST
        while self._history[0][0] < at - longest:
            self._history.popleft()

    def _start(self, at: float, seconds: float) -> tuple[float, _Vector] | None:
        """The reading with which the window begins: the one whose age is nearest to its length."""
        ages = ((abs(at - then - seconds), then, vector) for then, vector in self._history)
        _, then, vector = min(ages, key=lambda age: age[0])
        fits = _YOUNGEST * seconds <= at - then <= _OLDEST * seconds
        return (then, vector) if fits else None

    def _gauges(self, grown: _Vector, seconds: float, window: str) -> Iterator[Sample]:
        histograms: defaultdict[tuple[str, Labels], dict[float, float]] = defaultdict(dict)
        requests: defaultdict[Labels, dict[str, float]] = defaultdict(dict)
        tokens: defaultdict[Labels, dict[str, float]] = defaultdict(dict)
        for key, value in zip(self._rows, grown.tolist(), strict=False):
            if value != value:
                continue
            if key.name in _BUCKETS:
                histograms[key.name, key.about][float(key.part)] = value
            else:
                counts = requests if key.name == _REQUESTS else tokens
                counts[key.about][key.part or key.name] = value
        for (name, about), buckets in histograms.items():
            yield from self._quantiles(_BUCKETS[name], about, buckets, window)
        for about, by_name in tokens.items():
            yield from self._token_rates(about, by_name, seconds, window)
        for about, by_status in requests.items():
            rate = sum(by_status.values()) / seconds
            yield self._gauge("llm_requests_per_second", rate, about, window=window)
            yield from self._shares(about, by_status, window)

    def _quantiles(
        self, name: str, about: Labels, buckets: Mapping[float, float], window: str
    ) -> Iterator[Sample]:
        for q, share in QUANTILES.items():
            value = quantile(share, buckets)
            if value is not None:
                yield self._gauge(name, value, about, q=q, window=window)

    def _token_rates(
        self, about: Labels, by_name: Mapping[str, float], seconds: float, window: str
    ) -> Iterator[Sample]:
        for name, value in by_name.items():
            yield self._gauge(_RATES[name], value / seconds, about, window=window)
        if len(by_name) == len(_RATES):
            total = sum(by_name.values()) / seconds
            yield self._gauge("llm_total_tokens_per_second", total, about, window=window)

    def _shares(
        self, about: Labels, by_status: Mapping[str, float], window: str
    ) -> Iterator[Sample]:
        known = {status: by_status[status] for status in _SHARES if status in by_status}
        ended = sum(known.values())
        if ended > 0 and "success" in known:
            for status, value in known.items():
                yield self._gauge(f"llm_{status}_ratio", value / ended, about, window=window)

    def _gauge(self, name: str, value: float, about: Labels, **more: str) -> Sample:
        return Sample(self._families[name], value, tuple(sorted((*about, *more.items()))))


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """As Prometheus's `histogram_quantile`: `buckets` are counts up to each bound, the last one
    infinite. None without an observation, or without a finite bound."""
    bounds = sorted(buckets)
    counts = np.maximum.accumulate([buckets[bound] for bound in bounds]) if bounds else np.zeros(1)
    if len(bounds) < 2 or bounds[-1] != float("inf") or not counts[-1] > 0:
        return None
    rank = share * counts[-1]
    at = int(np.searchsorted(counts, rank))
    if at >= len(bounds) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    low, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    return float(low + (bounds[at] - low) * (rank - below) / (counts[at] - below))


def _followed(samples: Sequence[Sample]) -> dict[_Key, float]:
    """Requests that the client gave up or that were refused have no part in a latency."""
    followed: defaultdict[_Key, float] = defaultdict(float)
    for family, value, labels, suffix in samples:
        name = family.name
        if name in _BUCKETS and suffix == "_bucket":
            own = dict(labels)
            if own.get("status") in ("cancelled", "rejected"):
                continue
            part = own.get("le", "+Inf")
        elif name == _REQUESTS:
            part = dict(labels).get("status", "")
        elif name in _RATES:
            part = ""
        else:
            continue
        followed[_Key(name, tuple(pair for pair in labels if pair[0] in _ABOUT), part)] += value
    return dict(followed)
