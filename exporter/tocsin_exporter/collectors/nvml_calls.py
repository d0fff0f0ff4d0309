"""What NVML can be asked about one GPU: one call a row, and the families that its answer fills.

`nvml` is the module pynvml or whatever behaves like it; `handle` is its device handle. Units are
DCGM's (MiB, mJ, MHz, percent): see reference NVML API and dcgm-exporter's default-counters.csv.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.nvml_query import BLANK, GpuLabels, with_labels
from tocsin_exporter.snapshot import Sample, sorted_labels

MIB = 2.0**20
SLOWEST_STATE = 15  # 32 stands for an unknown one

# Bits of nvmlDeviceGetCurrentClocksEventReasons, named as dcgm-exporter names them.
THROTTLE_REASONS = {
    1: "gpu_idle",
    2: "clocks_setting",
    4: "power_cap",
    8: "hw_slowdown",
    16: "sync_boost",
    32: "sw_thermal",
    64: "hw_thermal",
    128: "hw_power_brake",
    256: "display_clocks",
}

Ask = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class NvmlCall:
    """One call: `fills` maps a family's name to what to take from the answer."""

    name: str
    ask: Ask
    fills: Mapping[str, Callable[[Any], float]]


def gpu_labels(
    nvml: Any, handle: Any, index: int, hostname: Mapping[str, str] | None = None
) -> GpuLabels:
    """`hostname` is a label more for DCGM's names. Raises NVMLError when the GPU cannot even say
    who it is."""
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    name = _text(nvml.nvmlDeviceGetName(handle))
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    own = {"gpu": str(index), "UUID": uuid}
    minor = _or_none(nvml, lambda: nvml.nvmlDeviceGetMinorNumber(handle))
    dcgm = own | {
        "pci_bus_id": _text(_or_none(nvml, lambda: nvml.nvmlDeviceGetPciInfo(handle).busId)),
        "device": f"nvidia{index if minor is None else minor}",
        "modelName": name,
        "DCGM_FI_DRIVER_VERSION": driver,
        **(hostname or {}),
    }
    info = own | {"modelName": name, "driver_version": driver} | _versions(nvml, handle)
    return GpuLabels(sorted_labels(dcgm), sorted_labels(own), sorted_labels(info))


def _versions(nvml: Any, handle: Any) -> dict[str, str]:
    cuda = _or_none(nvml, lambda: nvml.nvmlSystemGetCudaDriverVersion())
    capability = _or_none(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    return {
        "cuda_version": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
        "compute_cap": f"{capability[0]}.{capability[1]}" if capability else "",
        "vbios_version": _text(_or_none(nvml, lambda: nvml.nvmlDeviceGetVbiosVersion(handle))),
        "serial": _text(_or_none(nvml, lambda: nvml.nvmlDeviceGetSerial(handle))),
    }


def _sm_clock(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)


def _memory_clock(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)


def _temperature(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)


def _memory(nvml: Any, handle: Any) -> Any:
    """Version 2 where the driver has it: only there does `used` leave out what is reserved."""
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        missing = (nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        if error.value not in missing:
            raise
        return nvml.nvmlDeviceGetMemoryInfo(handle)


def _throttle(nvml: Any, handle: Any) -> Any:
    try:
        return nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)


def _violation(policy: int) -> Ask:
    return lambda nvml, handle: nvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime


def _ecc(kind: int, counter: int) -> Ask:
    return lambda nvml, handle: nvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter)


def _used_ratio(memory: Any) -> float:
    usable = memory.total - getattr(memory, "reserved", 0)
    return memory.used / usable if usable else 0.0


def _known_state(state: int) -> float:
    if state > SLOWEST_STATE:
        raise NotAvailable
    return float(state)


def _one(name: str, family: str, ask: Ask, factor: float = 1.0) -> NvmlCall:
    return NvmlCall(name, ask, {family: lambda answer: answer * factor})


def _call(function: str) -> Ask:
    return lambda nvml, handle: getattr(nvml, function)(handle)


MEMORY = NvmlCall(
    "memory",
    _memory,
    {
        "DCGM_FI_DEV_FB_TOTAL": lambda memory: memory.total / MIB,
        "DCGM_FI_DEV_FB_FREE": lambda memory: memory.free / MIB,
        "DCGM_FI_DEV_FB_USED": lambda memory: memory.used / MIB,
        "DCGM_FI_DEV_FB_RESERVED": lambda memory: getattr(memory, "reserved", 0) / MIB,
        "DCGM_FI_DEV_FB_USED_PERCENT": _used_ratio,
        "gpu_memory_used_ratio": _used_ratio,
    },
)

READINGS: tuple[NvmlCall, ...] = (
    _one("sm_clock", "DCGM_FI_DEV_SM_CLOCK", _sm_clock),
    _one("memory_clock", "DCGM_FI_DEV_MEM_CLOCK", _memory_clock),
    _one("temperature", "DCGM_FI_DEV_GPU_TEMP", _temperature),
    _one("power", "DCGM_FI_DEV_POWER_USAGE", _call("nvmlDeviceGetPowerUsage"), 1e-3),
    _one(
        "power_limit",
        "DCGM_FI_DEV_POWER_MGMT_LIMIT",
        _call("nvmlDeviceGetPowerManagementLimit"),
        1e-3,
    ),
    _one(
        "enforced_power_limit",
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
        _call("nvmlDeviceGetEnforcedPowerLimit"),
        1e-3,
    ),
    _one(
        "energy",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        _call("nvmlDeviceGetTotalEnergyConsumption"),
    ),
    NvmlCall(
        "utilization",
        _call("nvmlDeviceGetUtilizationRates"),
        {
            "DCGM_FI_DEV_GPU_UTIL": lambda rates: rates.gpu,
            "DCGM_FI_DEV_MEM_COPY_UTIL": lambda rates: rates.memory,
        },
    ),
    NvmlCall(
        "encoder",
        _call("nvmlDeviceGetEncoderUtilization"),
        {"DCGM_FI_DEV_ENC_UTIL": lambda answer: answer[0]},
    ),
    NvmlCall(
        "decoder",
        _call("nvmlDeviceGetDecoderUtilization"),
        {"DCGM_FI_DEV_DEC_UTIL": lambda answer: answer[0]},
    ),
    MEMORY,
    _one("throttle", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", _throttle),
    _one(
        "pcie_replays", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", _call("nvmlDeviceGetPcieReplayCounter")
    ),
    NvmlCall(
        "performance_state",
        _call("nvmlDeviceGetPerformanceState"),
        {"gpu_performance_state": _known_state},
    ),
    *(
        _one(name, f"gpu_{name}", _call(function))
        for name, function in (
            ("pcie_link_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
            ("pcie_link_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration"),
            ("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth"),
            ("pcie_link_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
        )
    ),
    NvmlCall(
        "remapped_rows",
        _call("nvmlDeviceGetRemappedRows"),
        {
            "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": lambda rows: rows[0],
            "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": lambda rows: rows[1],
            "DCGM_FI_DEV_ROW_REMAP_PENDING": lambda rows: rows[2],
            "DCGM_FI_DEV_ROW_REMAP_FAILURE": lambda rows: rows[3],
        },
    ),
    *(
        _one(f"ecc_{bits}_{span}", f"DCGM_FI_DEV_ECC_{bits}_{span}_TOTAL", _ecc(kind, counter))
        for kind, bits in enumerate(("SBE", "DBE"))
        for counter, span in enumerate(("VOL", "AGG"))
    ),
    *(
        _one(f"violation_{name}", f"DCGM_FI_DEV_{name}_VIOLATION", _violation(policy))
        for policy, name in enumerate(
            ("POWER", "THERMAL", "SYNC_BOOST", "BOARD_LIMIT", "LOW_UTIL", "RELIABILITY")
        )
    ),
)


class NotAvailable(Exception):
    """The driver said "no value"."""


class _Answer:
    """A struct or tuple of NVML whose fields are there or raise NotAvailable."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return _there(getattr(self._answer, name))

    def __getitem__(self, index: int) -> Any:
        return _there(self._answer[index])


def _there(value: Any) -> Any:
    """A number, or what has numbers in it. Raises NotAvailable for one that stands for none."""
    if isinstance(value, int | float):
        if value in BLANK:
            raise NotAvailable
        return value
    return _Answer(value)


def samples(reading: NvmlCall, answer: Any, identity: GpuLabels) -> Iterator[Sample]:
    """What one answer says; a throttle mask also gives one 0/1 series a reason."""
    for family, take in reading.fills.items():
        try:
            yield Sample(GPU[family], float(take(_there(answer))), identity.of(family))
        except NotAvailable:
            continue
    if reading.name == "throttle" and answer not in BLANK:
        for bit, reason in THROTTLE_REASONS.items():
            labels = with_labels(identity.own, ("reason", reason))
            yield Sample(GPU["gpu_throttle_active"], float(bool(answer & bit)), labels)


def _or_none(nvml: Any, ask: Callable[[], Any]) -> Any:
    try:
        answer = ask()
    except nvml.NVMLError:
        return None
    return None if answer in BLANK or answer in ((-1, -1), [-1, -1]) else answer


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)
