"""pynvml over a simulated machine: the collector runs on it as on the real one.

What a function answers has the shape that pynvml gives it. Constants and errors are pynvml's own; a
function that is not here is one that the driver does not have.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from types import SimpleNamespace
from typing import Any

import pynvml

from tocsin_exporter.simulation.machine import Machine, MigProfile, SimulatedGpu, running

_WAIT_SECONDS = 0.1
_LINK_BYTES = 20e9  # a second at full load
_PCIE_BYTES = 8e9
_MIB = 2.0**20

# Shares of full load that each metric of GPM shows, in percent; the others are rates.
_GPM_SHARES = {1: 100.0, 2: 92.0, 3: 41.0, 5: 58.0, 10: 47.0, 11: 0.0, 12: 9.0, 13: 3.0}


class Missing(Exception):
    """The GPU has no such thing."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A MIG device: one compute instance on a GPU instance of its own."""

    gpu: SimulatedGpu
    number: int
    profile: MigProfile


@dataclass(slots=True)
class Events:
    """An event set: which GPUs it hears, and the XIDs until when (seconds) it has told."""

    since: float
    gpus: set[int] = field(default_factory=set)
    told: int = 0


@dataclass(slots=True)
class GpmSample:
    seconds: float = 0.0
    busy: float = 0.0


class GpmRequest:
    """As c_nvmlGpmMetricsGet_t."""

    def __init__(self) -> None:
        self.version = self.numMetrics = 0
        self.sample1: GpmSample = GpmSample()
        self.sample2: GpmSample = GpmSample()
        self.metrics = [SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(64)]


class SimulatedNvml:
    """`now` gives Unix seconds; the simulation begins when this is made."""

    c_nvmlGpmMetricsGet_t = GpmRequest

    def __init__(self, machine: Machine, now: Callable[[], float]) -> None:
        self._machine = machine
        self._now = now
        self._started = now()
        self._gpus = running(machine, self._started)
        faults = sorted(machine.faults, key=lambda fault: fault.after)
        self._xids = [fault for fault in faults if fault.kind == "xid"]

    def __getattr__(self, name: str) -> Any:
        if name in _ANSWERS:
            return partial(self._answer, _ANSWERS[name])
        known = getattr(pynvml, name)
        if name.startswith("nvml") and callable(known):
            return _not_there
        return known

    def nvmlInit(self) -> None:
        return None

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._machine.driver

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return self._machine.cuda

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimulatedGpu:
        gpu = self._gpus[index]
        self._reach(gpu)
        return gpu

    def nvmlEventSetCreate(self) -> Events:
        return Events(self._now() - self._started)

    def nvmlEventSetFree(self, events: Events) -> None:
        return None

    def nvmlDeviceRegisterEvents(self, gpu: SimulatedGpu, kinds: int, events: Events) -> None:
        self._reach(gpu)
        events.gpus.add(gpu.index)

    def nvmlEventSetWait_v2(self, events: Events, milliseconds: int) -> Any:
        """The next XID. Raises NVMLError_Timeout."""
        for _ in range(max(1, round(milliseconds / 1000 / _WAIT_SECONDS))):
            elapsed = self._now() - self._started
            while events.told < len(self._xids) and self._xids[events.told].after <= elapsed:
                fault = self._xids[events.told]
                events.told += 1
                if fault.after >= events.since and fault.gpu in events.gpus:
                    kind, gpu = pynvml.nvmlEventTypeXidCriticalError, self._gpus[fault.gpu]
                    return SimpleNamespace(eventType=kind, device=gpu, eventData=int(fault.value))
            Event().wait(_WAIT_SECONDS)
        raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)

    def nvmlDeviceGetUUID(self, gpu: SimulatedGpu) -> str:
        return gpu.uuid  # also of one that is lost: an event names it

    def nvmlGpmSampleAlloc(self) -> GpmSample:
        return GpmSample()

    def nvmlGpmMetricsGet(self, request: GpmRequest) -> GpmRequest:
        before, after = request.sample1, request.sample2
        seconds = after.seconds - before.seconds
        load = (after.busy - before.busy) / seconds if seconds > 0 else 0.0
        for metric in request.metrics[: request.numMetrics]:
            metric.nvmlReturn, metric.value = pynvml.NVML_SUCCESS, _gpm(metric.metricId, load)
        return request

    def _answer(
        self, answer: Callable[..., Any], device: Any, *arguments: Any, **named: Any
    ) -> Any:
        gpu = device.gpu if isinstance(device, Instance) else device
        self._reach(gpu)
        try:
            return answer(device, self._now(), *arguments, **named)
        except Missing:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED) from None

    def _reach(self, gpu: SimulatedGpu) -> None:
        """Raises NVMLError when the GPU is lost; does not come back while it hangs."""
        while gpu.has("hang", self._now()):
            Event().wait(_WAIT_SECONDS)
        if gpu.has("lost", self._now()):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)


def _not_there(*_arguments: Any, **_named: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def _gpm(metric: int, load: float) -> float:
    """Percent, or MiB a second."""
    if metric in (20, 21):
        return load * _PCIE_BYTES / _MIB
    if metric in (60, 61):
        return load * _LINK_BYTES * 18 / _MIB
    return load * _GPM_SHARES.get(metric, 0.0)


def _need(there: object) -> None:
    if not there:
        raise Missing


def _memory(device: Any, now: float, version: Any = None) -> Any:
    if isinstance(device, Instance):
        return _sizes(device.profile.memory, 0, device.gpu.made.memory_used)
    made = device.made
    of_processes = sum(process.memory for process in made.processes)
    sizes = _sizes(made.memory, made.reserved, made.memory_used)
    sizes.used = min(made.memory - made.reserved, sizes.used + of_processes)
    sizes.free = made.memory - made.reserved - sizes.used
    return sizes


def _sizes(total: int, reserved: int, share: float) -> SimpleNamespace:
    used = int((total - reserved) * share)
    return SimpleNamespace(total=total, reserved=reserved, used=used, free=total - reserved - used)


def _clock(gpu: SimulatedGpu, now: float, kind: int) -> int:
    sm, memory = gpu.made.clocks
    if kind == pynvml.NVML_CLOCK_MEM:
        return memory
    return sm // 2 if gpu.throttling(now) else sm


def _ecc(gpu: SimulatedGpu, now: float, kind: int, counter: int) -> int:
    _need(gpu.made.ecc)
    return gpu.memory_errors(now, corrected=kind == pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)


def _rows(gpu: SimulatedGpu, now: float) -> tuple[int, int, int, int]:
    _need(gpu.made.ecc)
    wrong = gpu.memory_errors(now, corrected=False)
    return (0, wrong, int(wrong > 0), 0)


def _violation(gpu: SimulatedGpu, now: float, policy: int) -> Any:
    bits = {0: 4, 1: 32 | 64, 2: 16}.get(policy, 0)
    throttled = gpu.totals(now).throttled
    seconds = sum(value for bit, value in throttled.items() if bit & bits)
    return SimpleNamespace(referenceTime=0, violationTime=int(seconds * 1e9))


def _fields(gpu: SimulatedGpu, now: float, wanted: Sequence[tuple[int, int]]) -> Any:
    totals, values = gpu.totals(now), (pynvml.c_nvmlFieldValue_t * len(wanted))()
    known: Mapping[int, float] = {
        74: totals.throttled.get(4, 0.0) * 1e9,
        76: totals.throttled.get(16, 0.0) * 1e9,
        197: totals.busy * _PCIE_BYTES,
        198: totals.busy * _PCIE_BYTES,
        230: 1 if gpu.made.ecc and gpu.memory_errors(now, corrected=False) else 0,
        269: totals.throttled.get(32, 0.0) * 1e9,
        270: totals.throttled.get(64, 0.0) * 1e9,
        271: totals.throttled.get(128, 0.0) * 1e9,
    }
    if gpu.made.memory_temperature:
        known = {**known, 82: gpu.temperature(now) + 6}
    for value, (number, scope) in zip(values, wanted, strict=True):
        answer = _link_field(gpu, number, scope, totals.busy) if scope or number > 130 else None
        answer = known.get(number) if answer is None and not scope else answer
        value.fieldId, value.scopeId = number, scope
        value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
        missing = answer is None
        value.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED if missing else pynvml.NVML_SUCCESS
        value.value.ullVal = int(answer or 0)
    return values


def _link_field(gpu: SimulatedGpu, number: int, link: int, busy: float) -> float | None:
    if link >= gpu.made.nvlinks:
        return None
    return {138: busy * _LINK_BYTES / 1024, 139: busy * _LINK_BYTES / 1024,
            161: 0.0, 162: 0.0, 163: 0.0}.get(number)  # fmt: skip


def _link(gpu: SimulatedGpu, now: float, link: int) -> int:
    links = gpu.links(now)
    _need(link in links)
    return int(links[link])


def _processes(gpu: SimulatedGpu, now: float) -> list[Any]:
    made = gpu.made.processes
    return [SimpleNamespace(pid=one.pid, usedGpuMemory=one.memory) for one in made]


def _process_use(gpu: SimulatedGpu, now: float, since: int) -> list[Any]:
    load = gpu.load(now)
    return [
        SimpleNamespace(pid=one.pid, timeStamp=int(now * 1e6), smUtil=round(load * one.share * 100))
        for one in gpu.made.processes
    ]


def _gpm_support(gpu: SimulatedGpu, now: float) -> Any:
    return SimpleNamespace(isSupportedDevice=int(gpu.made.profiling))


def _gpm_sample(gpu: SimulatedGpu, now: float, sample: GpmSample) -> GpmSample:
    totals = gpu.totals(now)
    sample.seconds, sample.busy = totals.seconds, totals.busy
    return sample


def _fabric(gpu: SimulatedGpu, now: float, info: Any) -> None:
    _need(gpu.made.fabric)
    degraded = 1 if not all(gpu.links(now).values()) else 2
    told = info.contents
    told.state, told.status = 3, pynvml.NVML_SUCCESS
    told.healthMask = degraded | 2 << 2 | 2 << 4 | 2 << 6 | 1 << 8


def _mig_mode(gpu: SimulatedGpu, now: float) -> list[int]:
    _need(gpu.made.profiling)
    return [int(bool(gpu.made.mig))] * 2


def _mig_device(gpu: SimulatedGpu, now: float, index: int) -> Instance:
    if index >= len(gpu.made.mig):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
    return Instance(gpu, index + 1, gpu.made.mig[index])


def _name(device: Any, now: float) -> str:
    if isinstance(device, Instance):
        return f"{device.gpu.made.model} MIG {device.profile.name}"
    return str(device.made.model)


def _fan(gpu: SimulatedGpu, now: float, fan: int) -> int:
    _need(fan < gpu.made.fans)
    return min(100, round(30 + 70 * gpu.load(now)))


def _utilization(gpu: SimulatedGpu, now: float) -> Any:
    _need(not gpu.made.mig)
    load = gpu.load(now)
    return SimpleNamespace(gpu=round(load * 100), memory=round(load * 47))


def _energy(gpu: SimulatedGpu, now: float) -> int:
    (idle, limit), totals = gpu.made.power, gpu.totals(now)
    return int((idle * totals.seconds + (limit - idle) * totals.busy) * 1000)


_ANSWERS: Mapping[str, Callable[..., Any]] = {
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetMinorNumber": lambda gpu, now: gpu.index,
    "nvmlDeviceGetPciInfo": lambda gpu, now: SimpleNamespace(
        busId=f"00000000:{0x18 + 8 * gpu.index:02X}:00.0"
    ),
    "nvmlDeviceGetCudaComputeCapability": lambda gpu, now: gpu.made.compute_capability,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetTemperature": lambda gpu, now, sensor: round(gpu.temperature(now)),
    "nvmlDeviceGetPowerUsage": lambda gpu, now: round(gpu.power(now) * 1000),
    "nvmlDeviceGetPowerManagementLimit": lambda gpu, now: round(gpu.made.power[1] * 1000),
    "nvmlDeviceGetEnforcedPowerLimit": lambda gpu, now: round(gpu.made.power[1] * 1000),
    "nvmlDeviceGetTotalEnergyConsumption": _energy,
    "nvmlDeviceGetUtilizationRates": _utilization,
    "nvmlDeviceGetEncoderUtilization": lambda gpu, now: [0, 1000],
    "nvmlDeviceGetDecoderUtilization": lambda gpu, now: [0, 1000],
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu, now: gpu.throttling(now),
    "nvmlDeviceGetPcieReplayCounter": lambda gpu, now: 0,
    "nvmlDeviceGetPerformanceState": lambda gpu, now: 0 if gpu.load(now) > 0 else 8,
    "nvmlDeviceGetCurrPcieLinkGeneration": lambda gpu, now: gpu.made.pcie[0],
    "nvmlDeviceGetMaxPcieLinkGeneration": lambda gpu, now: gpu.made.pcie[0],
    "nvmlDeviceGetCurrPcieLinkWidth": lambda gpu, now: gpu.made.pcie[1],
    "nvmlDeviceGetMaxPcieLinkWidth": lambda gpu, now: gpu.made.pcie[1],
    "nvmlDeviceGetRemappedRows": _rows,
    "nvmlDeviceGetTotalEccErrors": _ecc,
    "nvmlDeviceGetViolationStatus": _violation,
    "nvmlDeviceGetFieldValues": _fields,
    "nvmlDeviceGetNvLinkState": _link,
    "nvmlDeviceGetNumFans": lambda gpu, now: gpu.made.fans,
    "nvmlDeviceGetFanSpeed_v2": _fan,
    "nvmlDeviceGetGpuFabricInfoV": _fabric,
    "nvmlDeviceGetComputeRunningProcesses": _processes,
    "nvmlDeviceGetProcessUtilization": _process_use,
    "nvmlGpmQueryDeviceSupport": _gpm_support,
    "nvmlGpmSampleGet": _gpm_sample,
    "nvmlGpmMigSampleGet": lambda gpu, now, number, sample: _gpm_sample(gpu, now, sample),
    "nvmlDeviceGetMigMode": _mig_mode,
    "nvmlDeviceGetMaxMigDeviceCount": lambda gpu, now: 7,
    "nvmlDeviceGetMigDeviceHandleByIndex": _mig_device,
    "nvmlDeviceGetGpuInstanceId": lambda instance, now: instance.number,
}
