"""AMD through a double of amdsmi written from its documentation, Intel on written trees; neither
was ever seen on a real GPU."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from support.site import NOW
from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.gpu_amd import AmdGpus
from tocsin_exporter.collectors.gpu_intel import IntelGpus
from tocsin_exporter.collectors.nvml_query import ASK_AGAIN_SECONDS
from tocsin_exporter.snapshot import Sample


class AmdSmiLibraryException(Exception):
    """As the library's own."""


class Amdsmi:
    """As AMD documents the Python interface of ROCm 6 and 7: dictionaries, "N/A" for no value."""

    AmdSmiTemperatureType = SimpleNamespace(EDGE=0, HOTSPOT=1, VRAM=2)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)
    AmdSmiClkType = SimpleNamespace(GFX=0, MEM=4)

    def __init__(self, gpus: int = 2) -> None:
        self.gpus = gpus
        self.lacking: set[str] = set()
        self.lost: set[int] = set()
        self.hung: Event | None = None
        self.asked: list[str] = []

    def amdsmi_init(self) -> None:
        self._check("amdsmi_init")

    def amdsmi_get_processor_handles(self) -> list[int]:
        return list(range(self.gpus))

    def amdsmi_get_gpu_device_uuid(self, gpu: int) -> str:
        if self.hung is not None and gpu == 0:
            self.hung.wait(60)
        if gpu in self.lost:
            raise AmdSmiLibraryException("gone")
        return f"a0ff7{gpu}"

    def amdsmi_get_gpu_asic_info(self, gpu: int) -> dict[str, Any]:
        return {"market_name": "AMD Instinct MI300X"}

    def amdsmi_get_gpu_driver_info(self, gpu: int) -> dict[str, Any]:
        return {"driver_name": "amdgpu", "driver_version": "6.10.5"}

    def amdsmi_get_gpu_activity(self, gpu: int) -> dict[str, Any]:
        if gpu in self.lost:
            raise AmdSmiLibraryException("gone")
        self._check("amdsmi_get_gpu_activity")
        return {"gfx_activity": 70 + gpu, "umc_activity": 5, "mm_activity": "N/A"}

    def amdsmi_get_gpu_vram_usage(self, gpu: int) -> dict[str, Any]:
        return {"vram_total": 196_592, "vram_used": 49_148}

    def amdsmi_get_clock_info(self, gpu: int, kind: int) -> dict[str, Any]:
        return {"clk": 2100 if kind == 0 else 900, "max_clk": 2100, "min_clk": 100}

    def amdsmi_get_power_info(self, gpu: int) -> dict[str, Any]:
        return {"current_socket_power": "N/A" if gpu else 640, "average_socket_power": 600}

    def amdsmi_get_temp_metric(self, gpu: int, sensor: int, metric: int) -> int:
        self._check(f"temperature {sensor}")
        return {0: 55, 1: 71_000, 2: 60}[sensor]

    def amdsmi_get_gpu_process_list(self, gpu: int) -> list[dict[str, Any]]:
        return [{"pid": 4711, "name": "N/A", "mem": 2**34}, {"pid": 1, "name": "x", "mem": "N/A"}]

    def _check(self, name: str) -> None:
        self.asked.append(name)
        if name in self.lacking:
            raise AmdSmiLibraryException("not supported")


class Now:
    seconds = NOW

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def amdsmi() -> Amdsmi:
    return Amdsmi()


@pytest.fixture
async def amd(amdsmi: Amdsmi, now: Now) -> AsyncIterator[AmdGpus]:
    collector = AmdGpus(lambda: amdsmi, now, lambda pid: "vllm", device_seconds=0.3)
    yield collector
    collector.close()


def values(samples: Sequence[Sample], family: str, **labels: str) -> list[float]:
    wanted = set(labels.items())
    return [s.value for s in samples if s.family.name == family and wanted <= set(s.labels)]


async def test_amd_in_base_units(amd: AmdGpus) -> None:
    samples = await amd.collect()
    assert values(samples, "gpu_utilization_ratio") == pytest.approx([0.7, 0.71])
    assert values(samples, "gpu_memory_used_bytes", gpu="0") == [49_148 * 2**20]
    assert values(samples, "gpu_memory_total_bytes", gpu="0") == [196_592 * 2**20]
    assert values(samples, "gpu_memory_used_ratio", gpu="0") == [0.25]
    assert values(samples, "gpu_clock_hertz", gpu="0", clock="sm") == [2.1e9]
    assert values(samples, "gpu_power_watts") == [640, 600]
    assert values(samples, "gpu_temperature_celsius", gpu="0") == [55, 71, 60]
    named = {"gpu": "1", "pid": "4711", "groupname": "vllm"}
    assert values(samples, "gpu_process_memory_bytes", **named) == [2**34]
    assert not values(samples, "gpu_process_memory_bytes", pid="1")
    info = {"vendor": "amd", "modelName": "AMD Instinct MI300X", "UUID": "a0ff71"}
    assert values(samples, "gpu_info", **info) == [1]
    assert values(samples, "gpu_devices", vendor="amd") == [2]
    for sample in samples:
        assert {name for name, _ in sample.labels} <= set(GPU.labels[sample.family.name])


async def test_what_an_amd_gpu_lacks_is_absent_and_asked_again_rarely(
    amd: AmdGpus, amdsmi: Amdsmi, now: Now
) -> None:
    amdsmi.lacking = {"amdsmi_get_gpu_activity", "temperature 2"}
    for _ in range(2):
        samples = await amd.collect()
        assert not values(samples, "gpu_utilization_ratio")
        assert values(samples, "gpu_temperature_celsius", gpu="0") == [55, 71]
    assert amdsmi.asked.count("amdsmi_get_gpu_activity") == 2
    amdsmi.lacking = set()
    now.seconds += ASK_AGAIN_SECONDS
    assert len(values(await amd.collect(), "gpu_utilization_ratio")) == 2


async def test_an_amd_gpu_that_hangs_or_is_gone_costs_its_own_metrics(
    amd: AmdGpus, amdsmi: Amdsmi
) -> None:
    await amd.collect()
    amdsmi.hung, amdsmi.lost = Event(), {1}
    try:
        with pytest.raises(CollectorError, match="GPU 0 does not answer; AMD GPU 1: .*gone") as bad:
            await amd.collect()
        assert values(bad.value.samples, "gpu_devices") == [0]
        assert values(bad.value.samples, "gpu_devices_expected") == [2]
        amdsmi.lost = set()
        with pytest.raises(CollectorError, match="GPU 0 does not answer") as hung:
            await amd.collect()
        assert values(hung.value.samples, "gpu_utilization_ratio") == pytest.approx([0.71])
    finally:
        amdsmi.hung.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert values(await amd.collect(), "gpu_devices") == [2]
                break
            except CollectorError:
                await asyncio.sleep(0.01)


async def test_without_amdsmi_or_a_gpu_there_is_nothing_to_read(amdsmi: Amdsmi, now: Now) -> None:
    def missing() -> Any:
        raise ModuleNotFoundError("No module named 'amdsmi'")

    for load, words in ((missing, "No module"), (lambda: Amdsmi(0), "finds no GPU")):
        collector = AmdGpus(load, now)
        with pytest.raises(Unavailable, match=words):
            await collector.collect()
        with pytest.raises(Unavailable, match="no AMD GPU"):
            await collector.collect()
        collector.close()
    amdsmi.lacking = {"amdsmi_init"}
    collector = AmdGpus(lambda: amdsmi, now)
    with pytest.raises(Unavailable, match="not supported"):
        await collector.collect()
    collector.close()


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")


def card(sys: Path, number: int, driver: str, address: str, files: dict[str, str]) -> None:
    """As the kernel lays it out: the card's `device` is a link to the PCI device."""
    device = sys / "devices" / address
    (sys / "drivers" / driver).mkdir(parents=True, exist_ok=True)
    device.mkdir(parents=True)
    (device / "driver").symlink_to(sys / "drivers" / driver)
    place = sys / f"class/drm/card{number}"
    place.mkdir(parents=True)
    (place / "device").symlink_to(device)
    write(place, files)


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    hwmon = {
        "device/hwmon/hwmon3/energy1_input": "123456789",
        "device/hwmon/hwmon3/temp2_input": "46000",
        "device/hwmon/hwmon3/temp2_label": "pkg",
        "device/hwmon/hwmon3/temp3_input": "broken",
    }
    i915 = {"gt/gt0/rps_act_freq_mhz": "1300", "gt/gt0/rc6_residency_ms": "7500"}
    card(tmp_path, 0, "i915", "0000:03:00.0", {**hwmon, **i915, "device/device": "0x56a0"})
    xe = {
        "device/tile0/gt0/freq0/act_freq": "2850",
        "device/tile0/gt0/gtidle/idle_residency_ms": "1000",
        "device/tile0/gt1/freq0/act_freq": "0",
        "device/tile0/physical_vram_size_bytes": "0x2f0000000",
        "device/device": "0xe20b",
    }
    card(tmp_path, 1, "xe", "0000:04:00.0", xe)
    card(tmp_path, 2, "amdgpu", "0000:05:00.0", {"device/device": "0x1"})
    (tmp_path / "class/drm/card0-DP-1").mkdir()
    return tmp_path


async def test_intel_from_sysfs(sys: Path) -> None:
    collector = IntelGpus(sys)
    samples = await collector.collect()
    collector.close()
    assert values(samples, "gpu_devices", vendor="intel") == [2]
    info = {"gpu": "0", "UUID": "0000:03:00.0", "modelName": "Intel 0x56a0"}
    assert values(samples, "gpu_info", driver_version="i915", **info) == [1]
    assert values(samples, "gpu_energy_joules_total") == pytest.approx([123.456789])
    assert values(samples, "gpu_temperature_celsius", sensor="pkg") == [46]
    assert len(values(samples, "gpu_temperature_celsius")) == 1  # and not what is no number
    assert values(samples, "gpu_clock_hertz", gpu="0", clock="gt0") == [1.3e9]
    assert values(samples, "gpu_clock_hertz", gpu="1") == [2.85e9, 0]
    assert values(samples, "gpu_idle_seconds_total", gpu="0", gt="gt0") == [7.5]
    assert values(samples, "gpu_idle_seconds_total", gpu="1", gt="gt0") == [1]
    assert values(samples, "gpu_memory_total_bytes", gpu="1") == [0x2F0000000]
    for sample in samples:
        assert {name for name, _ in sample.labels} <= set(GPU.labels[sample.family.name])


async def test_an_intel_gpu_that_goes_is_missing(sys: Path, tmp_path: Path) -> None:
    collector, nothing = IntelGpus(sys), IntelGpus(tmp_path / "nothing")
    with pytest.raises(Unavailable, match="no Intel GPU"):
        await nothing.collect()
    await collector.collect()
    (sys / "class/drm/card1/device").unlink()
    samples = await collector.collect()
    assert values(samples, "gpu_devices") == [1]
    assert values(samples, "gpu_devices_expected") == [2]
    collector.close()
    nothing.close()
