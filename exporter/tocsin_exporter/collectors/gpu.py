"""NVIDIA GPUs through NVML: a guard a GPU, so that one that hangs costs its own metrics only."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors import nvml_board, nvml_gpm, nvml_mig
from tocsin_exporter.collectors.collector import CollectorError, Stuck, Unavailable, Unread
from tocsin_exporter.collectors.gpu_xid import REMEMBERED, XidWatcher
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.nvml_calls import READINGS, NvmlCall, gpu_labels, samples
from tocsin_exporter.collectors.nvml_fields import Fields
from tocsin_exporter.collectors.nvml_pcie import PcieThroughput
from tocsin_exporter.collectors.nvml_processes import NameOf, RunningProcesses, group_names
from tocsin_exporter.collectors.nvml_query import (
    ASK_AGAIN_SECONDS,
    BLANK,
    Absences,
    GpuLabels,
    GpuQuery,
    with_labels,
)
from tocsin_exporter.simulation.machine import Machine
from tocsin_exporter.snapshot import Labels, LastSample, Sample
from tocsin_exporter.tasks import task_group

log = logging.getLogger(__name__)

_MEMORY = "DCGM_FI_DEV_FB_"
SIMULATED = "simulated"  # the label of all that a simulation says
_PCIE_SENT = "DCGM_FI_PROF_PCIE_TX_BYTES"


def gpu(host: Host) -> "Gpu | SimulatedGpus":
    import pynvml  # 10 ms that a machine without the collector need not pay

    if host.simulated_gpus is not None:
        return SimulatedGpus(host, host.simulated_gpus)
    return Gpu(
        pynvml,
        host.now,
        expected=host.gpus,
        listed=lambda: kernels_gpus(host.proc),
        name_of=group_names(host),
        hostname=host.gpu_hostname,
    )


def kernels_gpus(proc: Path) -> int:
    """How many GPUs the kernel's driver lists, whether they answer or not."""
    try:
        return len(os.listdir(proc / "driver/nvidia/gpus"))
    except OSError:
        return 0


class Gpu:
    """All GPUs of the machine. `nvml` is the module pynvml; `now` gives Unix seconds.

    `device_seconds` is how long one GPU may take before the others are reported without it.
    `expected` is how many there have to be; None: as many as were ever counted. `listed` says how
    many the kernel has, for as long as NVML does not answer. `name_of` gives the group of a
    process by its pid; `hostname` is a label more for DCGM's names. What a simulation said is no
    GPU's, and the other way round: `simulated` says which of them is resumed.
    """

    name = "gpu"
    remembered = frozenset({"gpu_devices_expected", *REMEMBERED})

    def __init__(
        self,
        nvml: Any,
        now: Callable[[], float],
        device_seconds: float = 0.8,
        expected: int | None = None,
        listed: Callable[[], int] = lambda: 0,
        name_of: NameOf = lambda pid: "",
        hostname: Mapping[str, str] | None = None,
        simulated: bool = False,
    ) -> None:
        self._nvml = nvml
        self._simulated = simulated
        self._now = now
        self._device_seconds = device_seconds
        self._driver = HangGuard("nvml")
        self._devices: list[_Device] = []
        self._counted = 0  # the most that NVML ever counted
        self._configured = expected
        self._listed = listed
        self._about = (name_of, hostname or {})
        self._absent_until = 0.0
        self._initialised = False
        self.xid = XidWatcher(nvml, now)

    async def collect(self) -> Sequence[Sample]:
        """Raises Unavailable without a GPU, CollectorError when a GPU does not answer, Unread when
        we have no thread to ask in: no GPU is missing for that."""
        await self._find_devices()
        async with task_group() as group:
            asked = [group.create_task(self._ask(device)) for device in self._devices]
        answers = [future.result() for future in asked]
        present = [answer for answer in answers if not isinstance(answer, str)]
        samples = [sample for answer in present for sample in answer]
        samples += self.xid.of_missing(_uuids(samples))
        samples += self._numbers(len(present))
        failures = [answer for answer in answers if isinstance(answer, str)]
        if failures:
            raise CollectorError("; ".join(failures), samples)
        return samples

    def resume(self, last: Iterable[LastSample], at: float) -> None:
        """XID errors are counted on; a GPU that was missing is missing still."""
        last = [sample for sample in last if (SIMULATED in sample.labels) == self._simulated]
        self.xid.resume(last)
        counts = [sample.value for sample in last if sample.name == "gpu_devices_expected"]
        self._counted = max([self._counted, *map(int, counts)])

    def move(self, seconds: float) -> None:
        self.xid.move(seconds)
        self._absent_until += seconds

    def close(self) -> None:
        self.xid.close()
        self._driver.close()
        for device in self._devices:
            device.close()

    async def _find_devices(self) -> None:
        """A driver that hangs while the GPUs are known does not keep them from being read."""
        if not self._initialised and not self._expected and self._now() < self._absent_until:
            raise Unavailable("no NVIDIA GPU")
        try:
            async with asyncio.timeout(self._device_seconds):
                count = await self._driver.run(self._count)
        except (TimeoutError, Stuck):
            if not self._devices:
                # A driver that hangs is there for a GPU at least.
                numbers = self._numbers(0, self._listed() or 1)
                raise CollectorError("the NVIDIA driver does not answer", numbers) from None
            return
        self._counted = max(self._counted, count)
        for index in range(len(self._devices), count):
            self._devices.append(_Device(self._nvml, index, self.xid, *self._about))

    def _count(self) -> int:
        """On the driver's guard. Raises Unavailable where there is no driver or no GPU."""
        nvml = self._nvml
        try:
            if not self._initialised:
                nvml.nvmlInit()
                self._initialised = True
                for device in self._devices:
                    device.forget()  # the numbers may be other GPUs' now
            count = int(nvml.nvmlDeviceGetCount())
            if count in BLANK:
                raise nvml.NVMLError(nvml.NVML_ERROR_UNKNOWN)
        except nvml.NVMLError as error:
            self._absent_until = self._now() + ASK_AGAIN_SECONDS
            self._initialised = False
            if self._expected:
                message = f"the NVIDIA driver says: {error}"
                raise CollectorError(message, self._numbers(0)) from error
            raise Unavailable(f"no NVIDIA GPU ({error})") from error
        if not count and not self._expected:
            raise Unavailable("the NVIDIA driver finds no GPU")
        return count

    @property
    def _expected(self) -> int:
        return self._counted if self._configured is None else self._configured

    def _numbers(self, present: int, at_least: int = 0) -> list[Sample]:
        expected = max(self._counted, at_least) if self._configured is None else self._configured
        return [
            Sample(GPU["gpu_devices"], float(present)),
            Sample(GPU["gpu_devices_expected"], float(expected)),
        ]

    async def _ask(self, device: "_Device") -> list[Sample] | str:
        try:
            async with asyncio.timeout(self._device_seconds):
                return await device.guard.run(lambda: list(device.read(self._now())))
        except TimeoutError:
            return f"GPU {device.index} does not answer"
        except Stuck:
            return f"GPU {device.index} still does not answer"
        except Unread:
            raise
        except CollectorError as error:
            return str(error)
        except Exception as error:  # why: an answer that nobody expects costs its own GPU alone
            log.warning("GPU reading failed", extra={"gpu": device.index, "error": repr(error)})
            return f"GPU {device.index}: {error!r}"


class SimulatedGpus:
    """The collector itself, on GPUs that are described; each of its series says so."""

    name = "gpu"
    remembered = Gpu.remembered

    def __init__(self, host: Host, machine: Machine) -> None:
        from tocsin_exporter.simulation.nvml import SimulatedNvml  # as pynvml

        self._gpus = Gpu(
            SimulatedNvml(machine, host.now),
            host.now,
            expected=host.gpus,
            name_of=lambda pid: machine.process_names.get(pid, ""),
            hostname=host.gpu_hostname,
            simulated=True,
        )

    async def collect(self) -> Sequence[Sample]:
        """As `Gpu.collect`."""
        try:
            return _marked(await self._gpus.collect())
        except CollectorError as error:
            error.samples = tuple(_marked(error.samples))
            raise

    def resume(self, last: Iterable[LastSample], at: float) -> None:
        self._gpus.resume(last, at)

    def move(self, seconds: float) -> None:
        self._gpus.move(seconds)

    def close(self) -> None:
        self._gpus.close()


def _marked(samples: Sequence[Sample]) -> list[Sample]:
    """Each second anew: the few labels of a GPU are marked once, its hundreds of samples not."""
    marked = {at: with_labels(own, (SIMULATED, "true")) for at, own in _different(samples).items()}
    return [Sample(one[0], one[1], marked[id(one[2])], one[3]) for one in samples]


def _uuids(samples: Sequence[Sample]) -> set[str]:
    every = (pair for own in _different(samples).values() for pair in own)
    return {value for name, value in every if name == "UUID" and value}


def _different(samples: Sequence[Sample]) -> dict[int, Labels]:
    """The labels by where they are: to compare all that are said takes longer than to say them."""
    return {id(sample.labels): sample.labels for sample in samples}


class _Device:
    """One GPU, read on its own guard."""

    def __init__(
        self, nvml: Any, index: int, xid: XidWatcher, name_of: NameOf, hostname: Mapping[str, str]
    ) -> None:
        self.index = index
        self.guard = HangGuard(f"gpu {index}")
        self._nvml = nvml
        self._xid = xid
        self._hostname = hostname
        self._identity: GpuLabels | None = None
        self._absences = Absences()
        self._processes = RunningProcesses(index, name_of)
        self._pcie = PcieThroughput(index)
        self.forget()

    def forget(self) -> None:
        """Identify it anew; samples of its profile belong to what it was."""
        self._identity = None
        self._fields, self._profiler = Fields(), nvml_gpm.Profiler()
        self._instances = nvml_mig.Instances()

    def close(self) -> None:
        self.guard.close()
        self._processes.close()
        self._pcie.close()

    def read(self, now: float) -> Iterator[Sample]:
        """Raises CollectorError when the GPU is lost; it is identified anew when it comes back."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(self.index)
            if self._identity is None:
                self._identity = gpu_labels(nvml, handle, self.index, self._hostname)
            yield Sample(GPU["gpu_info"], 1.0, self._identity.info)
            yield from self._all(GpuQuery(nvml, handle, self._identity, now, self._absences))
            yield from self._xid.samples(self._identity)
            self._xid.listen(self.index)
        except nvml.NVMLError as error:
            self.forget()
            raise CollectorError(f"GPU {self.index}: {error}") from error

    def _all(self, query: GpuQuery) -> Iterator[Sample]:
        split = nvml_mig.is_split(query)
        for reading in READINGS:
            yield from _take(reading, query, split)
        yield from self._fields.samples(query)
        yield from nvml_board.samples(query)
        yield from self._processes.samples(query)
        if split:
            yield from self._instances.samples(query)
        profiled = list(self._profile(query)) if not split else []
        yield from profiled
        if not any(sample.family.name == _PCIE_SENT for sample in profiled):
            yield from self._pcie.samples(query, self._fields.pcie)

    def _profile(self, query: GpuQuery) -> Iterator[Sample]:
        if nvml_gpm.supported(query):
            get = query.nvml.nvmlGpmSampleGet
            take = partial(get, query.handle)
            yield from self._profiler.samples(query, take, query.labels.dcgm)


def _take(reading: NvmlCall, query: GpuQuery, split: bool) -> Iterator[Sample]:
    """Of a GPU that is split, its instances tell the memory."""
    answer = query.ask(reading.name, lambda: reading.ask(query.nvml, query.handle))
    if answer is not None:
        told = samples(reading, answer, query.labels)
        yield from (s for s in told if not (split and s.family.name.startswith(_MEMORY)))
