"""Exemplars of an engine's OpenMetrics page stand behind our buckets."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.collectors.test_engine import pages, served
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.collectors.engine_text import MOST_EXEMPLARS, exemplar, read
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.exposition import render
from tocsin_exporter.scrape import Scraper, ScrapeTarget
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Exemplar, Source

NOW = 1_700_000_000.0
PAGE = """\
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5"} 1.0 # {trace_id="a # {b"} 0.4 1600000000.5
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 2.0 # {trace_id="c"} 7.5
vllm:time_to_first_token_seconds_count{engine="0"} 2.0
vllm:time_to_first_token_seconds_sum{engine="0"} 7.9
vllm:prompt_tokens_total{engine="0",model_name="m"} 8.0 # {trace_id="d"} 1.0
nv_inference_first_response_histogram_ms_bucket{le="100"} 1 # {trace_id="e"} 50
# EOF
"""  # noqa: E501


async def snapshot_of(page: str) -> str:
    """Our page in OpenMetrics after one reading of theirs."""
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        engine = EngineCollector(EngineAccess.of(url), lambda: NOW)
        target = ScrapeTarget("llm", Source("llm", "e"), (engine,), 5.0, 5.0, target="e")
        snapshot = await Scraper(target, Clock()).round(at_ms=1)
        await engine.aclose()
    assert snapshot is not None
    return render([snapshot], "openmetrics").body.decode()


async def test_they_are_behind_the_buckets_of_ours() -> None:
    families = text_string_to_metric_families(  # type: ignore[no-untyped-call]
        await snapshot_of(PAGE)
    )
    found = {
        sample.labels["le"]: sample.exemplar
        for family in families
        for sample in family.samples
        if family.name == "llm_time_to_first_token_seconds" and sample.name.endswith("_bucket")
    }
    first, last = found["0.5"], found["+Inf"]
    assert first is not None and first.labels == {"trace_id": "a # {b"}
    assert first.value == 0.4 and float(first.timestamp) == 1600000000.5
    assert last is not None and last.labels == {"trace_id": "c"} and last.value == 7.5
    assert float(last.timestamp) == NOW  # it says no time: it is new


async def test_an_exemplar_has_the_unit_of_ours() -> None:
    page = PAGE.replace("vllm:", "other:")  # Triton's alone
    (line,) = [
        row for row in (await snapshot_of(page)).splitlines() if "first_token_seconds_bucket" in row
    ]
    assert 'le="0.1"' in line and '# {trace_id="e"} 0.05 ' in line


async def test_a_counter_of_theirs_keeps_none() -> None:
    rows = (await snapshot_of(PAGE)).splitlines()
    assert not [row for row in rows if "prompt_tokens_total" in row and "trace_id" in row]


@pytest.mark.parametrize(
    "text",
    ["{", '{a="b"}', '{a="b"} x', '{a="b"} 1 x', '{a="b"} nan', '{a="b"} 1 1e400', '{a=b} 1',
     '{a="b"} 1 2 3', '{"a"} 1', '{' + '"' * 5_000],
)  # fmt: skip
def test_what_is_no_exemplar_is_none(text: str) -> None:
    assert exemplar(text, 0) is None


def test_one_without_labels_and_one_with_escapes() -> None:
    assert exemplar("{} 1", 5) == Exemplar((), 1.0, 5)
    assert exemplar(r'{b="\"",a="x"} 2 1.5', 5) == Exemplar((("a", "x"), ("b", '"')), 2.0, 1500)


def test_a_page_of_exemplars_keeps_so_many() -> None:
    page = "".join(f'x_bucket{{le="{i}"}} 1 # {{t="{i}"}} 1\n' for i in range(MOST_EXEMPLARS + 9))
    parsed = at_once(read(page))
    assert len(parsed.texts) == MOST_EXEMPLARS + 9
    assert len(parsed.exemplars) == MOST_EXEMPLARS
