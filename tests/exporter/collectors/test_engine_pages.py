"""Pages of real engines (their values changed), translated; what each must become is from the page.

tests/golden/engines has them: vLLM 0.32.0 and llama.cpp 11549, after some chats.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.site import table
from tocsin_exporter.catalogue import LLM
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_dialects import recognise
from tocsin_exporter.collectors.engine_translation import Translator
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Labels

PAGES = Path(__file__).parents[2] / "golden" / "engines"
TARGET = "127.0.0.1:8000"

STEMS = (
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
)
# ours -> the names of theirs that add up to it, as they stand on the page
VLLM: dict[str, tuple[str, ...]] = {
    "llm_num_requests_running": ("vllm:num_requests_running",),
    "llm_num_requests_waiting": ("vllm:num_requests_waiting",),
    "llm_kv_cache_usage_ratio": ("vllm:kv_cache_usage_perc",),
    "llm_prompt_tokens_total": ("vllm:prompt_tokens_total",),
    "llm_generation_tokens_total": ("vllm:generation_tokens_total",),
    "llm_num_preemptions_total": ("vllm:num_preemptions_total",),
    "llm_prefix_cache_queries_total": ("vllm:prefix_cache_queries_total",),
    "llm_prefix_cache_hits_total": ("vllm:prefix_cache_hits_total",),
    **{f"llm_{s}{p}": (f"vllm:{s}{p}",) for s in STEMS for p in ("_count", "_sum")},
    "llm_iteration_tokens_count": ("vllm:iteration_tokens_total_count",),
    "llm_iteration_tokens_sum": ("vllm:iteration_tokens_total_sum",),
}
LLAMACPP: dict[str, tuple[str, ...]] = {
    "llm_num_requests_running": ("llamacpp:requests_processing",),
    "llm_num_requests_waiting": ("llamacpp:requests_deferred",),
    # its `usage` counts the tokens that its cache knew, so the sum is what a client counts
    "llm_prompt_tokens_total": (
        "llamacpp:prompt_tokens_total",
        "llamacpp:prompt_tokens_cached_total",
    ),
    "llm_generation_tokens_total": ("llamacpp:tokens_predicted_total",),
}
REQUESTS = {"success": (3 + 272) * 3.0 + 1, "cancelled": 9.0, "error": 4.0, "rejected": 8.0}


def page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def translated(text: str) -> dict[tuple[str, Labels], float]:
    dialect = at_once(recognise(text))
    assert dialect is not None
    page = at_once(engine_text.read(text))
    return table(at_once(Translator(dialect, TARGET, LLM, "smol").samples(page)))


def theirs(text: str) -> dict[str, float]:
    """The sums of the page's samples by name, as prometheus_client reads them."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def ours(rows: Mapping[tuple[str, Labels], float], name: str, **wanted: str) -> float:
    found = [v for (n, ls), v in rows.items() if n == name and wanted.items() <= dict(ls).items()]
    assert found, f"no {name}"
    return sum(found)


@pytest.mark.parametrize(
    ("name", "meanings"), [("vllm_0.32.0.txt", VLLM), ("llamacpp_11549.txt", LLAMACPP)]
)
def test_every_number_of_the_page_is_in_ours(
    name: str, meanings: Mapping[str, tuple[str, ...]]
) -> None:
    text = page(name)
    rows, sums = translated(text), theirs(text)
    for metric, sources in meanings.items():
        assert ours(rows, metric) == pytest.approx(sum(sums[s] for s in sources)), metric
        assert sum(sums[s] for s in sources) > 0, f"{metric} proves nothing: it is 0 on the page"
    assert {dict(labels)["model_name"] for _, labels in rows} == {"smol"}
    assert {dict(labels)["target"] for _, labels in rows} == {TARGET}


def test_vllms_requests_end_in_one_status_each() -> None:
    rows = translated(page("vllm_0.32.0.txt"))
    counted = {s: ours(rows, "llm_requests_total", status=s) for s in REQUESTS}
    assert counted == REQUESTS


def test_vllms_histograms_are_whole() -> None:
    text = page("vllm_0.32.0.txt")
    rows = translated(text)
    upstream = {
        (sample.name, float(sample.labels["le"])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    for stem in STEMS:
        mine = {
            float(dict(labels)["le"]): value
            for (name, labels), value in rows.items()
            if name == f"llm_{stem}_bucket"
        }
        wanted = {le: v for (name, le), v in upstream.items() if name == f"vllm:{stem}_bucket"}
        assert mine == wanted and mine[float("inf")] > 0


def test_vllms_cache_is_read_from_the_labels_of_its_info() -> None:
    rows = translated(page("vllm_0.32.0.txt"))
    assert ours(rows, "llm_kv_cache_blocks") == 364
    assert ours(rows, "llm_kv_cache_block_size_tokens") == 128
    assert ours(rows, "llm_kv_cache_capacity_tokens") == 46592
