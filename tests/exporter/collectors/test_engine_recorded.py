"""Pages as eleven versions of vLLM and eight other engines write them, each with what they mean.

The `.prom` files have the names, types and labels of the engine's source of that version; those of
vLLM 0.32.0 and of llama.cpp are of real servers. The `.expected` files beside them, made and read
by hand, are all of the `llm_*` that must come of it, but the buckets.
"""

from collections import Counter
from pathlib import Path

import pytest

from exporter.collectors.test_engine import pages, read, served
from tocsin_exporter.catalogue import LLM
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_derived import derived
from tocsin_exporter.collectors.engine_dialects import DIALECTS, recognise
from tocsin_exporter.collectors.engine_translation import Translator
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Sample

RECORDED = Path(__file__).parents[1] / "recorded" / "engines"
PAGES = sorted(path.stem for path in RECORDED.glob("*.prom"))


def text(name: str) -> str:
    return (RECORDED / f"{name}.prom").read_text(encoding="utf-8")


def translated(page: str) -> list[Sample]:
    dialect = at_once(recognise(page))
    assert dialect is not None
    samples = at_once(Translator(dialect, "e:1", LLM).samples(at_once(engine_text.read(page))))
    return [*samples, *derived(samples, LLM, "upstream")]


def line(sample: Sample) -> str:
    labels = ",".join(f'{k}="{v}"' for k, v in sample.labels if k != "target")
    return f"{sample.family.name}{sample.suffix}{{{labels}}}"


def test_as_many_as_are_promised() -> None:
    kinds = Counter(name.split("-")[0] for name in PAGES)
    assert kinds["vllm"] >= 11
    assert set(kinds) == DIALECTS.keys() - {"tocsin"}  # our worker's pages are its own tests'


@pytest.mark.parametrize("name", PAGES)
def test_a_recorded_page_gives_these_and_no_others(name: str) -> None:
    dialect = at_once(recognise(text(name)))
    assert dialect is not None and dialect.name == name.split("-")[0]
    expected = (RECORDED / f"{name}.expected").read_text(encoding="utf-8").splitlines()
    wanted = {row.rpartition(" ")[0]: float(row.rpartition(" ")[2]) for row in expected}
    found = {line(s): s.value for s in translated(text(name)) if s.suffix != "_bucket"}
    assert found == wanted


@pytest.mark.parametrize("name", PAGES)
def test_every_histogram_has_its_buckets(name: str) -> None:
    """As many requests below infinity as there are, and never fewer below a higher bound."""
    samples = translated(text(name))
    counts = {s.labels: s.value for s in samples if s.suffix == "_count"}
    assert counts or name.startswith("llamacpp")  # which has no histograms
    for sample in samples:
        if sample.suffix == "_bucket" and ("le", "+Inf") in sample.labels:
            about = tuple(pair for pair in sample.labels if pair[0] != "le")
            same = [
                s.value
                for s in samples
                if s.family is sample.family and s.suffix == "_count" and s.labels == about
            ]
            assert same == [sample.value]


def test_milliseconds_are_seconds_in_bounds_and_sum_and_counts_stay() -> None:
    buckets = {
        dict(s.labels)["le"]: s.value
        for s in translated(text("triton-25.06-trtllm"))
        if s.family.name == "llm_time_to_first_token_seconds" and s.suffix == "_bucket"
    }
    assert buckets == {"0.1": 1, "0.5": 3, "2.0": 4, "5.0": 4, "+Inf": 4}


async def test_vllm_in_triton_is_read_as_vllm() -> None:
    both = text("triton-25.06-trtllm") + text("vllm-0.11.2")
    async with served(pages({"/metrics": (200, both), "/health": (200, "")})) as url:
        samples = await read(url)
    assert [s.value for s in samples if s.family.name == "llm_num_requests_running"] == [3.0]
    info = next(s for s in samples if s.family.name == "llm_engine_info")
    assert dict(info.labels)["engine_type"] == "vllm"


async def test_what_follows_is_on_the_page_of_a_whole_reading() -> None:
    async with served(pages({"/metrics": (200, text("sglang-0.5.23"))})) as url:
        samples = await read(url)
    used = [s for s in samples if s.family.name == "llm_kv_cache_used_bytes"]
    assert [s.value for s in used] == [2.0**31, 2.0**31]  # a quarter of 2 x 4 GiB, twice
    sources = [dict(s.labels) for s in samples if s.family.name == "llm_memory_source_info"]
    assert [labels["source"] for labels in sources] == ["upstream", "upstream"]


@pytest.mark.parametrize("kind", ["finished_reason", "engine"])
def test_a_label_of_theirs_has_so_many_values(kind: str) -> None:
    page = "".join(
        f'vllm:request_success_total{{model_name="m",{kind}="r{i}"}} 1\n' for i in range(400)
    )
    dropped = Counter[str]()
    translator = Translator(DIALECTS["vllm"], "e:1", LLM, dropped=dropped)
    samples = at_once(translator.samples(at_once(engine_text.read(page))))
    most = {"finished_reason": 64, "engine": 256}[kind]
    by_reason = [s for s in samples if s.family.name == "llm_request_success_total"]
    assert len(by_reason) == most + 1
    assert sum(s.value for s in by_reason) == 400
    assert translator.limited >= 400 - most
    assert dropped["llm_request_success_total"] == 400 - most
    at_once(translator.samples(at_once(engine_text.read(page))))
    assert dropped["llm_request_success_total"] == 400 - most  # each once, not in each round
