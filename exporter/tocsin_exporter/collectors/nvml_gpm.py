"""Profiling (DCGM_FI_PROF_*) by NVML's GPM, which Hopper and later have: what a GPU, or an instance
of one that is split (MIG), did between two samples."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.nvml_query import GpuQuery
from tocsin_exporter.snapshot import Labels, Sample

MIB = 2.0**20
SHORTEST_SECONDS = 0.1  # between two samples, as nvml.h asks

# NVML_GPM_METRIC_*: percent as a share, MiB/s as bytes a second.
_METRICS: Mapping[int, tuple[str, float]] = {
    1: ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.01),
    2: ("DCGM_FI_PROF_SM_ACTIVE", 0.01),
    3: ("DCGM_FI_PROF_SM_OCCUPANCY", 0.01),
    5: ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.01),
    10: ("DCGM_FI_PROF_DRAM_ACTIVE", 0.01),
    11: ("DCGM_FI_PROF_PIPE_FP64_ACTIVE", 0.01),
    12: ("DCGM_FI_PROF_PIPE_FP32_ACTIVE", 0.01),
    13: ("DCGM_FI_PROF_PIPE_FP16_ACTIVE", 0.01),
    20: ("DCGM_FI_PROF_PCIE_TX_BYTES", MIB),
    21: ("DCGM_FI_PROF_PCIE_RX_BYTES", MIB),
    60: ("DCGM_FI_PROF_NVLINK_RX_BYTES", MIB),
    61: ("DCGM_FI_PROF_NVLINK_TX_BYTES", MIB),
}


def supported(query: GpuQuery) -> bool:
    """Raises NVMLError when the GPU is lost."""
    nvml = query.nvml

    def ask() -> bool:
        if not nvml.nvmlGpmQueryDeviceSupport(query.handle).isSupportedDevice:
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        return True

    return bool(query.ask("gpm", ask))


class Profiler:
    """Keeps the last sample of one GPU or instance: the next is compared with it."""

    def __init__(self) -> None:
        self._before: Any = None
        self._spare: Any = None
        self._taken_at = -math.inf  # Unix seconds
        self._values: dict[int, float] = {}

    def samples(
        self, query: GpuQuery, take: Callable[[Any], Any], labels: Labels
    ) -> Iterator[Sample]:
        """`take` fills a sample. Nothing from the first one. Raises NVMLError as `GpuQuery.ask`."""
        if not 0 <= query.now - self._taken_at < SHORTEST_SECONDS:
            self._values = query.ask("gpm sample", lambda: self._read(query, take)) or {}
        for metric, value in self._values.items():
            family, factor = _METRICS[metric]
            yield Sample(GPU[family], value * factor, labels)

    def _read(self, query: GpuQuery, take: Callable[[Any], Any]) -> dict[int, float]:
        nvml = query.nvml
        before, now = self._before, self._spare or nvml.nvmlGpmSampleAlloc()
        self._spare = now
        take(now)
        self._before, self._spare, self._taken_at = now, before, query.now
        return {} if before is None else _compared(nvml, before, now)


def _compared(nvml: Any, before: Any, now: Any) -> dict[int, float]:
    request = nvml.c_nvmlGpmMetricsGet_t()
    request.version = nvml.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics = len(_METRICS)
    request.sample1, request.sample2 = before, now
    for place, metric in enumerate(_METRICS):
        request.metrics[place].metricId = metric
    nvml.nvmlGpmMetricsGet(request)
    answers = [request.metrics[place] for place in range(len(_METRICS))]
    return {
        answer.metricId: answer.value
        for answer in answers
        if answer.nvmlReturn == nvml.NVML_SUCCESS and 0 <= answer.value < math.inf
    }
