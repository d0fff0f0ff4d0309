"""vLLM's memory from its log: the lines of its versions, ranks, restarts, rotation, bad files."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.collectors.test_engine import pages, served, value
from exporter.collectors.test_engine_recorded import text
from tocsin_exporter.catalogue import LLM
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.collectors.engine_log import GIB, MOST_A_ROUND, EngineLog
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import Sample

START = "(APIServer pid=1) INFO 11-30 08:34:13 [api_utils.py:286] non-default args: {'a': 1}\n"
FREE = (
    "{who}INFO [gpu_worker.py:1044] Free memory on device (78.5/79.11 GiB) on startup. Desired GPU "
    "memory utilization is (0.9, 71.2 GiB). Actual usage is 15.75 GiB for consumed memory (weights "
    "+ non-torch), 2.5 GiB for peak activation, and 0.75 GiB for CUDAGraph memory. Replace "
    "gpu_memory_utilization config with `--kv-cache-memory=1` (1.0 GiB) to fit into requested "
    "memory, or `--kv-cache-memory=2` (2.0 GiB) to fully utilize gpu memory. Current kv cache "
    "memory in use is 52.25 GiB.\n"
)
WORKER = (
    "{who}INFO [gpu_model_runner.py:5089] Model loading took 15.5 GiB memory and 3.25 seconds\n"
    "{who}INFO [gpu_worker.py:773] Available KV cache memory: 52.0 GiB\n"
    "{who}INFO [gpu_worker.py:1004] CUDA graph pool memory: 0.5 GiB (actual), 0.6 GiB (estimated), "
    "difference: 0.1 GiB (20.0%).\n" + FREE
)
TOKENS = (
    "(EngineCore pid=2) INFO [kv_cache_utils.py:1147] GPU KV cache size: 437,056 tokens, Maximum "
    "concurrency for 8,192 tokens per request: 53.35x\n"
)
V10 = (
    "INFO [gpu_model_runner.py:2392] Model loading took 14.9889 GiB and 3.2 seconds\n"
    "INFO [gpu_model_runner.py:2981] Graph capturing finished in 21 secs, took 0.5 GiB\n"
    "INFO [gpu_worker.py:391] Free memory on device (78.6/79.1 GiB) on startup. Actual usage is "
    "15.0 GiB for weight, 2.0 GiB for peak activation, 0.25 GiB for non-torch memory, and 0.5 GiB "
    "for CUDAGraph memory. Current kv cache memory in use is 55834574848 bytes.\n"
    "INFO [gpu_worker.py:298] Available KV cache memory: 52.0 GiB\n"
)
V06 = (
    "INFO 12-01 worker.py:241] Memory profiling takes 5.2 seconds\n"
    "INFO 12-01 worker.py:241] model weights take 14.99GiB; non_torch_memory takes 0.25GiB; PyTorch"
    " activation peak memory takes 1.5GiB; the rest of the memory reserved for KV Cache is 54.5GiB."
    "\nINFO model_runner.py:1518] Graph capturing finished in 21 secs, took 0.75 GiB\n"
)
V04 = "INFO 05-01 model_runner.py:146] Loading model weights took 12.5 GB\n"
CPU = (
    "(Worker pid=9) INFO [cpu_worker.py:260] Explicitly set (1.0/9.34) GiB for KV cache on node 0\n"
)


def gib(**components: float) -> dict[str, float]:
    return {name: value * GIB for name, value in components.items()}


NEWEST = gib(weights=15.5, kv_cache=52.25, activations=2.5, cuda_graphs=0.75, other=0.25)


@pytest.mark.parametrize(
    ("lines", "memory"),
    [
        (START + WORKER.format(who="(EngineCore pid=2) "), NEWEST),
        (V10, gib(weights=15, kv_cache=52, activations=2, cuda_graphs=0.5, other=0.25)),
        (V06, gib(weights=14.99, kv_cache=54.5, activations=1.5, cuda_graphs=0.75, other=0.25)),
        (V04, gib(weights=12.5)),
        (CPU, gib(kv_cache=1)),
    ],
    ids=["0.33", "0.10", "0.6", "0.4", "cpu"],
)
def test_the_lines_of_a_version(lines: str, memory: dict[str, float], tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    file.write_text(f"some line\n{lines}GET /health 200\n")
    assert EngineLog(file).read() == {"0": memory}


def test_ranks_of_tensors_are_added_and_those_of_data_are_engines(tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    ranks = [f"(Worker_DP{dp}_TP{tp} pid={10 + dp + tp}) " for dp in (0, 1) for tp in (0, 1)]
    file.write_text(START + "".join(WORKER.format(who=who) for who in ranks) + TOKENS)
    twice = {name: 2 * size for name, size in NEWEST.items()}
    assert EngineLog(file).read() == {"0": {**twice, "tokens": 437056.0}, "1": twice}


def test_a_line_that_says_it_again_is_not_added(tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    log = EngineLog(file)
    file.write_text(WORKER.format(who="(EngineCore pid=2) "))
    log.read()
    with file.open("a") as more:
        more.write(WORKER.format(who="(EngineCore pid=2) "))
    assert log.read() == {"0": NEWEST}


def test_a_start_forgets_what_the_one_before_said(tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    log = EngineLog(file)
    file.write_text("".join(WORKER.format(who=f"(Worker_TP{tp} pid=1{tp}) ") for tp in (0, 1)))
    assert log.read()["0"]["weights"] == 31 * GIB
    with file.open("a") as more:
        more.write(START + V04)
    assert log.read() == {"0": gib(weights=12.5)}


def test_docker_s_file_is_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "id-json.log"
    line = V04.rstrip("\n")
    file.write_text(f'{{"log":"{line}\\n","stream":"stderr","time":"2026-11-30T08:34:13Z"}}\n')
    assert EngineLog(file).read() == {"0": gib(weights=12.5)}


def test_a_line_that_comes_in_two_parts_is_one(tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    log = EngineLog(file)
    file.write_text(V04[:40])
    assert log.read() == {}
    with file.open("a") as more:
        more.write(V04[40:])
    assert log.read() == {"0": gib(weights=12.5)}


def test_a_rotated_file_is_followed_and_what_is_known_stays(tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    log = EngineLog(file)
    file.write_text(V04)
    log.read()
    file.rename(tmp_path / "vllm.log.1")
    file.write_text("GET /health 200\n")
    assert log.read() == {"0": gib(weights=12.5)}
    with file.open("w") as new:  # truncated, as by copytruncate
        new.write(CPU)
    assert log.read()["0"]["kv_cache"] == GIB


def test_a_long_log_says_nothing_until_it_is_read_to_its_end(tmp_path: Path) -> None:
    """Its beginning may be of a start before the last."""
    file = tmp_path / "vllm.log"
    with file.open("w") as out:
        out.write(V04 + "x" * (MOST_A_ROUND + 10) + "\n" + START + CPU)
    log = EngineLog(file)
    assert log.read() == {}
    assert log.read() == {"0": gib(kv_cache=1)}


@pytest.mark.parametrize(
    "junk",
    [b"\xff\x00 GiB \xfe\n", b"GiB" * 300_000, b"Model loading took 1.2.3.4 GiB\n",
     b"Model loading took " + b"9" * 500 + b" GiB\n", b"GPU KV cache size: ,,, tokens\n"],
)  # fmt: skip
def test_junk_is_nothing(junk: bytes, tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    file.write_bytes(junk + b"\n" + V04.encode())
    found = EngineLog(file).read()["0"]
    assert found == gib(weights=12.5)


async def read_with_log(url: str, file: Path) -> list[Sample]:
    access = replace(EngineAccess.of(url), log_file=file)
    collector = EngineCollector(access, lambda: 0.0)
    try:
        return list(await collector.collect())
    finally:
        await collector.aclose()


async def test_the_page_and_the_log_together(tmp_path: Path) -> None:
    file = tmp_path / "vllm.log"
    file.write_text(START + WORKER.format(who="(EngineCore pid=2) ") + TOKENS)
    async with served(pages({"/metrics": (200, text("vllm-0.11.2")), "/health": (200, "")})) as url:
        samples = await read_with_log(url, file)
    about = {"model_name": "qwen", "engine": "0"}
    for component, size in NEWEST.items():
        assert value(samples, "llm_memory_bytes", component=component, **about) == size
    assert value(samples, "llm_kv_cache_used_bytes", **about) == NEWEST["kv_cache"] / 4
    assert value(samples, "llm_memory_source_info", source="log", **about) == 1
    assert value(samples, "llm_kv_cache_capacity_tokens", **about) == 437056


async def test_a_page_that_speaks_of_memory_itself_is_believed(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    file.write_text(V04)
    async with served(pages({"/metrics": (200, text("sglang-0.5.23"))})) as url:
        samples = await read_with_log(url, file)
    assert value(samples, "llm_memory_bytes", component="weights", engine="0") == 4 * GIB
    assert value(samples, "llm_memory_source_info", source="upstream", engine="0") == 1


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
async def test_a_file_that_cannot_be_read_costs_itself_alone(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "vllm.log"
    if kind == "directory":
        file.mkdir()
    if kind == "pipe":
        os.mkfifo(file)
    async with served(pages({"/metrics": (200, text("vllm-0.11.2")), "/health": (200, "")})) as url:
        with caplog.at_level(logging.WARNING):
            samples = await read_with_log(url, file)
    assert value(samples, "llm_engine_up") == 1
    assert value(samples, "llm_num_requests_running") == 3
    assert not [s for s in samples if s.family is LLM["llm_memory_bytes"]]
    (said,) = [r.getMessage() for r in caplog.records if "log of engine" in r.getMessage()]
    assert str(file) in said or "vllm.log" in said
