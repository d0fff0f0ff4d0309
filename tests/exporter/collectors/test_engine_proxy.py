"""An engine that stands behind `tocsin proxy`: each request counts once under its target."""

from dataclasses import replace

import pytest

from exporter.collectors.test_engine import Pages, pages, served, value
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import Sample

LLAMACPP = "llamacpp:prompt_tokens_total 7\nllamacpp:requests_processing 1\n"
VLLM = 'vllm:request_success_total{model_name="m",finished_reason="stop"} 5\n'
MODELS = (200, '{"object": "list", "data": [{"id": "m", "owned_by": "llamacpp"}]}')


def measured(target: str, requests: int = 3) -> str:
    own = f'engine="proxy",model_name="m",target="{target}"'
    return (
        f'llm_prompt_tokens_total{{{own}}} 99\nllm_requests_total{{{own},status="success"}} '
        f"{requests}\nllm_requests_started_total{{{own}}} 4\n"
        f'tocsin_proxy_engine_connections{{target="{target}"}} 1\n'
    )


async def collected(engine: Pages, proxy: Pages | None, target: str = "") -> list[Sample]:
    """What is said of an engine with these pages, behind a proxy with those; None: it is down."""
    async with served(pages(engine)) as url:
        access = EngineAccess.of(url)
        about = measured(target or access.target.replace("127.0.0.1", "localhost"))
        answers: Pages = {"/metrics": (200, about)} if proxy is None else proxy
        async with served(pages(answers)) as page:
            with_proxy = replace(access, proxy=EngineAccess.of(page))
            collector = EngineCollector(with_proxy, lambda: 1.0)
            try:
                return list(await collector.collect())
            except CollectorError as error:
                return list(error.samples)
            finally:
                await collector.aclose()


async def test_what_the_engine_does_not_say_is_the_proxys() -> None:
    samples = await collected({"/metrics": (200, LLAMACPP), "/v1/models": MODELS}, None)
    assert value(samples, "llm_requests_total", engine="proxy", status="success") == 3
    assert value(samples, "llm_requests_started_total", engine="proxy", model_name="m") == 4
    assert value(samples, "llm_engine_proxy_up") == 1
    assert value(samples, "llm_num_requests_running", engine="0") == 1
    prompt = [s for s in samples if s.family.name == "llm_prompt_tokens_total"]
    assert [(s.value, dict(s.labels)["engine"]) for s in prompt] == [(7, "0")]


async def test_what_the_engine_counts_itself_is_not_the_proxys_too() -> None:
    samples = await collected({"/metrics": (200, VLLM)}, None)
    requests = [s for s in samples if s.family.name == "llm_requests_total"]
    assert [(s.value, dict(s.labels)["engine"]) for s in requests] == [(5, "0")]


async def test_examples_of_the_proxy_stand_behind_its_own_families_alone() -> None:
    about = 'engine="proxy",le="1.0",model_name="m"'
    example = ' # {request_id="r-1"} 0.5 1\n'
    answers: Pages = {
        "/metrics": (200, 'vllm:e2e_request_latency_seconds_count{model_name="m"} 1\n')
    }
    async with served(pages(answers)) as url:
        access = EngineAccess.of(url)
        page = "".join(
            f"llm_{name}_seconds_bucket{{{about}}} 1{example}"
            for name in ("e2e_request_latency", "time_to_first_token")
        )
        proxy: Pages = {"/metrics": (200, measured(access.target) + page)}
        async with served(pages(proxy)) as before:
            with_proxy = replace(access, proxy=EngineAccess.of(before))
            collector = EngineCollector(with_proxy, lambda: 1.0)
            await collector.collect()
            names = {key[0]: dict(found.labels) for key, found in collector.exemplars.items()}
            await collector.aclose()
    assert names == {"llm_time_to_first_token_seconds_bucket": {"request_id": "r-1"}}


async def test_an_engine_without_metrics_has_those_of_its_proxy() -> None:
    samples = await collected({"/v1/models": MODELS, "/metrics": (404, "")}, None)
    assert value(samples, "llm_engine_up") == 1
    assert value(samples, "llm_prompt_tokens_total", engine="proxy") == 99


async def test_an_engine_that_is_down_leaves_what_its_proxy_counts() -> None:
    samples = await collected({"/metrics": (200, LLAMACPP), "/health": (503, "")}, None)
    assert value(samples, "llm_engine_up") == 0
    assert value(samples, "llm_requests_total", status="success") == 3


@pytest.mark.parametrize(
    "page",
    [(500, "gone"), (200, "<html>"), (200, measured("127.0.0.1:1")), (200, "x" * (5 << 20))],
)
async def test_a_proxy_that_cannot_be_read_costs_itself(
    page: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Also one before another engine."""
    samples = await collected({"/metrics": (200, LLAMACPP)}, {"/metrics": page})
    assert value(samples, "llm_engine_proxy_up") == 0
    assert caplog.messages.count("cannot read the proxy's metrics") == 1
    assert value(samples, "llm_engine_up") == 1
    assert value(samples, "llm_prompt_tokens_total") == 7
    assert not any(s.family.name == "llm_requests_total" for s in samples)


async def test_a_family_that_was_the_engines_stays_so() -> None:
    """An engine that says it no more, since it began anew, does not leave it to the proxy."""
    answers: Pages = {"/metrics": (200, LLAMACPP)}
    async with served(pages(answers)) as url:
        access = EngineAccess.of(url)
        async with served(pages({"/metrics": (200, measured(access.target))})) as page:
            with_proxy = replace(access, proxy=EngineAccess.of(page))
            collector = EngineCollector(with_proxy, lambda: 1.0)
            await collector.collect()
            answers["/metrics"] = (200, "llamacpp:requests_processing 1\n")
            samples = list(await collector.collect())
            await collector.aclose()
    assert not any(s.family.name == "llm_prompt_tokens_total" for s in samples)
    assert value(samples, "llm_requests_total", status="success") == 3
