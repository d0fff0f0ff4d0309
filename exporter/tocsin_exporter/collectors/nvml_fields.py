"""Field values: all numbers that NVML has a field for in one call a round, NVLink's among them.

The numbers are those of nvml.h: a driver or a pynvml that does not know one says so of that one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.nvml_query import BLANK, GpuQuery
from tocsin_exporter.snapshot import Sample

KIB = 1024.0
MOST_LINKS = 18  # NVML_NVLINK_MAX_LINKS
PCIE_SENT, PCIE_RECEIVED = 197, 198

_VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by valueType


class _Filled(NamedTuple):
    """A family that a field fills: its value times `factor`, with `reason` as a label."""

    family: str
    factor: float = 1.0
    reason: str = ""


_FIELDS: Mapping[int, _Filled] = {
    29: _Filled("DCGM_FI_DEV_RETIRED_SBE"),
    30: _Filled("DCGM_FI_DEV_RETIRED_DBE"),
    31: _Filled("DCGM_FI_DEV_RETIRED_PENDING"),
    38: _Filled("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"),
    45: _Filled("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL"),
    52: _Filled("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL"),
    59: _Filled("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"),
    74: _Filled("gpu_throttle_seconds_total", 1e-9, "power_cap"),
    76: _Filled("gpu_throttle_seconds_total", 1e-9, "sync_boost"),
    82: _Filled("DCGM_FI_DEV_MEMORY_TEMP"),
    230: _Filled("gpu_recovery_action"),
    269: _Filled("gpu_throttle_seconds_total", 1e-9, "sw_thermal"),
    270: _Filled("gpu_throttle_seconds_total", 1e-9, "hw_thermal"),
    271: _Filled("gpu_throttle_seconds_total", 1e-9, "hw_power_brake"),
    PCIE_SENT: _Filled("gpu_pcie_transmit_bytes_total"),
    PCIE_RECEIVED: _Filled("gpu_pcie_receive_bytes_total"),
}

# Of each link, by its number as the field's scope.
_SENT, _RECEIVED = "gpu_nvlink_transmit_bytes_total", "gpu_nvlink_receive_bytes_total"
_LINK_FIELDS: Mapping[int, _Filled] = {
    138: _Filled(_SENT, KIB),
    139: _Filled(_RECEIVED, KIB),
    161: _Filled("gpu_nvlink_errors_total", reason="replay"),
    162: _Filled("gpu_nvlink_errors_total", reason="recovery"),
    163: _Filled("gpu_nvlink_errors_total", reason="crc"),
    202: _Filled(_SENT),  # NVLink 5; where a driver has both, 138 and 139 come first
    203: _Filled(_RECEIVED),
}

# Where there is no field for it: nvmlDeviceGetViolationStatus, in nanoseconds.
_INSTEAD = {74: 0, 269: 1, 76: 2}


class Fields:
    """One a GPU."""

    def __init__(self) -> None:
        self.pcie: dict[int, float] = {}  # the counters of PCIe in bytes, those that there are

    def samples(self, query: GpuQuery) -> Iterator[Sample]:
        """Raises NVMLError when the GPU is lost."""
        links = _links(query)
        wanted = [(number, 0) for number in _FIELDS]
        wanted += [(number, link) for link in links for number in _LINK_FIELDS]
        found = _values(query, wanted)
        for number, policy in _INSTEAD.items():
            if (number, 0) not in found:
                found |= _violation(query, number, policy)
        self.pcie = {n: found[n, 0] for n in (PCIE_SENT, PCIE_RECEIVED) if (n, 0) in found}
        for link, up in links.items():
            yield Sample(GPU["gpu_nvlink_up"], float(up), query.own(link=str(link)))
        yield from _samples(query, found)


def _samples(query: GpuQuery, found: Mapping[tuple[int, int], float]) -> Iterator[Sample]:
    for (number, _), value in found.items():
        if number in _FIELDS:
            family, factor, reason = _FIELDS[number]
            labels = query.own(reason=reason) if reason else query.labels.of(family)
            yield Sample(GPU[family], value * factor, labels)
    said: set[tuple[str, int]] = set()
    for (number, link), value in found.items():
        if number in _LINK_FIELDS:
            family, factor, kind = _LINK_FIELDS[number]
            more = {"link": str(link)} | ({"type": kind} if kind else {})
            if kind or (family, link) not in said:
                yield Sample(GPU[family], value * factor, query.own(**more))
            said.add((family, link))


def _links(query: GpuQuery) -> dict[int, bool]:
    """Whether each link is up; of a GPU without NVLink, nothing."""
    states = {
        link: query.call(f"nvlink {link}", "nvmlDeviceGetNvLinkState", link)
        for link in range(MOST_LINKS)
    }
    return {n: bool(state) for n, state in states.items() if state not in (None, *BLANK)}


def _violation(query: GpuQuery, number: int, policy: int) -> dict[tuple[int, int], float]:
    status = query.call(f"violation {policy}", "nvmlDeviceGetViolationStatus", policy)
    if status is None or status.violationTime in BLANK:
        return {}
    return {(number, 0): float(status.violationTime)}


def _values(query: GpuQuery, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """Those that this GPU has, by (field, scope)."""
    nvml, absences = query.nvml, query.absences
    asked = [one for one in wanted if not absences.has(_name(one), query.now)]
    if not asked:
        return {}
    answers = query.call("fields", "nvmlDeviceGetFieldValues", asked)
    found: dict[tuple[int, int], float] = {}
    for one, answer in zip(asked, answers or (), strict=False):
        if answer.nvmlReturn != nvml.NVML_SUCCESS:
            query.note(_name(one), nvml.NVMLError(answer.nvmlReturn))
        elif (value := _value(answer)) is not None:
            found[one] = value
    return found


def _name(field: tuple[int, int]) -> str:
    return f"field {field[0]} {field[1]}"


def _value(answer: Any) -> float | None:
    if not 0 <= answer.valueType < len(_VALUES):
        return None
    value = getattr(answer.value, _VALUES[answer.valueType])
    return None if value in BLANK else float(value)
