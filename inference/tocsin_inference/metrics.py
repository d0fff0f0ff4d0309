"""The worker's own instruments, on a registry of their own.

A request is one prompt given to the model, as in vLLM: a batch of eight prompts is eight requests.
Each is started once and ends in exactly one status, so that at any moment

    llm_requests_started_total = sum(llm_requests_total) + running + waiting

Names, labels and buckets are the canonical ones of the exporter; `target` is added by whoever
scrapes, because only the scraper knows the address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tocsin_exporter import output
from tocsin_exporter.answer_text import INVALID_JSON, KINDS
from tocsin_exporter.connections import HELP, Connections, samples
from tocsin_inference.errors import OUTCOMES, Outcome

TTFT = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TOKEN = (
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
LATENCY = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0),
    *(20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TOKENS = tuple(float(f * 10**e) for e in range(6) for f in (1, 2, 5) if f * 10**e <= 131072)
FINISHED = ("stop", "length")
LABELS = ("model_name", "engine")
ENGINE = "0"
_KINDS = tuple(kind for kind in KINDS if kind != INVALID_JSON)  # no JSON can be asked for
_TIMED: frozenset[Outcome] = frozenset({"success", "error", "timeout"})


@dataclass(slots=True)
class Ticket:
    """One request on its way; times on the server's monotonic clock, in seconds."""

    started: float
    dispatched: float | None = None
    first: float | None = None
    last: float | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    outcome: Outcome | None = None
    ended: float | None = None


class Metrics:
    """Every instrument, each with its labels already set, and the accounts behind `/stats`."""

    def __init__(self, model_name: str, version: str) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._labels = (model_name, ENGINE)
        self._version = version
        self.open = 0
        self.waiting = 0
        self.ended: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self.seconds_of_success = 0.0
        self._counters()
        self._histograms()
        self._info()
        self.watch("llm_num_requests_running", "Given to the model.", lambda: self.running)
        self.watch("llm_num_requests_waiting", "Not yet given to the model.", lambda: self.waiting)
        ProcessCollector(registry=self.registry)
        self.registry.register(_LogLines())
        self.connections = Connections()
        self.registry.register(_Http(self.connections))

    def _counters(self) -> None:
        counter = self._counter
        self._started = counter("llm_requests_started", "Requests accepted or refused.")
        status = Counter(
            "llm_requests",
            "Requests ended, by status.",
            (*LABELS, "status"),
            registry=self.registry,
        )
        self._ended = {o: status.labels(*self._labels, o) for o in OUTCOMES}
        self._prompt = counter("llm_prompt_tokens", "Prompt tokens of admitted requests.")
        self._generated = counter("llm_generation_tokens", "Tokens generated.")
        reasons = Counter(
            "llm_request_success",
            "Requests that ended well, by reason.",
            (*LABELS, "finished_reason"),
            registry=self.registry,
        )
        self._finished = {r: reasons.labels(*self._labels, r) for r in FINISHED}
        self._anomalies = Counter(
            "llm_output_anomalies",
            "Answers with a fault that shows in their text.",
            (*LABELS, "kind"),
            registry=self.registry,
        )

    def _histograms(self) -> None:
        h = self._histogram
        self._ttft = h("llm_time_to_first_token_seconds", "Arrival to first token.", TTFT)
        self._itl = h("llm_inter_token_latency_seconds", "Gap between tokens.", TOKEN)
        self._tpot = h(
            "llm_request_time_per_output_token_seconds",
            "(last - first token) / (n - 1), for answers of two tokens or more.",
            TOKEN,
        )
        self._e2e = h(
            "llm_e2e_request_latency_seconds",
            "Arrival to end, of requests that ended in success, error or timeout.",
            LATENCY,
        )
        self._queue = h("llm_request_queue_time_seconds", "Arrival to dispatch.", LATENCY)
        self._prefill = h("llm_request_prefill_time_seconds", "Dispatch to first token.", LATENCY)
        self._decode = h("llm_request_decode_time_seconds", "First to last token.", LATENCY)
        self._inference = h("llm_request_inference_time_seconds", "Prefill and decode.", LATENCY)
        self._prompts = h("llm_request_prompt_tokens", "Prompt tokens of a request.", TOKENS)
        self._answers = h("llm_request_generation_tokens", "Tokens generated for one.", TOKENS)

    def _info(self) -> None:
        info = Gauge(
            "llm_engine_info",
            "The engine behind this page.",
            (*LABELS, "engine_type", "version"),
            registry=self.registry,
        )
        info.labels(*self._labels, "tocsin", self._version).set(1)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, LABELS, registry=self.registry).labels(*self._labels)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(name, text, LABELS, registry=self.registry, buckets=buckets)
        return family.labels(*self._labels)

    @property
    def running(self) -> int:
        """Requests that the model has been given and that have not ended."""
        return self.open - self.waiting

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when the page is."""
        family = Gauge(name, text, LABELS, registry=self.registry)
        family.labels(*self._labels).set_function(read)

    def start(self, now: float) -> Ticket:
        """Counts a request as started; it must be given to `end`."""
        self._started.inc()
        self.open += 1
        self.waiting += 1
        return Ticket(started=now)

    def dispatch(self, ticket: Ticket, prompt_tokens: int, now: float) -> None:
        """The request left the queue for the model."""
        ticket.dispatched = now
        ticket.prompt_tokens = prompt_tokens
        self.waiting -= 1
        self._queue.observe(now - ticket.started)
        self._prompt.inc(prompt_tokens)

    def tokens(self, ticket: Ticket, count: int, now: float) -> None:
        """`count` tokens arrived together at `now`; the gap before them is shared among them."""
        self._generated.inc(count)
        ticket.tokens += count
        if ticket.first is None or ticket.last is None:
            ticket.first = now
            self._ttft.observe(now - ticket.started)
        else:
            gap = (now - ticket.last) / count
            for _ in range(count):
                self._itl.observe(gap)
        ticket.last = now

    def end(self, ticket: Ticket, outcome: Outcome, now: float, reason: str | None = None) -> None:
        """Counts the request under `outcome`, and if that is success, under its `reason`; only the
        first call for a ticket counts."""
        if ticket.outcome is not None:
            return
        ticket.outcome, ticket.ended = outcome, now
        self.open -= 1
        self.waiting -= ticket.dispatched is None
        self.ended[outcome] += 1
        self._ended[outcome].inc()
        if outcome in _TIMED:
            self._e2e.observe(now - ticket.started)
        if outcome == "success":
            self.seconds_of_success += now - ticket.started
            self._prompts.observe(ticket.prompt_tokens)
            self._answers.observe(ticket.tokens)
        if reason is not None:
            self._finished[reason].inc()
        self._observe_stages(ticket)

    def _observe_stages(self, ticket: Ticket) -> None:
        """As vLLM has them (v1/metrics/stats.py:FinishedRequestStats)."""
        dispatched, first, last = ticket.dispatched, ticket.first, ticket.last
        if dispatched is not None and first is not None and last is not None:
            self._prefill.observe(first - dispatched)
            self._decode.observe(last - first)
            self._inference.observe(last - dispatched)
        if ticket.tokens > 1 and ticket.first is not None and ticket.last is not None:
            self._tpot.observe((ticket.last - ticket.first) / (ticket.tokens - 1))

    def judges(self) -> None:
        """Answers are looked at: each kind of fault is there before the first of it."""
        for kind in _KINDS:
            self._anomalies.labels(*self._labels, kind)

    def anomaly(self, kind: str) -> None:
        self._anomalies.labels(*self._labels, kind).inc()

    def refuse(self, outcome: Outcome, now: float) -> None:
        """A request that ended before it could be accepted."""
        self.end(self.start(now), outcome, now)

    def page(self) -> bytes:
        """The text exposition, format 0.0.4, without the `_created` series that nobody reads."""
        return generate_latest(_WithoutCreated(self.registry))


class _LogLines(Collector):
    """What the agent says of its own log, under the same name."""

    def collect(self) -> Iterator[Metric]:
        text = "Log lines dropped, by reason."
        family = CounterMetricFamily("tocsin_log_lines_dropped", text, labels=["reason"])
        for reason, lines in output.dropped().items():
            family.add_metric([reason], lines)
        yield family


@dataclass(frozen=True, slots=True)
class _Http(Collector):
    """What the agent says of its own connections, under the same names."""

    connections: Connections

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in samples(self.connections):
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            if name not in families:
                families[name] = kind(name, HELP[name], labels=list(labels))
            families[name].add_metric(list(labels.values()), value)
        yield from families.values()


@dataclass(frozen=True, slots=True)
class _WithoutCreated(Collector):
    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        for family in self.registry.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family
