"""Which model a series is about, and what has two names: pages over HTTP, as engines give them."""

from collections.abc import Sequence

import pytest

from exporter.collectors.test_engine import MODELS, VLLM, pages, read, served, value
from tocsin_exporter.snapshot import Sample


async def found_in(page: str, **more: tuple[int, str]) -> Sequence[Sample]:
    answers = {"/metrics": (200, page), "/health": (200, ""), **more}
    async with served(pages(answers)) as url:
        return await read(url)


async def test_what_names_no_model_is_about_the_only_one() -> None:
    """A group of its own, with errors alone, was 100 % errors."""
    samples = await found_in(VLLM)
    named = {dict(s.labels).get("model_name") for s in samples if len(s.labels) > 2}
    assert named == {"qwen", None}  # None: llm_engine_info
    assert value(samples, "llm_requests_total", status="error", model_name="qwen") == 3


async def test_what_each_rank_of_sglang_counts_is_counted_once() -> None:
    ranked = [f'tp_rank="{tp}",pp_rank="{pp}"' for tp, pp in ("00", "01", "10")]
    page = "".join(
        f'sglang:num_{what}_reqs{{model_name="m",{rank}}} 3\n'
        for what in ("running", "queue")
        for rank in (*ranked, 'tp_rank="2",pp_rank="0",dp_rank="1"')
    )
    samples = await found_in(page)
    for family in ("llm_num_requests_running", "llm_num_requests_waiting"):
        assert value(samples, family, engine="0") == 3
        assert value(samples, family, engine="1") == 3


async def test_what_fails_at_sglang_is_counted_by_its_http_layer() -> None:
    page = 'sglang:num_running_reqs{model_name="m"} 1\n' + "".join(
        f'sglang:http_responses_total{{endpoint="{path}",status_code="{code}",method="POST"}} {n}\n'
        for path, code, n in (
            ("/v1/chat/completions", 500, 3),
            ("/v1/completions", 200, 9),
            ("/metrics", 500, 5),
        )
    )
    assert value(await found_in(page), "llm_requests_total", status="error", model_name="m") == 3


@pytest.mark.parametrize(
    ("page", "family"),
    [
        ('vllm:cache_config_info{num_gpu_blocks="7"} 1\n', "llm_kv_cache_blocks"),
        ('http_requests_total{handler="/v1/completions",status="5xx"} 7\n', "llm_requests_total"),
    ],
)
async def test_with_several_models_what_names_none_is_the_engines(page: str, family: str) -> None:
    several = "".join(f'vllm:num_requests_running{{model_name="{m}"}} 1\n' for m in "ab")
    samples = await found_in(page + several)
    (own,) = [s for s in samples if s.family.name == family]
    assert own.value == 7 and "model_name" not in dict(own.labels)


async def test_without_any_model_on_the_page_the_model_list_says_it() -> None:
    page = 'trtllm_request_success_total{finished_reason="stop",model_name="undefined"} 4\n'
    samples = await found_in(page, **{"/v1/models": (200, MODELS)})
    assert value(samples, "llm_requests_total", model_name="m") == 4
    assert value(await found_in(page), "llm_requests_total", model_name="unknown") == 4


HISTOGRAM = """\
{0}_bucket{{model_name="m",le="0.1"}} 90
{0}_bucket{{model_name="m",le="+Inf"}} 100
{0}_count{{model_name="m"}} 100
{0}_sum{{model_name="m"}} 5
"""


@pytest.mark.parametrize(
    ("one", "other", "ours"),
    [
        ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds",
         "llm_inter_token_latency_seconds"),
        ("sglang:queue_time_seconds", "sglang:request_queue_time_seconds",
         "llm_request_queue_time_seconds"),
        ("vllm_e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds",
         "llm_e2e_request_latency_seconds"),
        ("trtllm_time_per_output_token_seconds", "trtllm_request_time_per_output_token_seconds",
         "llm_request_time_per_output_token_seconds"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("swapped", [False, True])
async def test_two_names_of_one_thing_count_once(
    one: str, other: str, ours: str, swapped: bool
) -> None:
    both = [HISTOGRAM.format(one), HISTOGRAM.format(other)]
    for page in ("".join(both[::-1] if swapped else both), both[0], both[1]):
        samples = await found_in(page)
        assert value(samples, ours + "_count") == 100
        assert value(samples, ours + "_sum") == 5
        assert value(samples, ours + "_bucket", le="0.1") == 90


@pytest.mark.parametrize(
    ("page", "ours"),
    [
        ("sglang:num_running_reqs 5\nsglang:num_requests_running 5\n", "llm_num_requests_running"),
        ("sglang:num_queue_reqs 5\nsglang_num_queue_reqs 5\n", "llm_num_requests_waiting"),
        ("vllm:kv_cache_usage_perc 5\nvllm:gpu_cache_usage_perc 6\n", "llm_kv_cache_usage_ratio"),
        ('vllm:request_success_total{finished_reason="stop"} 5\n'
         'vllm_request_success_total{finished_reason="stop"} 5\n', "llm_requests_total"),
        ("vllm:num_requests_running 5\nvllm:num_requests_running 5\n", "llm_num_requests_running"),
    ],
)  # fmt: skip
async def test_no_alias_is_added(page: str, ours: str) -> None:
    assert value(await found_in(page), ours) == 5


@pytest.mark.parametrize(
    ("listed", "model"),
    [
        ("/models/qwen2.5-7b-q4_k_m.gguf", "qwen2.5-7b-q4_k_m"),
        ("C:\\\\m\\\\Llama.GGUF", "Llama"),
        ("../m/big-00001-of-00003.gguf", "big"),
        ("my/alias", "my/alias"),
    ],
)
async def test_llama_cpps_model_is_no_path(listed: str, model: str) -> None:
    models = f'{{"object":"list","data":[{{"id":"{listed}"}}]}}'
    page = "llamacpp:requests_processing 1\n"
    samples = await found_in(page, **{"/v1/models": (200, models)})
    assert value(samples, "llm_num_requests_running", model_name=model) == 1


async def test_llama_cpps_model_is_in_its_properties_where_the_list_is_refused() -> None:
    props = '{"model_alias":"","model_path":"/m/tiny.gguf"}'
    page = "llamacpp:requests_processing 1\n"
    samples = await found_in(page, **{"/v1/models": (401, ""), "/props": (200, props)})
    assert value(samples, "llm_num_requests_running", model_name="tiny") == 1
