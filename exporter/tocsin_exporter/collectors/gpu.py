"""NVIDIA GPUs through NVML: a guard a GPU, so that one that hangs costs its own metrics only."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.collector import CollectorError, Stuck, Unavailable, Unread
from tocsin_exporter.collectors.gpu_xid import REMEMBERED, XidWatcher
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.nvml_calls import (
    BLANK,
    READINGS,
    GpuLabels,
    NvmlCall,
    gpu_labels,
    process_samples,
    samples,
)
from tocsin_exporter.snapshot import LastSample, Sample
from tocsin_exporter.tasks import task_group

log = logging.getLogger(__name__)

ASK_AGAIN_SECONDS = 300.0  # for what a GPU or the machine does not have


def gpu(host: Host) -> "Gpu":
    import pynvml  # 10 ms that a machine without the collector need not pay

    return Gpu(pynvml, host.now, expected=host.gpus, listed=lambda: kernels_gpus(host.proc))


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
    many the kernel has, for as long as NVML does not answer.
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
    ) -> None:
        self._nvml = nvml
        self._now = now
        self._device_seconds = device_seconds
        self._driver = HangGuard("nvml")
        self._devices: list[_Device] = []
        self._counted = 0  # the most that NVML ever counted
        self._configured = expected
        self._listed = listed
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
        samples += self.xid.of_missing({uuid for sample in samples if (uuid := _uuid(sample))})
        samples += self._numbers(len(present))
        failures = [answer for answer in answers if isinstance(answer, str)]
        if failures:
            raise CollectorError("; ".join(failures), samples)
        return samples

    def resume(self, last: Iterable[LastSample], at: float) -> None:
        """XID errors are counted on; a GPU that was missing is missing still."""
        last = list(last)
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
            device.guard.close()

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
            self._devices.append(_Device(self._nvml, index, self.xid))

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


def _uuid(sample: Sample) -> str:
    return next((value for name, value in sample.labels if name == "UUID"), "")


class _Device:
    """One GPU, read on its own guard."""

    def __init__(self, nvml: Any, index: int, xid: XidWatcher) -> None:
        self.index = index
        self.guard = HangGuard(f"gpu {index}")
        self._nvml = nvml
        self._xid = xid
        self._identity: GpuLabels | None = None
        self._unsupported: dict[str, float] = {}

    def forget(self) -> None:
        """Identify it anew."""
        self._identity = None

    def read(self, now: float) -> Iterator[Sample]:
        """Raises CollectorError when the GPU is lost; it is identified anew when it comes back."""
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(self.index)
            if self._identity is None:
                self._identity = gpu_labels(self._nvml, handle, self.index)
            yield Sample(GPU["gpu_info"], 1.0, self._identity.info)
            for reading in READINGS:
                yield from self._take(reading, handle, self._identity, now)
            yield from self._processes(handle, self._identity)
            yield from self._xid.samples(self._identity)
            self._xid.listen(self.index)
        except self._nvml.NVMLError as error:
            self._identity = None
            raise CollectorError(f"GPU {self.index}: {error}") from error

    def _take(
        self, reading: NvmlCall, handle: Any, identity: GpuLabels, now: float
    ) -> Iterator[Sample]:
        if self._unsupported.get(reading.name, 0.0) > now:
            return
        try:
            answer = reading.ask(self._nvml, handle)
        except self._nvml.NVMLError as error:
            self._note(reading, error, now)
            return
        yield from samples(reading, answer, identity)

    def _note(self, reading: NvmlCall, error: Exception, now: float) -> None:
        """What this GPU cannot say is not asked again for a while; a lost GPU ends the reading."""
        nvml = self._nvml
        value = getattr(error, "value", None)
        if value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
            raise error
        if value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
            self._unsupported[reading.name] = now + ASK_AGAIN_SECONDS
            return
        log.debug("GPU reading failed", extra={"reading": reading.name, "error": str(error)})

    def _processes(self, handle: Any, identity: GpuLabels) -> Iterator[Sample]:
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError:
            return
        yield from process_samples(running, identity)
