"""What follows from an engine's samples, and what must not."""

import pytest

from tocsin_exporter.catalogue import LLM
from tocsin_exporter.collectors.engine_derived import derived
from tocsin_exporter.snapshot import Sample, labels

ABOUT = {"model_name": "m", "engine": "0", "target": "e:1"}


def sample(name: str, value: float, **more: str) -> Sample:
    return Sample(LLM[f"llm_{name}"], value, labels(**{**ABOUT, **more}))


def follows(*samples: Sample) -> dict[str, float]:
    """By name, with what the labels say besides."""
    found = {}
    for family, value, own, _ in derived(samples, LLM, "upstream"):
        more = [text for name, text in own if name not in ABOUT]
        found["|".join((family.name, *more))] = value
    return found


def test_tokens_by_type_unless_the_engine_says_them() -> None:
    rows = [sample("prompt_tokens_total", 7), sample("generation_tokens_total", 3)]
    assert follows(*rows) == {"llm_tokens_total|input": 7, "llm_tokens_total|output": 3}
    assert follows(*rows, sample("tokens_total", 8, type="input")) == {"llm_tokens_total|output": 3}
    other = sample("tokens_total", 8, type="input", engine="1")
    assert follows(*rows, other)["llm_tokens_total|input"] == 7  # that of another rank


def test_memory_without_a_usage_says_who_speaks_and_no_more() -> None:
    memory = sample("memory_bytes", 100, component="kv_cache")
    assert follows(memory) == {"llm_memory_source_info|upstream": 1}
    assert follows(sample("kv_cache_usage_ratio", 0.5)) == {}


def test_the_memory_of_all_gpus_is_used_by_the_same_share() -> None:
    memory = [sample("memory_bytes", 100, component="kv_cache", gpu=gpu) for gpu in "01"]
    weights = sample("memory_bytes", 900, component="weights")
    found = follows(*memory, weights, sample("kv_cache_usage_ratio", 0.25))
    assert found["llm_kv_cache_used_bytes"] == 50


@pytest.mark.parametrize("name", ["kv_cache_used_bytes", "memory_source_info"])
def test_what_the_engine_says_itself_is_not_said_again(name: str) -> None:
    rows = [sample("memory_bytes", 100, component="kv_cache"), sample("kv_cache_usage_ratio", 0.5)]
    more = {"source": "sdk"} if name == "memory_source_info" else {}
    said = follows(*rows, sample(name, 1, **more))
    assert not [found for found in said if found.startswith(f"llm_{name}")]


def test_hits_without_look_ups_are_of_the_prompt() -> None:
    cached = sample("tokens_total", 4, type="cached")
    found = follows(cached, sample("prompt_tokens_total", 7))
    assert found["llm_prefix_cache_hits_total"] == 4
    assert found["llm_prefix_cache_queries_total"] == 7
    assert "llm_prefix_cache_queries_total" not in follows(cached)
    own = (sample("prefix_cache_hits_total", 1), sample("prefix_cache_queries_total", 2))
    assert not any("prefix" in name for name in follows(cached, *own))


def test_a_capacity_is_blocks_times_their_size() -> None:
    blocks, size = sample("kv_cache_blocks", 10), sample("kv_cache_block_size_tokens", 16)
    assert follows(blocks, size) == {"llm_kv_cache_capacity_tokens": 160}
    assert follows(blocks) == follows(size) == {}
    assert follows(blocks, size, sample("kv_cache_capacity_tokens", 150)) == {}
