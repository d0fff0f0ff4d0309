"""What the proxy counts: `llm_*` of the engine behind it, measured where its answers pass.

The labels are bounded: a client may name any model, so only
one that the engine has answered for gets a label of its own, and no more than some of them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tocsin_exporter.catalogue import LLM, OWN
from tocsin_exporter.catalogue.llm import FIRST_TOKEN, LATENCY, PER_TOKEN, TOKENS
from tocsin_exporter.snapshot import (
    Exemplar,
    Family,
    Labels,
    Sample,
    SeriesKey,
    sorted_labels,
)

MOST_MODELS = 64
OTHER = "_other"
ENGINE = "proxy"  # the label `engine`: who has measured

SUCCESS, ERROR, TIMEOUT, CANCELLED, REJECTED = (
    "success",
    "error",
    "timeout",
    "cancelled",
    "rejected",
)
STATUSES = (SUCCESS, ERROR, TIMEOUT, CANCELLED, REJECTED)
_LATE = frozenset((SUCCESS, ERROR, TIMEOUT))  # those whose time says something of the engine


@dataclass(frozen=True, slots=True)
class Example:
    """Which request an observation is of, and when it ended, in Unix milliseconds."""

    request_id: str
    at_ms: int

    @property
    def labels(self) -> Labels:
        return (("request_id", self.request_id),)


class BucketCounts:
    """Observations by bucket, as Prometheus has them: `bounds` are upper ones, inclusive."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.examples: dict[int, Exemplar] = {}  # the last one of each bucket

    def observe(self, value: float, times: int = 1, example: Example | None = None) -> None:
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += times
        self.sum += value * times
        if example is not None:
            self.examples[bucket] = Exemplar(example.labels, value, example.at_ms)

    def samples(self, family: Family, own: Labels) -> Iterator[Sample]:
        below = 0
        for bucket, count in enumerate(self.counts):
            below += count
            yield Sample(family, below, self._labels(bucket, own), "_bucket")
        yield Sample(family, self.sum, own, "_sum")
        yield Sample(family, below, own, "_count")

    def exemplars(self, family: str, own: Labels) -> Iterator[tuple[SeriesKey, Exemplar]]:
        for bucket, example in self.examples.items():
            yield (f"{family}_bucket", self._labels(bucket, own)), example

    def _labels(self, bucket: int, own: Labels) -> Labels:
        le = repr(self.bounds[bucket]) if bucket < len(self.bounds) else "+Inf"
        return sorted_labels({**dict(own), "le": le})


def _latencies() -> dict[str, BucketCounts]:
    return {status: BucketCounts(LATENCY) for status in STATUSES if status in _LATE}


@dataclass
class ModelCounters:
    """Of one model."""

    ended: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(STATUSES, 0)))
    finished: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    prompt_tokens: int = 0
    generated_tokens: int = 0
    first_token: BucketCounts = field(default_factory=lambda: BucketCounts(FIRST_TOKEN))
    inter_token: BucketCounts = field(default_factory=lambda: BucketCounts(PER_TOKEN))
    per_token: BucketCounts = field(default_factory=lambda: BucketCounts(PER_TOKEN))
    prompts: BucketCounts = field(default_factory=lambda: BucketCounts(TOKENS))
    answers: BucketCounts = field(default_factory=lambda: BucketCounts(TOKENS))
    latency: dict[str, BucketCounts] = field(default_factory=_latencies)
    anomalies: Counter[str] = field(default_factory=Counter)


class ProxyMetrics:
    """`target` is the engine's. What is not about tokens is counted by client and code alone."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.running = self.waiting = 0
        self.started = 0
        self.requests: Counter[tuple[str, int]] = Counter()  # by client and HTTP status
        self.client_tokens: Counter[tuple[str, str]] = Counter()
        self.log_lost = 0
        self.engine_connects = 0
        self.engine_connections = 0
        self._models: dict[str, ModelCounters] = {}

    def model(self, name: str) -> ModelCounters:
        """The counters of a model, of `_other` where there are too many."""
        if name not in self._models and len(self._models) >= MOST_MODELS:
            name = OTHER
        return self._models.setdefault(name, ModelCounters())

    def samples(self) -> Iterator[Sample]:
        own = self._labels("")
        yield Sample(LLM["llm_requests_started_total"], self.started, own)
        yield Sample(LLM["llm_num_requests_running"], self.running, own)
        yield Sample(LLM["llm_num_requests_waiting"], self.waiting, own)
        for name, counters in self._models.items():
            yield from self._of_model(name, counters)
        yield from self._own()

    def _own(self) -> Iterator[Sample]:
        target = {"target": self.target}
        for (client, code), count in self.requests.items():
            labels = sorted_labels({**target, "client": client, "code": str(code)})
            yield Sample(OWN["tocsin_proxy_requests_total"], count, labels)
        for (client, kind), count in self.client_tokens.items():
            labels = sorted_labels({**target, "client": client, "type": kind})
            yield Sample(OWN["tocsin_proxy_client_tokens_total"], count, labels)
        labels = sorted_labels(target)
        yield Sample(OWN["tocsin_proxy_access_log_lost_total"], self.log_lost, labels)
        yield Sample(OWN["tocsin_proxy_engine_connects_total"], self.engine_connects, labels)
        yield Sample(OWN["tocsin_proxy_engine_connections"], self.engine_connections, labels)

    def _of_model(self, name: str, counters: ModelCounters) -> Iterator[Sample]:
        own = self._labels(name)
        for status, count in counters.ended.items():
            yield Sample(LLM["llm_requests_total"], count, self._labels(name, status=status))
        for reason, count in counters.finished.items():
            labels = self._labels(name, finished_reason=reason)
            yield Sample(LLM["llm_request_success_total"], count, labels)
        for (kind, code), count in counters.errors.items():
            labels = self._labels(name, error_type=kind, http_status=code)
            yield Sample(LLM["llm_request_errors_total"], count, labels)
        for kind, count in counters.anomalies.items():
            labels = self._labels(name, kind=kind)
            yield Sample(LLM["llm_output_anomalies_total"], count, labels)
        yield Sample(LLM["llm_prompt_tokens_total"], counters.prompt_tokens, own)
        yield Sample(LLM["llm_generation_tokens_total"], counters.generated_tokens, own)
        for kind, count in (
            ("input", counters.prompt_tokens),
            ("output", counters.generated_tokens),
        ):
            yield Sample(LLM["llm_tokens_total"], count, self._labels(name, type=kind))
        for family, histogram, labels in self._histograms(name, counters):
            yield from histogram.samples(LLM[family], labels)

    def _histograms(
        self, name: str, counters: ModelCounters
    ) -> Iterator[tuple[str, BucketCounts, Labels]]:
        own = self._labels(name)
        yield "llm_time_to_first_token_seconds", counters.first_token, own
        yield "llm_inter_token_latency_seconds", counters.inter_token, own
        yield "llm_request_time_per_output_token_seconds", counters.per_token, own
        yield "llm_request_prompt_tokens", counters.prompts, own
        yield "llm_request_generation_tokens", counters.answers, own
        for status, histogram in counters.latency.items():
            yield "llm_e2e_request_latency_seconds", histogram, self._labels(name, status=status)

    def exemplars(self) -> dict[SeriesKey, Exemplar]:
        """By the series of the bucket."""
        return {
            key: example
            for name, counters in self._models.items()
            for family, histogram, labels in self._histograms(name, counters)
            for key, example in histogram.exemplars(family, labels)
        }

    def _labels(self, model: str, **more: str) -> Labels:
        return sorted_labels({"model_name": model, "engine": ENGINE, "target": self.target, **more})
