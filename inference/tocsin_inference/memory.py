"""Where the memory is: of the machine for `/health`, by component for `/metrics`.

On a GPU the components come from torch's allocator and are disjoint: weights and KV cache are
known, activations are the peak above both, `other` is what the allocator holds beyond that peak. On
a CPU only weights and KV cache are known, and `other` is the rest of the resident set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_GIB = float(1 << 30)
_ALLOCATOR = {
    "allocated": "allocated_bytes.all.current",
    "reserved": "reserved_bytes.all.current",
    "inactive_split": "inactive_split_bytes.all.current",
    "active": "active_bytes.all.current",
}
_COMPILED = 128  # a decoding step of a model takes a dozen
_CAPACITIES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def bound_compiled(environment: MutableMapping[str, str]) -> None:
    """Has oneDNN keep few compiled matrix products; what the operator set stands. It reads this at
    the first product. For bfloat16 it compiles one for each number of tokens, and would keep 1024:
    most of a GiB."""
    for name in _CAPACITIES:
        environment.setdefault(name, str(_COMPILED))


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Bytes. `allocator` is `torch.cuda.memory_stats()`, None without a GPU; `ooms` counts since
    the start."""

    weights: int
    cache: int
    resident: int
    allocator: Mapping[str, int] | None
    ooms: int

    def components(self) -> dict[str, int]:
        """Disjoint parts of the memory that the model uses."""
        known = {"weights": self.weights, "kv_cache": self.cache}
        accounted = self.weights + self.cache
        if self.allocator is None:
            return known | {"other": max(0, self.resident - accounted)}
        peak = self.allocator.get("allocated_bytes.all.peak", 0)
        reserved = self.allocator.get("reserved_bytes.all.current", 0)
        known["activations"] = max(0, peak - accounted)
        return known | {"other": max(0, reserved - max(peak, accounted))}

    def fragmentation(self) -> float | None:
        """Share of the reserved bytes in inactive split blocks; None where it is not known."""
        if not self.allocator:
            return None
        reserved = self.allocator.get("reserved_bytes.all.current", 0)
        inactive = self.allocator.get("inactive_split_bytes.all.current", 0)
        return inactive / reserved if reserved else None


def families(
    reading: MemoryUsage, model_name: str, engine: str, gpu: str | None
) -> Iterator[Metric]:
    """The memory part of the page; `gpu` is the device index, None without one."""
    names = ["model_name", "engine"] + (["gpu"] if gpu is not None else [])
    values = [model_name, engine] + ([gpu] if gpu is not None else [])
    parts = GaugeMetricFamily(
        "llm_memory_bytes", "Memory of the engine by component.", labels=[*names, "component"]
    )
    for component, size in reading.components().items():
        parts.add_metric([*values, component], size)
    yield parts
    ooms = CounterMetricFamily(
        "llm_allocator_ooms", "Failed allocations of model memory.", labels=names
    )
    ooms.add_metric(values, reading.ooms)
    yield ooms
    if reading.allocator is None:
        return
    for name, key in _ALLOCATOR.items():
        gauge = GaugeMetricFamily(f"llm_allocator_{name}_bytes", f"torch's {key}.", labels=names)
        gauge.add_metric(values, reading.allocator.get(key, 0))
        yield gauge
    ratio = reading.fragmentation()
    if ratio is not None:
        share = GaugeMetricFamily(
            "llm_memory_fragmentation_ratio",
            "Reserved bytes in inactive split blocks, 0 to 1.",
            labels=[*names, "kind"],
        )
        share.add_metric([*values, "allocator"], ratio)
        yield share


class MemoryCollector(Collector):
    """Registers `families` on a registry, read anew at every scrape."""

    def __init__(
        self, read: Callable[[], MemoryUsage], model_name: str, engine: str, gpu: str | None
    ) -> None:
        self._read = read
        self._labels = (model_name, engine, gpu)

    def describe(self) -> list[Metric]:
        """Nothing: the families depend on the device."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from families(self._read(), *self._labels)


def read(device: torch.device, weights: int, cache: int, host_ooms: int) -> MemoryUsage:
    """The current reading for the model on `device`."""
    resident = int(psutil.Process().memory_info().rss)
    if device.type != "cuda":
        return MemoryUsage(weights, cache, resident, None, host_ooms)
    stats: dict[str, int] = torch.cuda.memory_stats(device)
    return MemoryUsage(weights, cache, resident, stats, max(host_ooms, stats.get("num_ooms", 0)))


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error` is an allocation that failed, on either kind of device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def machine(device: torch.device) -> dict[str, Any]:
    """The machine's memory in GiB, as `/health` has it; `gpu_used_gb` is null without a GPU."""
    memory = psutil.virtual_memory()
    gpu = None
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        gpu = round((total - free) / _GIB, 3)
    return {
        "total_gb": round(memory.total / _GIB, 3),
        "used_gb": round(memory.used / _GIB, 3),
        "available_gb": round(memory.available / _GIB, 3),
        "percent": memory.percent,
        "gpu_used_gb": gpu,
    }
