"""Fans, the fabric of NVSwitch machines, and the licence of a virtual GPU."""

from collections.abc import Iterator
from ctypes import pointer
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.nvml_query import BLANK, GpuQuery
from tocsin_exporter.snapshot import Sample

# Where in the health mask of nvmlGpuFabricInfo: two bits, 1 "yes", 2 "no", 0 "cannot say".
_UNHEALTHY = {
    "degraded_bandwidth": 0,
    "route_recovery": 2,
    "route_unhealthy": 4,
    "access_timeout_recovery": 6,
}
_CONFIGURATION = (8, 0xF)  # 1 as it should be, more than 1 why not
_COMPLETED = 3  # NVML_GPU_FABRIC_STATE_COMPLETED


def samples(query: GpuQuery) -> Iterator[Sample]:
    """Raises NVMLError when the GPU is lost."""
    yield from _fans(query)
    yield from _fabric(query)
    yield from _licence(query)


def _fans(query: GpuQuery) -> Iterator[Sample]:
    count = query.call("fans", "nvmlDeviceGetNumFans")
    for fan in range(0 if count in BLANK else count or 0):
        speed = query.call(f"fan {fan}", "nvmlDeviceGetFanSpeed_v2", fan)
        if speed is not None and speed not in BLANK:
            yield Sample(GPU["gpu_fan_speed_ratio"], speed / 100, query.own(fan=str(fan)))


def _fabric(query: GpuQuery) -> Iterator[Sample]:
    """A GPU outside of a fabric says state 0, "not supported"."""
    info = query.ask("fabric", lambda: _fabric_info(query))
    state = 0 if info is None else info.state & 0xFF  # a byte in nvml.h
    if info is None or not 0 < state <= _COMPLETED:
        return
    yield Sample(GPU["gpu_fabric_state"], float(state), query.labels.own)
    if state == _COMPLETED:
        failed = float(info.status != query.nvml.NVML_SUCCESS)
        yield Sample(GPU["gpu_fabric_unhealthy"], failed, query.own(reason="registration"))
    for reason, shift in _UNHEALTHY.items():
        if (said := info.healthMask >> shift & 0x3) in (1, 2):
            yield Sample(GPU["gpu_fabric_unhealthy"], float(said == 1), query.own(reason=reason))
    shift, mask = _CONFIGURATION
    if said := info.healthMask >> shift & mask:
        wrong = query.own(reason="incorrect_configuration")
        yield Sample(GPU["gpu_fabric_unhealthy"], float(said > 1), wrong)


def _fabric_info(query: GpuQuery) -> Any:
    info = query.nvml.c_nvmlGpuFabricInfoV_t()  # pynvml passes on what it is given
    query.nvml.nvmlDeviceGetGpuFabricInfoV(query.handle, pointer(info))
    return info


def _licence(query: GpuQuery) -> Iterator[Sample]:
    """Of a virtual GPU alone: others have nothing to license."""
    nvml = query.nvml

    def ask() -> Any:
        features = nvml.nvmlDeviceGetGridLicensableFeatures(query.handle)
        if features.isGridLicenseSupported != 1:
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        return features

    features = query.ask("licence", ask)
    if features is not None:
        known = features.gridLicensableFeatures
        licensed = any(known[n].featureState for n in range(features.licensableFeaturesCount))
        yield Sample(GPU["DCGM_FI_DEV_VGPU_LICENSE_STATUS"], float(licensed), query.labels.dcgm)
