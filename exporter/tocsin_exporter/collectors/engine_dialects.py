"""How each inference engine says what we export as `llm_*`: one table an engine.

A meaning is the name of our family, the factor to its base unit, labels to add, and, where several
upstream series make one of ours (ranks, streamed or not), how they are put together. Sources of the
names: vLLM v1/metrics/loggers.py, SGLang observability/metrics_collector.py, TGI
docs/source/reference/metrics.md, llama.cpp tools/server/README.md, TensorRT-LLM
metrics/collector.py, Triton docs/user_guide/metrics.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from tocsin_exporter.collectors.engine_text import LONGEST_LINE, windows
from tocsin_exporter.slices import SLICE, Work
from tocsin_exporter.snapshot import Labels

Together = Literal["sum", "max"]
GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Meaning:
    """Our family, the factor to its unit, labels to add, and how several upstream series merge."""

    family: str
    factor: float = 1.0
    labels: Labels = ()
    together: Together = "sum"


@dataclass(frozen=True, slots=True)
class Dialect:
    """`prefix` recognises the page, and `spelling` is how others write it, who take no colons;
    `health` is a cheap path that fails when the engine is unwell.

    `words` maps a family of the engine to its meaning. `by_label` does so for families whose
    meaning hangs on a label: it gets the labels and returns a meaning or None.
    `from_labels` are families whose labels hold numbers: label -> our gauge.
    """

    name: str
    prefix: str
    words: Mapping[str, Meaning]
    by_label: Mapping[str, Callable[[Mapping[str, str]], Meaning | None]]
    from_labels: Mapping[str, Mapping[str, str]]
    health: str = "/health"
    spelling: str = ""

    def canonical(self, name: str) -> str:
        """`name` as the engine itself spells it."""
        if self.spelling and name.startswith(self.spelling):
            return self.prefix + name.removeprefix(self.spelling)
        return name


def _requests(status: str, together: Together = "sum") -> Meaning:
    return Meaning("llm_requests_total", labels=(("status", status),), together=together)


def _memory(component: str) -> Meaning:
    return Meaning("llm_memory_bytes", GIB, (("component", component),))


def _vllm_finished(labels: Mapping[str, str]) -> Meaning:
    reason = labels.get("finished_reason", "")
    if reason == "error":
        return _requests("error", "max")
    return _requests("cancelled" if reason == "abort" else "success")


def _server_error(labels: Mapping[str, str]) -> Meaning | None:
    """5xx of the HTTP layer, the only place that counts what failed before the engine saw it.

    An error inside the engine is counted there as well, hence the larger of both and not the sum.
    """
    failed = labels.get("status", labels.get("status_code", "")).startswith("5")
    path = labels.get("handler", labels.get("endpoint", ""))
    return _requests("error", "max") if failed and "completions" in path else None


def _tgi_failure(labels: Mapping[str, str]) -> Meaning:
    return _requests("rejected" if labels.get("err") in ("validation", "overloaded") else "error")


def _llamacpp_cached(_labels: Mapping[str, str]) -> Meaning:
    """Added to the others, not another name of them: its answers' `usage` counts both."""
    return Meaning("llm_prompt_tokens_total")


def _trt_llm_requests(labels: Mapping[str, str]) -> Meaning | None:
    """The batch manager's own queue; Triton's is empty before it."""
    running = labels.get("request_type") == "scheduled"
    return Meaning("llm_num_requests_running") if running else None


def _trt_llm_blocks(labels: Mapping[str, str]) -> Meaning | None:
    families = {
        "fraction": "llm_kv_cache_usage_ratio",
        "max": "llm_kv_cache_blocks",
        "tokens_per": "llm_kv_cache_block_size_tokens",
    }
    family = families.get(labels.get("kv_cache_block_type", ""))
    return Meaning(family, together="max") if family else None


_STEMS = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_inference_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_max_num_generation_tokens",
    "prompt_tokens_total",
    "generation_tokens_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "num_preemptions_total",
    "spec_decode_num_draft_tokens_total",
    "spec_decode_num_accepted_tokens_total",
    "num_requests_running",
    "num_requests_waiting",
)


def _same_stems(prefix: str) -> dict[str, Meaning]:
    return {prefix + stem: Meaning("llm_" + stem) for stem in _STEMS}


VLLM = Dialect(
    "vllm",
    "vllm:",
    {
        **_same_stems("vllm:"),
        "vllm:iteration_tokens_total": Meaning("llm_iteration_tokens"),
        "vllm:kv_cache_usage_perc": Meaning("llm_kv_cache_usage_ratio", together="max"),
        "vllm:gpu_cache_usage_perc": Meaning("llm_kv_cache_usage_ratio", together="max"),
        "vllm:time_per_output_token_seconds": Meaning("llm_inter_token_latency_seconds"),
        "vllm:admission_rejections_total": _requests("rejected"),
    },
    {"vllm:request_success_total": _vllm_finished, "http_requests_total": _server_error},
    {
        "vllm:cache_config_info": {
            "num_gpu_blocks": "llm_kv_cache_blocks",
            "block_size": "llm_kv_cache_block_size_tokens",
            "kv_cache_size_tokens": "llm_kv_cache_capacity_tokens",
        }
    },
    spelling="vllm_",
)

SGLANG = Dialect(
    "sglang",
    "sglang:",
    {
        **_same_stems("sglang:"),
        "sglang:queue_time_seconds": Meaning("llm_request_queue_time_seconds"),
        # Each rank of tensors and of the pipeline counts the requests of all of them.
        "sglang:num_running_reqs": Meaning("llm_num_requests_running", together="max"),
        "sglang:num_queue_reqs": Meaning("llm_num_requests_waiting", together="max"),
        "sglang:token_usage": Meaning("llm_kv_cache_usage_ratio", together="max"),
        "sglang:max_total_num_tokens": Meaning("llm_kv_cache_capacity_tokens", together="max"),
        "sglang:page_size": Meaning("llm_kv_cache_block_size_tokens", together="max"),
        "sglang:num_pages": Meaning("llm_kv_cache_blocks", together="max"),
        "sglang:num_requests_total": _requests("success"),
        "sglang:num_aborted_requests_total": _requests("cancelled"),
        "sglang:num_retracted_requests_total": Meaning("llm_num_preemptions_total", together="max"),
        "sglang:weight_memory_usage_gb": _memory("weights"),
        "sglang:kv_cache_memory_usage_gb": _memory("kv_cache"),
        "sglang:graph_memory_usage_gb": _memory("cuda_graphs"),
    },
    dict.fromkeys(("sglang:http_responses_total", "http_responses_total"), _server_error),
    {},
    health="",  # SGLang's runs a generation
    spelling="sglang_",
)

TGI = Dialect(
    "tgi",
    "tgi_",
    {
        "tgi_queue_size": Meaning("llm_num_requests_waiting"),
        "tgi_batch_current_size": Meaning("llm_num_requests_running"),
        "tgi_request_count": Meaning("llm_requests_started_total"),
        "tgi_request_success": _requests("success"),
        "tgi_request_duration": Meaning("llm_e2e_request_latency_seconds"),
        "tgi_request_queue_duration": Meaning("llm_request_queue_time_seconds"),
        "tgi_request_inference_duration": Meaning("llm_request_inference_time_seconds"),
        "tgi_request_mean_time_per_token_duration": Meaning(
            "llm_request_time_per_output_token_seconds"
        ),
        "tgi_request_input_length": Meaning("llm_request_prompt_tokens"),
        "tgi_request_generated_tokens": Meaning("llm_request_generation_tokens"),
        "tgi_request_input_length_sum": Meaning("llm_prompt_tokens_total"),
        "tgi_request_generated_tokens_sum": Meaning("llm_generation_tokens_total"),
    },
    {"tgi_request_failure": _tgi_failure},
    {},
)

LLAMACPP = Dialect(
    "llamacpp",
    "llamacpp:",
    {
        "llamacpp:prompt_tokens_total": Meaning("llm_prompt_tokens_total"),
        "llamacpp:tokens_predicted_total": Meaning("llm_generation_tokens_total"),
        "llamacpp:requests_processing": Meaning("llm_num_requests_running"),
        "llamacpp:requests_deferred": Meaning("llm_num_requests_waiting"),
        "llamacpp:kv_cache_usage_ratio": Meaning("llm_kv_cache_usage_ratio", together="max"),
    },
    {"llamacpp:prompt_tokens_cached_total": _llamacpp_cached},
    {},
    spelling="llamacpp_",
)

TRTLLM = Dialect(
    "trtllm",
    "trtllm_",
    {
        **_same_stems("trtllm_"),
        "trtllm_time_per_output_token_seconds": Meaning(
            "llm_request_time_per_output_token_seconds"
        ),
        "trtllm_kv_cache_utilization": Meaning("llm_kv_cache_usage_ratio", together="max"),
        "trtllm_kv_cache_max_blocks": Meaning("llm_kv_cache_blocks", together="max"),
        "trtllm_kv_cache_tokens_per_block": Meaning(
            "llm_kv_cache_block_size_tokens", together="max"
        ),
    },
    {"trtllm_request_success_total": _vllm_finished},
    {},
)

TRITON = Dialect(
    "triton",
    "nv_",
    {
        "nv_inference_request_success": _requests("success"),
        "nv_inference_request_failure": _requests("error"),
        "nv_inference_pending_request_count": Meaning("llm_num_requests_waiting"),
    },
    {
        "nv_trt_llm_request_metrics": _trt_llm_requests,
        "nv_trt_llm_kv_cache_block_metrics": _trt_llm_blocks,
    },
    {},
    health="",  # its metrics have a port of their own, without any other page
)

TOCSIN = Dialect("tocsin", "llm_", {}, {}, {})

DIALECTS: Mapping[str, Dialect] = {
    d.name: d for d in (VLLM, SGLANG, TGI, LLAMACPP, TRTLLM, TRITON, TOCSIN)
}
_BY_PREFIX = {p: d for d in DIALECTS.values() for p in (d.prefix, d.spelling) if p}
_FIRST, _OURS = (
    re.compile(rf"^(?:# (?:HELP|TYPE) )?({'|'.join(prefixes)})", re.MULTILINE)
    for prefixes in (_BY_PREFIX.keys() - {TOCSIN.prefix}, {TOCSIN.prefix})
)


def recognise(page: str) -> Work[Dialect | None]:
    """The dialect of a metrics page, by the first family whose prefix we know. Our own words count
    where there are no others: any engine may have some of them besides."""
    ours = False
    for part in windows(page):
        if (match := _FIRST.search(part, 0, SLICE + LONGEST_LINE)) is not None:
            return _BY_PREFIX[match[1]]
        ours = ours or _OURS.search(part, 0, SLICE + LONGEST_LINE) is not None
        yield
    return TOCSIN if ours else None
