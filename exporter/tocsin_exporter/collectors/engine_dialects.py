"""How each inference engine says what we export as `llm_*`: one table an engine.

A meaning is the name of our family, the factor to its base unit, labels to add, and, where several
upstream series make one of ours (ranks, streamed or not), how they are put together. Sources of the
names: vLLM engine/metrics.py (0.4 to 0.7) and v1/metrics/loggers.py, SGLang
observability/metrics_collector.py, TGI docs/source/reference/metrics.md, llama.cpp
tools/server/README.md, TensorRT-LLM metrics/collector.py, Triton docs/user_guide/metrics.md,
LMDeploy metrics/loggers.py, and vLLM v1/metrics/ray_wrappers.py for what Ray exports of it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tocsin_exporter.collectors.engine_text import LONGEST_LINE, windows
from tocsin_exporter.slices import SLICE, Work
from tocsin_exporter.snapshot import Labels

Together = Literal["sum", "max"]
GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Meaning:
    """Our family, the factor to its unit, labels to add, and how several upstream series merge.

    The factor of a histogram is that of what it observes: of its bounds and its sum.
    """

    family: str
    factor: float = 1.0
    labels: Labels = ()
    together: Together = "sum"


ByLabel = Callable[[Mapping[str, str]], Sequence[Meaning]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """`prefix` recognises the page, and `spelling` is how others write it, who take no colons;
    `health` is a cheap path that fails when the engine is unwell.

    `words` maps a family of the engine to its meaning. `by_label` does so for families whose
    meaning hangs on a label: it gets the labels and returns what the series means, if anything.
    `from_labels` are families whose labels hold numbers: label -> our gauge.
    """

    name: str
    prefix: str
    words: Mapping[str, Meaning]
    by_label: Mapping[str, ByLabel]
    from_labels: Mapping[str, Mapping[str, str]]
    health: str = "/health"
    spelling: str = ""

    def canonical(self, name: str) -> str:
        """`name` as the engine itself spells it; Ray has counters without their `_total` too."""
        if self.spelling and name.startswith(self.spelling):
            name = self.prefix + name.removeprefix(self.spelling)
        total = f"{name}_total"
        return total if total in self.words or total in self.by_label else name


def _requests(status: str, together: Together = "sum") -> Meaning:
    return Meaning("llm_requests_total", labels=(("status", status),), together=together)


def _memory(component: str) -> Meaning:
    return Meaning("llm_memory_bytes", GIB, (("component", component),))


def _cached() -> Meaning:
    return Meaning("llm_tokens_total", labels=(("type", "cached"),))


def _finished(labels: Mapping[str, str]) -> Sequence[Meaning]:
    """vLLM calls it success, whatever the end: an error or an abort is in it."""
    reason = labels.get("finished_reason", "")
    by_reason = Meaning("llm_request_success_total", labels=(("finished_reason", reason),))
    if reason == "error":
        return _requests("error", "max"), by_reason
    return _requests("cancelled" if reason == "abort" else "success"), by_reason


_LMDEPLOY_REASONS = {
    "SUCCESS": "success", "FINISH": "success", "CANCEL": "cancelled",
    "INPUT_LENGTH_ERROR": "rejected", "NO_QUEUE": "rejected", "NOT_SUPPORTED": "rejected",
}  # fmt: skip


def _lmdeploy_finished(labels: Mapping[str, str]) -> Sequence[Meaning]:
    """Its reasons are the names of an enumeration, `ResponseType.FINISH`."""
    reason = labels.get("finished_reason", "").removeprefix("ResponseType.")
    by_reason = Meaning("llm_request_success_total", labels=(("finished_reason", reason.lower()),))
    return _requests(_LMDEPLOY_REASONS.get(reason, "error")), by_reason


def _server_error(labels: Mapping[str, str]) -> Sequence[Meaning]:
    """5xx of the HTTP layer, the only place that counts what failed before the engine saw it.

    An error inside the engine is counted there as well, hence the larger of both and not the sum.
    """
    failed = labels.get("status", labels.get("status_code", "")).startswith("5")
    path = labels.get("handler", labels.get("endpoint", ""))
    return (_requests("error", "max"),) if failed and "completions" in path else ()


def _tgi_failure(labels: Mapping[str, str]) -> Sequence[Meaning]:
    refused = labels.get("err") in ("validation", "overloaded", "template")
    return (_requests("rejected" if refused else "error"),)


def _triton_failure(labels: Mapping[str, str]) -> Sequence[Meaning]:
    statuses = {"REJECTED": "rejected", "CANCELED": "cancelled"}
    return (_requests(statuses.get(labels.get("reason", ""), "error")),)


def _trtllm_error(labels: Mapping[str, str]) -> Sequence[Meaning]:
    code = labels.get("http_code", "")
    return (_requests("error" if code.startswith("5") else "rejected"),)


def _llamacpp_cached(_labels: Mapping[str, str]) -> Sequence[Meaning]:
    """Added to the others, not another name of them: its answers' `usage` counts both."""
    return Meaning("llm_prompt_tokens_total"), _cached()


def _added(family: str) -> ByLabel:
    """What is added to the words of the same family, and no other name of them."""
    return lambda _labels: (Meaning(family),)


def _trt_llm_requests(labels: Mapping[str, str]) -> Sequence[Meaning]:
    """The batch manager's own queue is behind Triton's, which is empty then: both are added."""
    families = {"scheduled": "llm_num_requests_running", "waiting": "llm_num_requests_waiting"}
    family = families.get(labels.get("request_type", ""))
    return (Meaning(family),) if family else ()


def _trt_llm_blocks(labels: Mapping[str, str]) -> Sequence[Meaning]:
    families = {
        "fraction": "llm_kv_cache_usage_ratio",
        "max": "llm_kv_cache_blocks",
        "tokens_per": "llm_kv_cache_block_size_tokens",
    }
    family = families.get(labels.get("kv_cache_block_type", ""))
    return (Meaning(family, together="max"),) if family else ()


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


def _vllm_words(prefix: str) -> dict[str, Meaning]:
    """The newest name of a thing stands before its older ones: it is the one that is taken."""
    usage = Meaning("llm_kv_cache_usage_ratio", together="max")
    return {
        **_same_stems(prefix),
        f"{prefix}iteration_tokens_total": Meaning("llm_iteration_tokens"),
        f"{prefix}kv_cache_usage_perc": usage,
        f"{prefix}gpu_cache_usage_perc": usage,
        f"{prefix}time_per_output_token_seconds": Meaning("llm_inter_token_latency_seconds"),
        f"{prefix}time_in_queue_requests": Meaning("llm_request_queue_time_seconds"),
        f"{prefix}gpu_prefix_cache_queries_total": Meaning("llm_prefix_cache_queries_total"),
        f"{prefix}gpu_prefix_cache_hits_total": Meaning("llm_prefix_cache_hits_total"),
        f"{prefix}prompt_tokens_cached_total": _cached(),
        f"{prefix}admission_rejections_total": _requests("rejected"),
    }


_VLLM_CACHE = {
    "num_gpu_blocks": "llm_kv_cache_blocks",
    "block_size": "llm_kv_cache_block_size_tokens",
    "kv_cache_size_tokens": "llm_kv_cache_capacity_tokens",
}

VLLM = Dialect(
    "vllm",
    "vllm:",
    _vllm_words("vllm:"),
    {"vllm:request_success_total": _finished, "http_requests_total": _server_error},
    {"vllm:cache_config_info": _VLLM_CACHE},
    spelling="vllm_",
)

RAY_VLLM = Dialect(
    "ray_vllm",
    "ray_vllm_",
    _vllm_words("ray_vllm_"),
    {"ray_vllm_request_success_total": _finished},
    {"ray_vllm_cache_config_info": _VLLM_CACHE},
    health="",  # the page is Ray's agent's, which knows nothing of the model
    spelling="ray_vllm:",
)

SGLANG = Dialect(
    "sglang",
    "sglang:",
    {
        **_same_stems("sglang:"),
        # Each rank of tensors and of the pipeline counts the requests of all of them, and so does
        # the series without a priority.
        "sglang:queue_time_seconds": Meaning("llm_request_queue_time_seconds", together="max"),
        "sglang:num_running_reqs": Meaning("llm_num_requests_running", together="max"),
        "sglang:num_queue_reqs": Meaning("llm_num_requests_waiting", together="max"),
        "sglang:token_usage": Meaning("llm_kv_cache_usage_ratio", together="max"),
        "sglang:max_total_num_tokens": Meaning("llm_kv_cache_capacity_tokens", together="max"),
        "sglang:page_size": Meaning("llm_kv_cache_block_size_tokens", together="max"),
        "sglang:num_pages": Meaning("llm_kv_cache_blocks", together="max"),
        "sglang:num_requests_total": _requests("success"),
        "sglang:num_aborted_requests_total": _requests("cancelled"),
        "sglang:num_retracted_requests_total": Meaning("llm_num_preemptions_total", together="max"),
        "sglang:cached_tokens_total": _cached(),
        "sglang:prompt_tokens_histogram": Meaning("llm_request_prompt_tokens"),
        "sglang:generation_tokens_histogram": Meaning("llm_request_generation_tokens"),
        "sglang:weight_memory_usage_gb": _memory("weights"),
        "sglang:kv_cache_memory_usage_gb": _memory("kv_cache"),
        "sglang:graph_memory_usage_gb": _memory("cuda_graphs"),
    },
    dict.fromkeys(("sglang:http_responses_total", "http_responses_total"), _server_error),
    {
        "sglang:cache_config_info": {  # before its gauges of the same names
            "num_pages": "llm_kv_cache_blocks",
            "page_size": "llm_kv_cache_block_size_tokens",
        }
    },
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
        "tgi_request_max_new_tokens": Meaning("llm_request_max_num_generation_tokens"),
        "tgi_batch_max_total_tokens": Meaning("llm_kv_cache_capacity_tokens", together="max"),
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
        "llamacpp:spec_decode_num_draft_tokens_total": Meaning(
            "llm_spec_decode_num_draft_tokens_total"
        ),
        "llamacpp:spec_decode_num_accepted_tokens_total": Meaning(
            "llm_spec_decode_num_accepted_tokens_total"
        ),
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
        "trtllm_prompt_cached_tokens_total": _cached(),
    },
    {"trtllm_request_success_total": _finished, "trtllm_request_error_total": _trtllm_error},
    {},
)

LMDEPLOY = Dialect(
    "lmdeploy",
    "lmdeploy:",
    {
        **_same_stems("lmdeploy:"),
        "lmdeploy:iter_token_latency": Meaning("llm_inter_token_latency_seconds"),
        "lmdeploy:time_per_output_token_seconds": Meaning("llm_inter_token_latency_seconds"),
        "lmdeploy:iteration_tokens_total": Meaning("llm_iteration_tokens"),
        "lmdeploy:gpu_cache_usage_perc": Meaning("llm_kv_cache_usage_ratio", together="max"),
        "lmdeploy:cached_tokens_total": _cached(),
    },
    {
        "lmdeploy:request_success_total": _lmdeploy_finished,
        # in front of the engine's own queue
        "lmdeploy:num_api_requests_waiting": _added("llm_num_requests_waiting"),
    },
    {},
    spelling="lmdeploy_",
)

TRITON = Dialect(
    "triton",
    "nv_",
    {
        "nv_inference_request_success": _requests("success"),
        "nv_inference_pending_request_count": Meaning("llm_num_requests_waiting"),
        "nv_inference_first_response_histogram_ms": Meaning(
            "llm_time_to_first_token_seconds", factor=1e-3
        ),
    },
    {
        "nv_inference_request_failure": _triton_failure,
        "nv_trt_llm_request_metrics": _trt_llm_requests,
        "nv_trt_llm_kv_cache_block_metrics": _trt_llm_blocks,
    },
    {},
    health="",  # its metrics have a port of their own, without any other page
)

TOCSIN = Dialect("tocsin", "llm_", {}, {}, {})

DIALECTS: Mapping[str, Dialect] = {
    d.name: d for d in (VLLM, RAY_VLLM, SGLANG, TGI, LLAMACPP, TRTLLM, LMDEPLOY, TRITON, TOCSIN)
}
_BY_PREFIX = {p: d for d in DIALECTS.values() for p in (d.prefix, d.spelling) if p}
_GUESTS = (TRITON, TOCSIN)  # whose words may stand on the page of another engine
_FIRST, *_LATER = (
    re.compile(rf"^(?:# (?:HELP|TYPE) )?({'|'.join(prefixes)})", re.MULTILINE)
    for prefixes in (
        _BY_PREFIX.keys() - {d.prefix for d in _GUESTS},
        *({d.prefix} for d in _GUESTS),
    )
)


def recognise(page: str) -> Work[Dialect | None]:
    """The dialect of a metrics page, by the first family whose prefix we know. Triton's words and
    our own count where there are no others: an engine may run in Triton, or have some of ours."""
    seen = [False] * len(_GUESTS)
    for part in windows(page):
        if (match := _FIRST.search(part, 0, SLICE + LONGEST_LINE)) is not None:
            return _BY_PREFIX[match[1]]
        for i, pattern in enumerate(_LATER):
            seen[i] = seen[i] or pattern.search(part, 0, SLICE + LONGEST_LINE) is not None
        yield
    return next((d for d, is_there in zip(_GUESTS, seen, strict=True) if is_there), None)
