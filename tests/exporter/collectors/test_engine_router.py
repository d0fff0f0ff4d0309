"""llama.cpp's router, which has a page for each model, and Ollama, which has none."""

import json

import pytest

from exporter.collectors.test_engine import Pages, pages, read, served, value
from tocsin_exporter.snapshot import Sample

MISSING = (400, '{"error":{"code":400,"message":"model name is missing from the request"}}')
SLEEPY = ["llama-server", "--sleep-idle-seconds", "60"]


def listed(**states: tuple[str, list[str]]) -> tuple[int, str]:
    """The router's model list: its models with what they are and how they were started."""
    data = [
        {"id": name, "object": "model", "owned_by": "llamacpp",
         "status": {"value": value, "args": args}}
        for name, (value, args) in states.items()
    ]  # fmt: skip
    return 200, json.dumps({"data": data, "object": "list"})


def page(running: int) -> tuple[int, str]:
    kind = "# TYPE llamacpp:requests_processing gauge\n"
    return 200, f"{kind}llamacpp:requests_processing {running}\nllamacpp:prompt_tokens_total 7\n"


async def asked(answers: Pages) -> list[Sample]:
    async with served(pages({"/health": (200, "{}"), "/metrics": MISSING, **answers})) as url:
        return list(await read(url))


async def test_each_model_that_is_loaded_is_asked() -> None:
    samples = await asked(
        {
            "/v1/models": listed(a=("loaded", []), b=("loaded", []), c=("unloaded", [])),
            "/metrics?model=a&autoload=false": page(2),
            "/metrics?model=b&autoload=false": page(3),
            "/metrics?model=c&autoload=false": page(99),
        }
    )
    running = {
        dict(s.labels)["model_name"]: s.value
        for s in samples
        if s.family.name == "llm_num_requests_running"
    }
    assert running == {"a": 2, "b": 3}
    assert value(samples, "llm_engine_up") == 1
    assert value(samples, "llm_engine_metrics_refused") == 0
    assert value(samples, "llm_engine_info", engine_type="llamacpp") == 1


@pytest.mark.parametrize("state", ["unloaded", "loading", "sleeping"])
async def test_a_router_without_a_model_is_up_and_refuses_nothing(state: str) -> None:
    samples = await asked({"/v1/models": listed(a=(state, []))})
    assert value(samples, "llm_engine_up") == 1
    assert value(samples, "llm_engine_metrics_refused") == 0
    assert not [s for s in samples if s.family.name == "llm_num_requests_running"]


async def test_a_model_that_would_be_kept_awake_is_not_asked() -> None:
    samples = await asked(
        {
            "/v1/models": listed(a=("loaded", SLEEPY), b=("loaded", [])),
            "/metrics?model=a&autoload=false": page(2),
            "/metrics?model=b&autoload=false": page(3),
        }
    )
    (running,) = [s for s in samples if s.family.name == "llm_num_requests_running"]
    assert dict(running.labels)["model_name"] == "b"


@pytest.mark.parametrize("broken", [(500, "gone"), (200, "<html>"), (200, "x 1\n" * 40_000)])
async def test_a_model_that_answers_junk_costs_itself(broken: tuple[int, str]) -> None:
    samples = await asked(
        {
            "/v1/models": listed(a=("loaded", []), b=("loaded", [])),
            "/metrics?model=a&autoload=false": broken,
            "/metrics?model=b&autoload=false": page(3),
        }
    )
    assert value(samples, "llm_num_requests_running", model_name="b") == 3


async def test_a_name_with_quotes_is_one_name() -> None:
    samples = await asked(
        {
            "/v1/models": listed(**{'q"w\\e': ("loaded", [])}),
            "/metrics?model=q%22w%5Ce&autoload=false": page(3),
        }
    )
    assert value(samples, "llm_num_requests_running", model_name='q"w\\e') == 3


async def test_ollamas_models_have_their_memory() -> None:
    loaded = [
        {"name": "mistral:latest", "size": 5137025024, "size_vram": 5137025024},
        {"name": "", "size": 1}, {"name": "bool", "size": True}, {"name": "minus", "size": -1}, 7,
    ]  # fmt: skip
    answers: Pages = {
        "/api/version": (200, '{"version":"0.9.0"}'),
        "/v1/models": (200, '{"object":"list","data":[{"id":"mistral","owned_by":"library"}]}'),
        "/api/ps": (200, json.dumps({"models": loaded})),
    }
    async with served(pages(answers)) as url:
        samples = list(await read(url))
    (memory,) = [s for s in samples if s.family.name == "llm_memory_bytes"]
    assert memory.value == 5137025024
    assert dict(memory.labels)["model_name"] == "mistral:latest"
    assert value(samples, "llm_memory_source_info", source="upstream") == 1


@pytest.mark.parametrize("answer", ["", "[]", '{"models": 7}', '{"models": [{"name": 7}]}'])
async def test_an_ollama_that_says_nothing_of_models_is_up(answer: str) -> None:
    answers: Pages = {
        "/api/version": (200, '{"version":"0.9.0"}'),
        "/v1/models": (200, '{"object":"list","data":[]}'),
        "/api/ps": (200, answer),
    }
    async with served(pages(answers)) as url:
        samples = list(await read(url))
    assert value(samples, "llm_engine_up") == 1
    assert not [s for s in samples if s.family.name == "llm_memory_bytes"]
