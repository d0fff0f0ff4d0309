"""What the boards of engines ask for is on the engine's own page as we keep it, with its labels.

Each row is a metric of a board and the labels that its queries match or group by. Where a board
asks for what is not there, docs/grafana.md says so, and why.
"""

import re
from pathlib import Path

import pytest

from exporter.collectors.test_engine_page import read
from exporter.collectors.test_engine_recorded import text

GRAFANA = Path(__file__).parents[3] / "docs" / "grafana.md"
ENGINE = "model_name engine"
_HISTOGRAM = ("_bucket", "_sum", "_count")


def histogram(name: str, labels: str = ENGINE) -> dict[str, str]:
    parts = {f"{name}{part}": labels for part in _HISTOGRAM}
    return {**parts, f"{name}_bucket": f"{labels} le"}


# vLLM 0.33: prometheus_grafana/grafana.json, performance_statistics.json, query_statistics.json
VLLM = {
    **histogram("vllm:e2e_request_latency_seconds"),
    **histogram("vllm:inter_token_latency_seconds"),
    **histogram("vllm:request_time_per_output_token_seconds"),
    **histogram("vllm:time_to_first_token_seconds"),
    "vllm:prompt_tokens_total": ENGINE,
    "vllm:generation_tokens_total": ENGINE,
    "vllm:num_requests_running": ENGINE,
    "vllm:num_requests_waiting": ENGINE,
    "vllm:kv_cache_usage_perc": ENGINE,
    "vllm:request_prompt_tokens_bucket": f"{ENGINE} le",
    "vllm:request_generation_tokens_bucket": f"{ENGINE} le",
    "vllm:request_success_total": f"{ENGINE} finished_reason",
    "vllm:request_queue_time_seconds_sum": ENGINE,
    "vllm:request_prefill_time_seconds_sum": ENGINE,
    "vllm:request_decode_time_seconds_sum": ENGINE,
    "vllm:request_max_num_generation_tokens_sum": ENGINE,
    "vllm:iteration_tokens_total_count": ENGINE,
}
VLLM_STATUS = {  # vllm_service_status.json
    "vllm:engine_sleep_state": f"{ENGINE} sleep_state",
    "vllm:time_to_first_token_seconds_bucket": f"{ENGINE} le",
    "vllm:generation_tokens_total": ENGINE,
    "vllm:num_requests_running": ENGINE,
    "vllm:request_success_total": f"{ENGINE} finished_reason",
}
VLLM_SPECULATION = {  # vllm_speculative_decoding.json
    "vllm:spec_decode_num_accepted_tokens_total": ENGINE,
    "vllm:spec_decode_num_draft_tokens_total": ENGINE,
    "vllm:spec_decode_num_drafts_total": ENGINE,
    "vllm:spec_decode_num_accepted_tokens_per_pos_total": f"{ENGINE} position",
    "vllm:generation_tokens_total": ENGINE,
    **histogram("vllm:inter_token_latency_seconds"),
}
SGLANG = {  # grafana/dashboards/json/sglang-dashboard.json
    **histogram("sglang:e2e_request_latency_seconds", "model_name"),
    **histogram("sglang:time_to_first_token_seconds", "model_name"),
    "sglang:num_running_reqs": "model_name",
    "sglang:num_queue_reqs": "model_name",
    "sglang:gen_throughput": "model_name",
    "sglang:cache_hit_rate": "model_name",
}
_TGI_TIMES = ("request", "request_queue", "request_mean_time_per_token")
_TGI_BATCHES = ("concat", "decode", "filter", "forward", "inference")
TGI = {  # assets/tgi_grafana.json
    **{f"tgi_{name}_duration_bucket": "le" for name in _TGI_TIMES},
    **{f"tgi_batch_{name}_duration_bucket": "le method" for name in _TGI_BATCHES},
    **{f"tgi_request_{n}_tokens_bucket": "le" for n in ("generated", "skipped")},
    **{f"tgi_request_generated_tokens{part}": "" for part in ("_sum", "_count")},
    "tgi_request_input_length_bucket": "le",
    "tgi_batch_current_max_tokens": "",
    "tgi_batch_current_size": "",
    "tgi_batch_concat": "reason",
    "tgi_queue_size": "",
    "tgi_request_count": "",
    "tgi_request_success": "",
    "tgi_request_failure": "err",
}
LMDEPLOY = {  # monitoring/grafana/dashboards/json/lmdeploy-dashboard.json
    **histogram("lmdeploy:e2e_request_latency_seconds"),
    **histogram("lmdeploy:iter_token_latency"),
    **histogram("lmdeploy:time_per_output_token_seconds"),
    **histogram("lmdeploy:time_to_first_token_seconds"),
    "lmdeploy:gpu_cache_usage_perc": ENGINE,
    "lmdeploy:num_requests_running": ENGINE,
    "lmdeploy:num_requests_waiting": ENGINE,
    "lmdeploy:prompt_tokens_total": ENGINE,
    "lmdeploy:generation_tokens_total": ENGINE,
    "lmdeploy:request_queue_time_seconds_sum": ENGINE,
    "lmdeploy:request_success_total": f"{ENGINE} finished_reason",
}
BOARDS = [
    ("vllm-0.32.0", VLLM),
    ("vllm-0.14.1", VLLM_SPECULATION),
    ("vllm-0.32.0", VLLM_STATUS),
    ("sglang-0.5.23", SGLANG),
    ("tgi-3.3.6", TGI),
    ("lmdeploy-0.11", LMDEPLOY),
]


@pytest.mark.parametrize(("recorded", "board"), BOARDS)
def test_what_a_board_asks_for_is_kept(recorded: str, board: dict[str, str]) -> None:
    snapshot = read(text(recorded), recorded.split("-")[0])
    kept: dict[str, set[str]] = {}
    for series in snapshot.series:
        kept.setdefault(series.name, set()).update(name for name, _ in series.labels)
    assert {name for name in board if name not in kept} == set()
    for name, labels in board.items():
        assert set(labels.split()) <= kept[name], name


def test_what_newer_engines_do_not_say_is_on_the_page_with_its_new_name() -> None:
    """Old boards ask for it; it is on no page of today's, and what the page names instead is."""
    table = re.findall(
        r"^\| `(\w+:\w+)` \| `?([\w:]+)`?[^|]* \|",
        GRAFANA.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(table) >= 9
    today = {series.name for series in read(text("vllm-0.32.0"), "vllm").series}
    for old, new in table:
        assert not any(name.startswith(old) for name in today), old
        assert new == "nothing:" or any(name.startswith(new) for name in today), new


def test_no_page_has_the_label_that_tgis_board_wants() -> None:
    labels = {name for series in read(text("tgi-3.3.6"), "tgi").series for name, _ in series.labels}
    assert "container" not in labels
    assert "`container`" in GRAFANA.read_text(encoding="utf-8")
