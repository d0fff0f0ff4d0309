"""A GPU that is split (MIG): memory and profiling of each GPU instance, with DCGM's labels.

Of such a GPU the instances' memory is told and not its own: a sum over all counts it once.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from tocsin_exporter.collectors import nvml_gpm
from tocsin_exporter.collectors.nvml_calls import MEMORY, samples
from tocsin_exporter.collectors.nvml_query import BLANK, GpuLabels, GpuQuery, with_labels
from tocsin_exporter.snapshot import Sample

_PROFILE = re.compile(r"\bMIG (?:\d+c\.)?(\d+g\.\S+)")


class MigInstance(NamedTuple):
    """`number` is NVML's id of the GPU instance; `handle` one of the MIG devices on it."""

    number: int
    profile: str
    handle: Any


def is_split(query: GpuQuery) -> bool:
    """Raises NVMLError when the GPU is lost."""
    mode = query.call("mig", "nvmlDeviceGetMigMode")
    return mode is not None and mode[0] == 1


class Instances:
    """The GPU instances of one GPU, each with a profiler of its own."""

    def __init__(self) -> None:
        self._profilers: dict[int, nvml_gpm.Profiler] = {}

    def samples(self, query: GpuQuery) -> Iterator[Sample]:
        """Raises NVMLError when the GPU is lost."""
        instances = _instances(query)
        old, self._profilers = self._profilers, {}
        profiled = nvml_gpm.supported(query)
        for one in instances:
            labels = _labels(query.labels, one)
            memory = query.ask("mig memory", partial(MEMORY.ask, query.nvml, one.handle))
            if memory is not None:
                told = samples(MEMORY, memory, labels)
                yield from (sample for sample in told if sample.labels is labels.dcgm)
            profiler = self._profilers[one.number] = old.get(one.number) or nvml_gpm.Profiler()
            if profiled:
                take = partial(query.nvml.nvmlGpmMigSampleGet, query.handle, one.number)
                yield from profiler.samples(query, take, labels.dcgm)


def _instances(query: GpuQuery) -> list[MigInstance]:
    """One a GPU instance: memory belongs to it, however many compute instances share it."""
    found: dict[int, MigInstance] = {}
    count = query.call("mig count", "nvmlDeviceGetMaxMigDeviceCount")
    for index in range(0 if count in BLANK else count or 0):
        one = query.ask(f"mig {index}", partial(_instance, query.nvml, query.handle, index))
        if one is not None:
            found.setdefault(one.number, one)
    return list(found.values())


def _instance(nvml: Any, gpu: Any, index: int) -> MigInstance | None:
    try:
        handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_FOUND:  # a place without a device
            return None
        raise
    name = nvml.nvmlDeviceGetName(handle)
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    named = _PROFILE.search(text)
    profile = named[1] if named else _from_size(nvml.nvmlDeviceGetAttributes(handle))
    return MigInstance(nvml.nvmlDeviceGetGpuInstanceId(handle), profile, handle)


def _from_size(attributes: Any) -> str:
    return f"{attributes.gpuInstanceSliceCount}g.{round(attributes.memorySizeMB / 1024)}gb"


def _labels(gpu: GpuLabels, one: MigInstance) -> GpuLabels:
    more = (("GPU_I_PROFILE", one.profile), ("GPU_I_ID", str(one.number)))
    return GpuLabels(with_labels(gpu.dcgm, *more), gpu.own, gpu.info)
