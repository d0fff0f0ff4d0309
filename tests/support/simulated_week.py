"""A GPU box with one engine, as its series would be: days and nights, weekends, bursts, a backup, a
download of weights, restarts; and, if wanted, faults whose begin and end are known.

Nothing here knows a rule. All of it comes from a seed; times are seconds since the begin, a
Monday at 00:00 UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.tsdb.values import STALE, Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels, sorted_labels

BEGIN_MS = 1_700_438_400_000  # Monday, 20 November 2023
DAY = 86_400
ENGINE, BOX = "127.0.0.1:8000", "127.0.0.1:4911"
Series = dict[Labels, tuple[Ints, Floats]]
_SLOTS, _SERVICE = 64, 5.0  # requests in work at once, and seconds of each
_SECONDS = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 30, 60, np.inf)
_PER_TOKEN = (0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, np.inf)
_GB = 1e9


@dataclass(frozen=True)
class Fault:
    """What is wrong from `start` to `end` (s), which alert should tell of it, and how badly."""

    what: str
    alertname: str
    severity: str
    start: int
    end: int


def faults(days: int, of: Sequence[str] = ()) -> tuple[Fault, ...]:
    """All, or those with these names, one after the other from 8:00 to 19:00 of so many days."""
    every = [
        ("engine_dead", "InferenceEngineDown", "P0", 1_200),
        ("stalled", "InferenceEngineStalled", "P0", 900),
        ("errors", "InferenceErrorRateHigh", "P0", 900),
        ("slow_answers", "InferenceLatencyHigh", "P1", 1_500),
        ("slow_first_token", "InferenceFirstTokenSlow", "P2", 1_500),
        ("slow_tokens", "InferenceTokensSlow", "P2", 1_500),
        ("too_many_requests", "InferenceQueueGrowing", "P2", 2_400),
        ("cache_full", "InferenceKvCacheNearlyFull", "P3", 1_500),
        ("rejected", "InferenceRequestsRejected", "P2", 1_500),
        ("gpu_hot", "GPUTemperatureHigh", "P1", 1_200),
        ("xid", "GPUXidError", "P1", 600),
        ("gpu_lost", "GPUMissing", "P1", 600),
        ("gpu_memory", "GPUOutOfMemory", "P0", 600),
        ("gpu_idle", "GPUUnderused", "P1", 1_500),
        ("cpu", "HostCpuHigh", "P2", 2_400),
        ("memory", "HostMemoryHigh", "P2", 1_200),
        ("disk", "HostDiskFilling", "P1", 7_200),
        ("process", "HostProcessGone", "P2", 600),
        ("collector", "CollectorFailing", "P2", 900),
        ("mount", "HostMountHangs", "P2", 900),
        ("clock", "ClockStepped", "P3", 600),
        ("reload", "ConfigReloadFailed", "P2", 900),
        ("agent_silent", "TocsinDown", "P0", 600),
    ]
    every = [one for one in every if not of or one[0] in of]
    a_day = -(-len(every) // days)
    gap = 11 * 3_600 // a_day
    found = []
    for number, (what, alertname, severity, seconds) in enumerate(every):
        start = number // a_day * DAY + 8 * 3_600 + number % a_day * gap
        found.append(Fault(what, alertname, severity, start, start + min(seconds, gap - 600)))
    return tuple(found)


def drifts(days: int) -> tuple[Fault, ...]:
    """An engine that becomes slower than it was: from 8:00 on, on the last two of so many days."""
    every = (
        ("tokens_half", "InferenceThroughputDropped", "P0", 2_400),
        ("tokens_three_quarters", "InferenceThroughputDropped", "P1", 3_000),
        ("tokens_less", "InferenceThroughputDropped", "P2", 4_800),
        ("latency_up", "InferenceLatencyHigh", "P2", 3_600),
    )
    return tuple(
        Fault(what, name, severity, start, start + seconds)
        for number, (what, name, severity, seconds) in enumerate(every)
        for start in [(days - 2 + number // 2) * DAY + (9 + 5 * (number % 2)) * 3_600]
    )


class SimulatedBox:
    """`days` of it, scraped every `every` seconds; `wrong` are the faults that it has."""

    def __init__(
        self, days: int, every: int, wrong: Sequence[Fault] = (), seed: int = 4911
    ) -> None:
        self.every, self._wrong = every, wrong
        self.seconds: Ints = np.arange(0, days * DAY, every)
        self.times: Ints = BEGIN_MS + 1000 * self.seconds
        self._random = np.random.default_rng(seed)
        self._clean = np.random.default_rng(seed + 1)
        self._play()

    def during(self, what: str) -> Mask:
        """When there is this fault."""
        mask = np.zeros(len(self.seconds), np.bool_)
        for fault in self._wrong:
            if fault.what == what:
                mask |= (self.seconds >= fault.start) & (self.seconds < fault.end)
        return mask

    def _play(self) -> None:
        self.up = ~self.during("engine_dead") & ~self._restarts()
        stalled = self.during("stalled")
        self.serves = self.up & ~stalled
        wanted = self._random.poisson(self._demand() * self.every)
        wanted[~self.up] = 0
        self.capacity = _SLOTS / _SERVICE * self.every * np.ones(len(wanted))
        self._queue(wanted)
        self.slow = 1.0 + 0.5 * self.running / _SLOTS  # the more are in work, the slower is each

    def _demand(self) -> Floats:
        """Requests a second: a day with a long noon, quiet nights, half on weekends, bursts."""
        hour = self.seconds % DAY / 3_600
        by_day = np.interp(
            hour, (0, 6, 8, 9, 11, 13, 18, 21, 24), (0.02, 0.01, 0.5, 4, 6, 5, 6, 2, 0.02)
        )
        demand = by_day * np.where(self.seconds // DAY % 7 >= 5, 0.4, 1.0)
        bursts = self._random.random(len(demand)) < self.every / 7_200
        demand = demand * np.where(bursts, 2.0, 1.0)
        return np.where(self.during("too_many_requests"), 1.15 * _SLOTS / _SERVICE, demand)

    def _restarts(self) -> Mask:
        """Upgrades by night and by day, each too short for an alert."""
        mask = np.zeros(len(self.seconds), np.bool_)
        for start in (1 * DAY + 3 * 3_600, 4 * 3_600 + 1_800, 3 * DAY + 14 * 3_600):
            mask |= (self.seconds >= start) & (self.seconds < start + max(45, self.every))
        return mask

    def _queue(self, wanted: Ints) -> None:
        """Who waits, who is in work, and how many were answered, step by step."""
        count = len(wanted)
        self.waiting, self.running, self.ended = np.zeros(count), np.zeros(count), np.zeros(count)
        most = (
            np.where(self.during("gpu_idle") | self.during("cache_full"), 0.6, 1.0) * self.capacity
        )
        forced = self.during("gpu_idle") | self.during("cache_full")
        waiting = 0.0
        for at in range(count):
            if not self.up[at]:
                waiting = 0.0
                continue
            here = waiting + wanted[at]
            done = min(here, most[at]) if self.serves[at] else 0.0
            waiting = min(here - done, 400.0)
            if forced[at]:
                done, waiting = most[at], max(waiting, 6.0)
            self.ended[at] = round(done)
            busy = done / self.every * _SERVICE if self.serves[at] else 12.0
            self.running[at] = min(_SLOTS, round(busy))
            self.waiting[at] = round(waiting)

    def answers(self) -> dict[str, Floats]:
        """How many requests ended so, in each step."""
        share = np.where(self.during("errors"), 0.12, 0.002)
        error = self._random.binomial(self.ended.astype(int), share).astype(float)
        cancelled = self._random.binomial((self.ended - error).astype(int), 0.03).astype(float)
        rejected = np.where(self.during("rejected"), np.round(self.ended * 0.3) + 3, 0.0)
        success = self.ended - error - cancelled
        return {"success": success, "error": error, "cancelled": cancelled, "rejected": rejected}

    def tokens(self) -> Floats:
        """Of each step; a few hundred an answer, while it is written."""
        speed = np.where(self.serves, self.running * 40.0 * self.every / self.slow, 0.0)
        for what, left in (
            ("tokens_half", 0.42),
            ("tokens_three_quarters", 0.72),
            ("tokens_less", 0.84),
        ):
            speed = np.where(self.during(what), speed * left, speed)
        return np.round(speed * self._random.uniform(0.9, 1.1, len(speed)))

    def steps(self) -> Floats:
        """Of each step of time: 40 a second, while anything is in work."""
        return np.where(self.serves & (self.running > 0), 40.0 * self.every, 0.0)

    def buckets(self, median: Floats, spread: float, bounds: Sequence[float]) -> Floats:
        """(bounds, times): what was seen until then of times that are distributed log-normally."""
        width = np.log(np.array(bounds[:-1]))[None] - np.log(median)[:, None]
        below = np.hstack([_normal(width / spread), np.ones((len(median), 1))])
        shares = np.clip(np.diff(below, axis=1, prepend=0), 0, 1)
        shares /= shares.sum(axis=1, keepdims=True)
        seen = self._random.multinomial(self.ended.astype(int), shares)
        return np.cumsum(self.counted(seen.T.astype(float)), axis=0)

    def counted(self, steps: NDArray[Any]) -> Floats:
        """A counter of what each step had; it begins again when the engine is restarted."""
        total = np.cumsum(steps, axis=-1)
        begins = self.up & ~np.append(True, self.up[:-1])
        before = np.where(begins, total - steps, 0.0)
        counted: Floats = total - np.maximum.accumulate(before, axis=-1)
        return counted

    def latency(self) -> Floats:
        waits = self.waiting / (_SLOTS / _SERVICE)
        median = (1.4 * self.slow + waits * 0.3) * np.where(self.during("latency_up"), 1.6, 1.0)
        return np.where(self.during("slow_answers"), 6.0, median)

    def first_token(self) -> Floats:
        waits = self.waiting / (_SLOTS / _SERVICE)
        return np.where(self.during("slow_first_token"), 3.5, 0.2 * self.slow + 0.3 * waits)

    def per_token(self) -> Floats:
        return np.where(self.during("slow_tokens"), 0.09, 0.018 * self.slow)

    def cache(self) -> Floats:
        usual = np.clip(0.1 + 0.8 * self.running / _SLOTS + 0.02 * self._noise(), 0, 0.93)
        return np.where(self.during("cache_full"), 0.985, usual)

    def _noise(self) -> Floats:
        return self._clean.normal(0, 1, len(self.seconds))

    def busy(self) -> Floats:
        """How busy the GPU is, in percent: at night it is not, and with a queue it is."""
        usual = np.clip(100 * self.running / _SLOTS * 1.3 + 3 * self._noise(), 0, 100)
        usual = np.where(self.waiting > 0, np.maximum(usual, 92), usual)
        return np.where(self.during("gpu_idle"), 30.0, np.where(self.serves, usual, 0.0))


def _normal(z: Floats) -> Floats:
    """The share below it of the normal distribution (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    powers = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
    tail = (
        np.exp(-z * z / 2)
        / np.sqrt(2 * np.pi)
        * sum(factor * t ** (power + 1) for power, factor in enumerate(powers))
    )
    below: Floats = np.where(z >= 0, 1 - tail, tail)
    return below


def _labels(name: str, **more: str) -> Labels:
    return sorted_labels({"__name__": name, **more})


class _Page:
    """Series of one target, which has `there` or not."""

    def __init__(self, box: SimulatedBox, there: Mask, **labels: str) -> None:
        self._box, self._there, self._common = box, there, labels
        self.series: Series = {}

    def add(self, name: str, values: NDArray[Any] | float, **more: str) -> None:
        """Where the target is not there the series ends, with a stale marker."""
        cells = np.asarray(values, np.float64) * np.ones(len(self._box.times))
        ends = ~self._there & np.append(False, self._there[:-1])
        cells = np.where(ends, STALE, cells)
        kept = self._there | ends
        self.series[_labels(name, **self._common, **more)] = self._box.times[kept], cells[kept]

    def add_buckets(self, name: str, buckets: Floats, bounds: Sequence[float], **more: str) -> None:
        for bound, row in zip(bounds, buckets, strict=True):
            self.add(f"{name}_bucket", row, le="+Inf" if np.isinf(bound) else f"{bound:g}", **more)
        self.add(f"{name}_count", buckets[-1], **more)


def agent_series(box: SimulatedBox) -> Series:
    """What a Prometheus has of it that scrapes the agent."""
    there = ~box.during("agent_silent")
    page = _Page(box, there, job="tocsin", instance=BOX)
    page.add("tocsin_build_info", 1.0, version="0")
    page.add("llm_engine_up", box.up, target=ENGINE)
    _machine(box, page)
    _gpu(box, page)
    engine = _Page(box, there & box.up, job="tocsin", instance=BOX, target=ENGINE)
    _engine(box, engine)
    always = _Page(box, np.ones(len(box.times), np.bool_), job="tocsin", instance=BOX)
    always.add("up", there)
    always.add("scrape_duration_seconds", 0.01)
    return page.series | engine.series | always.series


def with_targets(box: SimulatedBox) -> Series:
    """The same, with the guides' targets set: 2 and 8 s, 2 s, 50 ms, 1,800 tokens a second."""
    page = _Page(box, np.ones(len(box.times), np.bool_), job="tocsin", instance=BOX, target=ENGINE)
    page.add("llm_target_e2e_request_latency_seconds", 2.0, percentile="50")
    page.add("llm_target_e2e_request_latency_seconds", 8.0, percentile="95")
    page.add("llm_target_time_to_first_token_seconds", 2.0, percentile="50")
    page.add("llm_target_request_time_per_output_token_seconds", 0.05, percentile="50")
    page.add("llm_target_generation_tokens_per_second", 1_800.0)
    return agent_series(box) | page.series


def _engine(box: SimulatedBox, page: _Page) -> None:
    model = {"model_name": "m", "engine": "0"}
    page.add("llm_num_requests_running", box.running, **model)
    page.add("llm_num_requests_waiting", box.waiting, **model)
    page.add("llm_kv_cache_usage_ratio", box.cache(), **model)
    page.add("llm_generation_tokens_total", box.counted(box.tokens()), **model)
    page.add("llm_iteration_tokens_count", box.counted(box.steps()), **model)
    for status, steps in box.answers().items():
        page.add("llm_requests_total", box.counted(steps), status=status, **model)
    seen = box.buckets(box.latency(), 0.5, _SECONDS)
    page.add_buckets("llm_e2e_request_latency_seconds", seen, _SECONDS, **model)
    seen = box.buckets(box.first_token(), 0.4, _SECONDS)
    page.add_buckets("llm_time_to_first_token_seconds", seen, _SECONDS, **model)
    seen = box.buckets(box.per_token(), 0.2, _PER_TOKEN)
    page.add_buckets("llm_request_time_per_output_token_seconds", seen, _PER_TOKEN, **model)
    ooms = np.cumsum(np.diff(box.during("gpu_memory"), prepend=False) & box.during("gpu_memory"))
    page.add("llm_allocator_ooms_total", ooms, gpu="0", **model)


def _gpu(box: SimulatedBox, page: _Page) -> None:
    card = {"gpu": "0", "UUID": "GPU-a", "modelName": "NVIDIA H100"}
    lost = box.during("gpu_lost")
    busy = box.busy()
    page.add("gpu_devices_expected", 2.0)
    page.add("gpu_devices", np.where(lost, 1.0, 2.0))
    page.add("DCGM_FI_DEV_GPU_UTIL", busy, **card)
    page.add(
        "DCGM_FI_DEV_GPU_TEMP", np.where(box.during("gpu_hot"), 86.0, 36 + 0.36 * busy), **card
    )
    used = np.where(box.up, 74_000.0, 600.0)
    page.add("DCGM_FI_DEV_FB_USED", used, **card)
    page.add("DCGM_FI_DEV_FB_FREE", 81_000 - used, **card)
    last = np.maximum.accumulate(
        np.where(np.diff(box.during("xid"), prepend=False) & box.during("xid"), box.times / 1000, 0)
    )
    page.add("gpu_xid_last_timestamp_seconds", last, xid="79", **card)


def _machine(box: SimulatedBox, page: _Page) -> None:
    hour = box.seconds % DAY / 3_600
    backup = (hour >= 2) & (hour < 2.5)
    work = 0.15 + 0.35 * box.running / _SLOTS + 0.25 * backup
    work = np.where(box.during("cpu"), 0.95, np.clip(work + 0.03 * box._noise(), 0.01, 0.78))
    page.add("node_cpu_seconds_total", np.cumsum(box.every * (1 - work)), cpu="0", mode="idle")
    page.add("node_cpu_seconds_total", np.cumsum(box.every * work), cpu="0", mode="user")
    page.add("node_memory_MemTotal_bytes", 256 * _GB)
    free = np.where(box.during("memory"), 0.06, 0.45 - 0.1 * backup + 0.01 * box._noise())
    page.add("node_memory_MemAvailable_bytes", 256 * _GB * free)
    disk = {"device": "/dev/nvme0n1p1", "fstype": "ext4", "mountpoint": "/"}
    page.add("node_filesystem_size_bytes", 1000 * _GB, **disk)
    page.add("node_filesystem_avail_bytes", _room(box, hour), **disk)
    page.add("node_filesystem_readonly", 0.0, **disk)
    process = {"groupname": "vllm"}
    there = box.up & ~box.during("process")
    page.add("namedprocess_namegroup_num_procs", there, **process)
    seen = np.maximum.accumulate(np.where(there, box.times / 1000, 0))
    page.add("tocsin_process_group_last_seen_timestamp_seconds", seen, **process)
    page.add("tocsin_collector_success", ~box.during("collector"), collector="diskstats", target="")
    page.add("tocsin_filesystem_mounts", box.during("mount") * 1.0, state="hung")
    stepped = np.diff(box.during("clock"), prepend=False) & box.during("clock")
    page.add("tocsin_clock_steps_total", np.cumsum(stepped))
    page.add("tocsin_clock_last_step_seconds", np.where(np.cumsum(stepped) > 0, 42.0, 0.0))
    page.add("tocsin_config_last_reload_successful", ~box.during("reload"))


def _room(box: SimulatedBox, hour: Floats) -> Floats:
    """Free bytes: logs fill and are rotated at midnight, weights come on Wednesday, at 200 MB/s for
    20 minutes, and a fault writes until there is nothing left."""
    logs = 0.6 * _GB * hour
    weights = 240 * _GB * np.clip((box.seconds - 2 * DAY - 10 * 3_600) / 1_200, 0, 1)
    fills = np.zeros(len(box.times))
    for fault in box._wrong:
        if fault.what == "disk":
            share = np.clip((box.seconds - fault.start) / (fault.end - fault.start), 0, 1)
            fills += np.where(box.during("disk"), share * (545 * _GB - weights - logs), 0)
    return 560 * _GB - logs - weights - fills


def vllm_series(box: SimulatedBox) -> Series:
    """What a Prometheus has of it that scrapes vLLM itself."""
    page, target = _of_engine(box)
    model = {"model_name": "m", "engine": "0"}
    page.add("vllm:num_requests_running", box.running, **model)
    page.add("vllm:num_requests_waiting", box.waiting, **model)
    page.add("vllm:kv_cache_usage_perc", box.cache(), **model)
    page.add("vllm:generation_tokens_total", box.counted(box.tokens()), **model)
    page.add("vllm:iteration_tokens_total_count", box.counted(box.steps()), **model)
    answers = box.answers()
    reasons = {"stop": "success", "error": "error", "abort": "cancelled"}
    for reason, status in reasons.items():
        steps = box.counted(answers[status])
        page.add("vllm:request_success_total", steps, finished_reason=reason, **model)
    _http(box, page, answers, "http_requests_total", "handler", "status")
    _times(box, page, "vllm", model)
    return page.series | target.series


def sglang_series(box: SimulatedBox) -> Series:
    page, target = _of_engine(box)
    model = {"model_name": "m", "tp_rank": "0"}
    page.add("sglang:num_running_reqs", box.running, **model)
    page.add("sglang:num_queue_reqs", box.waiting, **model)
    page.add("sglang:token_usage", box.cache(), **model)
    _http(box, page, box.answers(), "sglang:http_responses_total", "endpoint", "status_code")
    _times(box, page, "sglang", model)
    return page.series | target.series


def llamacpp_series(box: SimulatedBox) -> Series:
    page, target = _of_engine(box)
    page.add("llamacpp:requests_processing", box.running)
    page.add("llamacpp:requests_deferred", box.waiting)
    page.add("llamacpp:n_decode_total", box.counted(box.steps()))
    tokens = box.tokens()
    page.add("llamacpp:tokens_predicted_total", box.counted(tokens))
    slow = np.where(box.during("slow_tokens"), 0.2, box.per_token())
    page.add("llamacpp:tokens_predicted_seconds_total", box.counted(tokens * slow))
    return page.series | target.series


def _of_engine(box: SimulatedBox) -> tuple[_Page, _Page]:
    labels = {"job": "engine", "instance": ENGINE}
    target = _Page(box, np.ones(len(box.times), np.bool_), **labels)
    target.add("up", box.up)
    return _Page(box, box.up, **labels), target


def _http(
    box: SimulatedBox, page: _Page, answers: dict[str, Floats], name: str, path: str, code: str
) -> None:
    good = answers["success"] + answers["cancelled"]
    where = {path: "/v1/chat/completions"}
    page.add(name, box.counted(good), **where, **{code: "200" if code != "status" else "2xx"})
    bad = "500" if code != "status" else "5xx"
    page.add(name, box.counted(answers["error"]), **where, **{code: bad})


def _times(box: SimulatedBox, page: _Page, prefix: str, model: dict[str, str]) -> None:
    kinds = (
        ("e2e_request_latency_seconds", box.latency(), 0.5, _SECONDS),
        ("time_to_first_token_seconds", box.first_token(), 0.4, _SECONDS),
        ("request_time_per_output_token_seconds", box.per_token(), 0.2, _PER_TOKEN),
    )
    for name, median, spread, bounds in kinds:
        page.add_buckets(f"{prefix}:{name}", box.buckets(median, spread, bounds), bounds, **model)
