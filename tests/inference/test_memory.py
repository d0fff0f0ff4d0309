"""Memory by component, from readings as a GPU and as a CPU give them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tocsin_inference.memory import (
    MemoryUsage,
    bound_compiled,
    families,
    is_out_of_memory,
    machine,
    read,
)

GPU = MemoryUsage(
    weights=100,
    cache=400,
    resident=9000,
    allocator={
        "allocated_bytes.all.current": 520,
        "allocated_bytes.all.peak": 600,
        "reserved_bytes.all.current": 800,
        "inactive_split_bytes.all.current": 80,
        "active_bytes.all.current": 530,
    },
    ooms=2,
)


def flat(reading: MemoryUsage, gpu: str | None) -> dict[tuple[str, ...], float]:
    found = {}
    for family in families(reading, "m", "0", gpu):
        for sample in family.samples:
            labels = [v for k, v in sample.labels.items() if k not in ("model_name", "engine")]
            found[(sample.name, *labels)] = sample.value
    return found


def test_on_a_gpu_the_components_add_up_to_what_is_reserved() -> None:
    found = flat(GPU, "1")
    parts = {k[2]: v for k, v in found.items() if k[0] == "llm_memory_bytes"}
    assert parts == {"weights": 100, "kv_cache": 400, "activations": 100, "other": 200}
    assert sum(parts.values()) == 800 == found["llm_allocator_reserved_bytes", "1"]
    assert found["llm_memory_fragmentation_ratio", "1", "allocator"] == 0.1
    assert found["llm_allocator_ooms_total", "1"] == 2


def test_on_a_gpu_where_the_peak_was_reset_the_components_still_add_up() -> None:
    allocator = {"allocated_bytes.all.peak": 300, "reserved_bytes.all.current": 800}
    parts = MemoryUsage(100, 400, 9000, allocator, 0).components()
    assert parts == {"weights": 100, "kv_cache": 400, "activations": 0, "other": 300}


def test_without_a_gpu_nothing_is_invented() -> None:
    found = flat(MemoryUsage(100, 400, 1500, None, 0), None)
    assert found == {
        ("llm_memory_bytes", "weights"): 100,
        ("llm_memory_bytes", "kv_cache"): 400,
        ("llm_memory_bytes", "other"): 1000,
        ("llm_allocator_ooms_total",): 0,
    }


def test_a_fresh_allocator_has_no_fragmentation() -> None:
    assert MemoryUsage(0, 0, 0, {}, 0).fragmentation() is None
    assert MemoryUsage(0, 0, 0, {"reserved_bytes.all.current": 0}, 0).fragmentation() is None


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not match"), False),
        (None, False),
    ],
)
def test_what_counts_as_out_of_memory(error: BaseException | None, full: bool) -> None:
    assert is_out_of_memory(error) is full


def test_the_machine_is_read() -> None:
    device = torch.device("cpu")
    assert read(device, 1, 2, 3).resident > 1 << 20
    memory = machine(device)
    assert memory["gpu_used_gb"] is None and memory["total_gb"] > memory["used_gb"] > 0


def test_products_of_many_lengths_do_not_fill_memory() -> None:
    """In a process of its own, for oneDNN reads its bounds once: it grew by 390 MiB here."""
    trial = (
        "import os, psutil, torch; from tocsin_inference import memory\n"
        "memory.bound_compiled(os.environ); torch.set_num_threads(1)\n"
        "weights = torch.randn(64, 64, dtype=torch.bfloat16)\n"
        "process = psutil.Process()\n"
        "for length in range(1, 601):\n"
        "    torch.nn.functional.linear(torch.randn(length, 64, dtype=torch.bfloat16), weights)\n"
        "    if length == 1: before = process.memory_info().rss\n"
        "print((process.memory_info().rss - before) >> 20)\n"
    )
    free = {name: text for name, text in os.environ.items() if "CAPACITY" not in name}
    done = subprocess.run([sys.executable, "-c", trial], env=free, capture_output=True, text=True)
    assert int(done.stdout) < 200, done.stderr


def test_a_bound_that_the_operator_set_stands() -> None:
    environment = {"LRU_CACHE_CAPACITY": "7"}
    bound_compiled(environment)
    assert environment == {
        "LRU_CACHE_CAPACITY": "7",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    }
