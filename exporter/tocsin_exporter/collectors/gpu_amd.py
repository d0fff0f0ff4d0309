"""AMD GPUs through the library amdsmi, where it is installed: `gpu_*` alone, DCGM is NVIDIA's.

amdsmi says "N/A" for what a GPU does not have, and raises its own exceptions.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.collector import CollectorError, Stuck, Unavailable
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.nvml_processes import MOST_PROCESSES, NameOf, group_names
from tocsin_exporter.collectors.nvml_query import (
    ASK_AGAIN_SECONDS,
    Absences,
    Aside,
    with_labels,
)
from tocsin_exporter.snapshot import Labels, Sample, labels

MIB = 2.0**20
_VENDOR = labels(vendor="amd")
_SENSORS = (("edge", "EDGE"), ("hotspot", "HOTSPOT"), ("memory", "VRAM"))
_CLOCKS = (("sm", "GFX"), ("memory", "MEM"))


def gpu_amd(host: Host) -> "AmdGpus":
    return AmdGpus(lambda: import_module("amdsmi"), host.now, group_names(host))


class AmdGpus:
    """All AMD GPUs of the machine, a guard each. `load` gives the module amdsmi; `now` Unix
    seconds; `device_seconds` is how long one GPU may take."""

    name = "gpu_amd"

    def __init__(
        self,
        load: Callable[[], Any],
        now: Callable[[], float],
        name_of: NameOf = lambda pid: "",
        device_seconds: float = 0.8,
    ) -> None:
        self._load = load
        self._now = now
        self._name_of = name_of
        self._device_seconds = device_seconds
        self._library = HangGuard("amdsmi")
        self._devices: list[_AmdGpu] = []
        self._amdsmi: Any = None
        self._expected = 0
        self._absent_until = 0.0

    async def collect(self) -> Sequence[Sample]:
        """Raises Unavailable without the library or a GPU, CollectorError as `Gpu.collect`."""
        if not self._devices:
            await self._find()
        answers = await asyncio.gather(*(self._ask(device) for device in self._devices))
        present = [answer for answer in answers if not isinstance(answer, str)]
        samples = [sample for answer in present for sample in answer]
        samples.append(Sample(GPU["gpu_devices"], float(len(present)), _VENDOR))
        samples.append(Sample(GPU["gpu_devices_expected"], float(self._expected), _VENDOR))
        failures = [answer for answer in answers if isinstance(answer, str)]
        if failures:
            raise CollectorError("; ".join(failures), samples)
        return samples

    def close(self) -> None:
        self._library.close()
        for device in self._devices:
            device.close()

    async def _find(self) -> None:
        if self._now() < self._absent_until:
            raise Unavailable("no AMD GPU")
        try:
            async with asyncio.timeout(self._device_seconds):
                handles = await self._library.run(self._handles)
        except TimeoutError:
            raise CollectorError("amdsmi does not answer") from None
        except Exception as error:  # why: a library that is broken is none, whatever it raises
            if isinstance(error, CollectorError):
                raise
            self._absent_until = self._now() + ASK_AGAIN_SECONDS
            raise Unavailable(f"no AMD GPU ({error})") from error
        if not handles:
            self._absent_until = self._now() + ASK_AGAIN_SECONDS
            raise Unavailable("amdsmi finds no GPU")
        made = (self._amdsmi, self._name_of)
        self._devices = [_AmdGpu(index, handle, *made) for index, handle in enumerate(handles)]
        self._expected = max(self._expected, len(handles))

    def _handles(self) -> list[Any]:
        self._amdsmi = self._load()
        self._amdsmi.amdsmi_init()
        return list(self._amdsmi.amdsmi_get_processor_handles())

    async def _ask(self, device: "_AmdGpu") -> list[Sample] | str:
        try:
            async with asyncio.timeout(self._device_seconds):
                return await device.guard.run(lambda: list(device.read(self._now())))
        except (TimeoutError, Stuck):
            return f"AMD GPU {device.index} does not answer"
        except CollectorError:
            raise
        except Exception as error:  # why: an answer that nobody expects costs its own GPU alone
            return f"AMD GPU {device.index}: {error!r}"


class _AmdGpu:
    def __init__(self, index: int, handle: Any, amdsmi: Any, name_of: NameOf) -> None:
        self.index = index
        self.guard = HangGuard(f"amd gpu {index}")
        self._handle = handle
        self._amdsmi = amdsmi
        self._name_of = name_of
        self._absences = Absences()
        self._names: Aside[dict[int, str]] = Aside(f"amd gpu {index} processes", patience=0.1)
        self._own: Labels = ()

    def close(self) -> None:
        self.guard.close()
        self._names.close()

    def read(self, now: float) -> Iterator[Sample]:
        """Raises what amdsmi raises when the GPU cannot even say who it is."""
        amdsmi = self._amdsmi
        uuid = str(amdsmi.amdsmi_get_gpu_device_uuid(self._handle))
        self._own = labels(gpu=str(self.index), UUID=uuid)
        model = (self._dict("amdsmi_get_gpu_asic_info", now)).get("market_name", "")
        driver = (self._dict("amdsmi_get_gpu_driver_info", now)).get("driver_version", "")
        info = (("vendor", "amd"), ("modelName", str(model)), ("driver_version", str(driver)))
        yield Sample(GPU["gpu_info"], 1.0, with_labels(self._own, *info))
        yield from self._load(now)
        yield from self._heat(now)
        yield from self._processes(now)

    def _load(self, now: float) -> Iterator[Sample]:
        busy = self._dict("amdsmi_get_gpu_activity", now)
        yield from self._one("gpu_utilization_ratio", busy.get("gfx_activity"), 0.01)
        memory = self._dict("amdsmi_get_gpu_vram_usage", now)
        used, total = (_number(memory.get(key)) for key in ("vram_used", "vram_total"))
        yield from self._one("gpu_memory_used_bytes", used, MIB)
        yield from self._one("gpu_memory_total_bytes", total, MIB)
        if used is not None and total:
            yield from self._one("gpu_memory_used_ratio", used / total)
        for clock, kind in _CLOCKS:
            named = getattr(self._amdsmi.AmdSmiClkType, kind, None)
            told = self._dict("amdsmi_get_clock_info", now, named) if named is not None else {}
            yield from self._one("gpu_clock_hertz", told.get("clk"), 1e6, clock=clock)

    def _heat(self, now: float) -> Iterator[Sample]:
        power = self._dict("amdsmi_get_power_info", now)
        told = [_number(power.get(f"{kind}_socket_power")) for kind in ("current", "average")]
        yield from self._one("gpu_power_watts", next((w for w in told if w is not None), None))
        current = self._amdsmi.AmdSmiTemperatureMetric.CURRENT
        for sensor, kind in _SENSORS:
            named = getattr(self._amdsmi.AmdSmiTemperatureType, kind, None)
            if named is not None:
                degrees = _number(self._ask("amdsmi_get_temp_metric", now, named, current))
                if degrees is not None and degrees >= 1000:  # some releases give thousandths
                    degrees /= 1000
                yield from self._one("gpu_temperature_celsius", degrees, sensor=sensor)

    def _processes(self, now: float) -> Iterator[Sample]:
        listed = self._ask("amdsmi_get_gpu_process_list", now) or ()
        memory = {one["pid"]: _number(one.get("mem")) for one in listed if isinstance(one, dict)}
        known = {pid: size for pid, size in memory.items() if size is not None}
        largest = sorted(known, key=lambda pid: -known[pid])[:MOST_PROCESSES]
        names = self._names.ask(lambda: {pid: self._name_of(pid) for pid in largest}) or {}
        for pid in largest:
            used = ("gpu_process_memory_bytes", known[pid], 1)
            yield from self._one(*used, pid=str(pid), groupname=names.get(pid, ""))

    def _one(self, family: str, value: Any, factor: float = 1, **more: str) -> Iterator[Sample]:
        if (number := _number(value)) is not None:
            yield Sample(GPU[family], number * factor, with_labels(self._own, *more.items()))

    def _dict(self, function: str, now: float, *arguments: Any) -> dict[str, Any]:
        answer = self._ask(function, now, *arguments)
        return answer if isinstance(answer, dict) else {}

    def _ask(self, function: str, now: float, *arguments: Any) -> Any:
        """None for what this GPU does not tell, which is not asked again for a while."""
        name = f"{function} {arguments}"
        if self._absences.has(name, now):
            return None
        try:
            return getattr(self._amdsmi, function)(self._handle, *arguments)
        except Exception:  # why: amdsmi's exceptions differ by its release
            self._absences.add(name, now)
            return None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value >= 0 else None
