"""Inference: `llm_` and vLLM's stem, labelled `model_name`, `engine` and always `target`.

`target` is host:port of the engine: two engines of one model must never collide. The buckets
contain vLLM's, so that rules on `le` keep matching, and reach lower, so that a fast engine has a
percentile at all.
"""

from tocsin_exporter.catalogue.table import Row, Table, counter, gauge, histogram

LATENCY = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0),
    *(30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
PER_TOKEN = (
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
TOKENS = tuple(float(f * 10**e) for e in range(6) for f in (1, 2, 5) if f * 10**e <= 131072)
ITERATION_TOKENS = (1.0, *(float(2**n) for n in range(3, 15)))

_ENGINE = ("model_name", "engine", "target")


def _counter(name: str, help: str, *more: str) -> Row:
    return counter(f"llm_{name}_total", help, "", *_ENGINE, *more)


def _gauge(name: str, help: str, unit: str = "", *more: str) -> Row:
    return gauge(f"llm_{name}", help, unit, *_ENGINE, *more)


def _seconds(name: str, help: str, *more: str) -> Row:
    return histogram(f"llm_{name}_seconds", help, "seconds", *_ENGINE, *more)


_TOKENS = (
    _counter("prompt_tokens", "Prompt tokens processed."),
    _counter("generation_tokens",
             "Tokens generated; at a proxy, those of the answer's usage, and where it has none, "
             "the pieces of a stream that carry any."),
    _counter("tokens", "Tokens by type: input, output, and cached, which are those of input that "
             "the prefix cache had.", "type"),
    histogram("llm_request_prompt_tokens", "Prompt tokens of a request.", "", *_ENGINE),
    histogram("llm_request_generation_tokens", "Generated tokens of a request.", "", *_ENGINE),
    histogram("llm_request_max_num_generation_tokens", "Tokens that a request asked for at most.",
              "", *_ENGINE),
    histogram("llm_iteration_tokens", "Tokens processed by one step of the engine.",
              "", *_ENGINE),
)  # fmt: skip

_REQUESTS = (
    _counter("requests_started", "Requests accepted."),
    _counter("requests", "Requests ended: success, error, timeout, cancelled or rejected.",
             "status"),
    _counter("request_success", "Requests that the engine finished, by its own reason. As in vLLM, "
             "an abort or an error is one too.", "finished_reason"),
    _counter("request_errors",
             "Requests that did not succeed, by type of error and HTTP status (0: none was sent).",
             "error_type", "http_status"),
    _counter("output_anomalies",
             "Answers with a fault that shows in their text: empty, truncated, repetition, "
             "invalid_json, wrong_language.",
             "kind"),
    _seconds("time_to_first_token", "From the request to its first token."),
    _seconds("inter_token_latency", "Between two tokens of a request."),
    _seconds("request_time_per_output_token",
             "Mean time a token after the first; requests of one token are left out."),
    _seconds("e2e_request_latency", "From the request to its last byte.", "status"),
    _seconds("request_queue_time", "Waiting before the first step of a request."),
    _seconds("request_prefill_time", "Processing the prompt of a request."),
    _seconds("request_decode_time", "From the first to the last token of a request."),
    _seconds("request_inference_time", "Prefill and decode of a request."),
)  # fmt: skip

_LOAD = (
    _gauge("num_requests_running", "Requests that the engine works on."),
    _gauge("num_requests_waiting", "Requests that wait for the engine."),
    _gauge("queue_capacity", "Requests that may wait; one more is refused."),
    _gauge("kv_cache_usage_ratio", "Share of the KV cache in use (0 to 1).", "ratio"),
    _gauge("kv_cache_blocks", "Blocks of the KV cache."),
    _gauge("kv_cache_block_size_tokens", "Tokens in a block of the KV cache."),
    _gauge("kv_cache_capacity_tokens", "Tokens that the KV cache holds."),
    _gauge("kv_cache_used_bytes", "Memory of the KV cache in use: its size times its usage.",
           "bytes"),
    _counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache."),
    _counter("prefix_cache_hits", "Prompt tokens found in the prefix cache."),
    _counter("num_preemptions", "Requests put back because the KV cache was full."),
    _counter("spec_decode_num_draft_tokens", "Tokens drafted by speculative decoding."),
    _counter("spec_decode_num_accepted_tokens", "Drafted tokens that were accepted."),
)  # fmt: skip

_ALONE = "; of this series alone: those of several cannot be put together. Absent without data."


def _window(name: str, help: str, unit: str = "", *more: str) -> Row:
    return _gauge(name, f"{help} in the window{_ALONE}", unit, *more, "window")


_WINDOWS = (
    *(
        _window(f"{stem}_quantile_seconds", f"{words}: the quantile q", "seconds", "q")
        for stem, words in (
            ("time_to_first_token", "From the request to its first token"),
            ("request_time_per_output_token", "Mean time a token after the first"),
            ("inter_token_latency", "Between two tokens of a request"),
            ("e2e_request_latency", "From the request to its last byte"),
        )
    ),
    _window("prompt_tokens_per_second", "Prompt tokens processed a second"),
    _window("generation_tokens_per_second", "Tokens generated a second"),
    _window("total_tokens_per_second", "Prompt tokens and tokens generated a second"),
    _window("requests_per_second", "Requests ended a second"),
    *(
        _window(f"{status}_ratio", f"Share of {words} (0 to 1) among requests that ended in "
                "success, error or timeout", "ratio")
        for status, words in (
            ("success", "successes"), ("error", "errors"), ("timeout", "timeouts")
        )
    ),
)  # fmt: skip

_ENGINES = (
    gauge("llm_engine_up", "Whether the engine answered the last reading.", "", "target"),
    gauge("llm_engine_last_scrape_timestamp_seconds",
          "When the engine last answered, in seconds since 1970.", "seconds", "target"),
    gauge("llm_engine_metrics_refused",
          "The HTTP status with which an engine that is up refuses its metrics; 0: it does not.",
          "", "target"),
    gauge("llm_engine_metrics_unknown",
          "Whether an engine that is up serves a metrics page without any known metrics, or one "
          "that cannot be read.",
          "", "target"),
    gauge("llm_engine_series_limited",
          "Series whose labels have too many values (they are summed as `_other`, or left out), "
          "lines that are too long, series over the most of a page, and those of its own page "
          "whose names are the agent's.",
          "", "target"),
    gauge("llm_engine_proxy_up",
          "Whether the metrics of the tocsin proxy before the engine could be read.",
          "", "target"),
    gauge("llm_engine_info", "What the engine is; always 1.",
          "", "target", "engine_type", "version", "endpoint"),
    gauge("llm_target_e2e_request_latency_seconds",
          "Target of the configuration: from the request to its last byte.",
          "seconds", "target", "percentile"),
    gauge("llm_target_time_to_first_token_seconds",
          "Target of the configuration: from the request to its first token.",
          "seconds", "target", "percentile"),
    gauge("llm_target_request_time_per_output_token_seconds",
          "Target of the configuration: mean time a token after the first.",
          "seconds", "target", "percentile"),
    gauge("llm_target_generation_tokens_per_second",
          "Target of the configuration: tokens generated while requests wait.", "", "target"),
)  # fmt: skip

_MEMORY = (
    _gauge("memory_bytes",
           "Memory by component: weights, kv_cache, activations, cuda_graphs, other; disjoint.",
           "bytes", "gpu", "component"),
    _gauge("memory_source_info",
           "Who says llm_memory_bytes: sdk (the engine is ours), upstream (its own metrics), log "
           "(its log lines); always 1.", "", "source"),
    *(
        _gauge(f"allocator_{kind}_bytes", f"Memory that the allocator counts as {kind}.",
               "bytes", "gpu")
        for kind in ("allocated", "reserved", "inactive_split", "active")
    ),
    _gauge("memory_fragmentation_ratio",
           "Share lost to fragmentation (0 to 1): allocator or kv_internal; absent if unknown.",
           "ratio", "gpu", "kind"),
    _counter("allocator_ooms", "Allocations that failed for want of memory.", "gpu"),
    _counter("allocator_retries", "Allocations that freed the cache and tried again.", "gpu"),
)  # fmt: skip

_QUALITY = (
    gauge("llm_quality_score",
          "Score of the last answer to a golden prompt (0 to 1); absent where there was no answer.",
          "", "model_name", "target", "evaluation_name"),
    counter("llm_evaluations_total", "Golden prompts asked, by result: pass, fail, error.",
            "", "model_name", "target", "evaluation_name", "score_label"),
    histogram("llm_synthetic_time_to_first_token_seconds",
              "From a golden prompt to the first token of its answer.",
              "seconds", "model_name", "target"),
    histogram("llm_synthetic_e2e_seconds", "From a golden prompt to the end of its answer.",
              "seconds", "model_name", "target"),
)  # fmt: skip

LLM = Table((*_TOKENS, *_REQUESTS, *_LOAD, *_WINDOWS, *_ENGINES, *_MEMORY, *_QUALITY))
