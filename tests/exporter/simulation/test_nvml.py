"""The collector itself on simulated machines: the bundled ones, and each fault."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from support.site import NOW
from tocsin_alerting.config.gpu_simulation import bundled_simulations, load_simulation
from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.gpu import Gpu, SimulatedGpus, gpu
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.simulation.machine import THROTTLES, Fault, Machine
from tocsin_exporter.snapshot import LastSample, Sample

BUNDLED = {name: load_simulation(path) for name, path in bundled_simulations().items()}
H100, GEFORCE = BUNDLED["bundled/h100-8x"], BUNDLED["bundled/geforce-rtx"]


OF_OTHER_VENDORS = {
    *("gpu_utilization_ratio", "gpu_memory_used_bytes", "gpu_memory_total_bytes"),
    *("gpu_temperature_celsius", "gpu_power_watts", "gpu_energy_joules_total"),
    *("gpu_clock_hertz", "gpu_idle_seconds_total"),
}


class Site:
    """A simulated machine, and its clock."""

    def __init__(self, machine: Machine, **more: object) -> None:
        self.now = NOW
        host = Host(now=lambda: self.now, simulated_gpus=machine)
        self.collector = gpu(replace(host, **more))  # type: ignore[arg-type]

    async def read(self, later: float = 1.0) -> Sequence[Sample]:
        """The samples, also those of a round that failed in part."""
        self.now += later
        try:
            return await self.collector.collect()
        except CollectorError as error:
            return error.samples


@contextmanager
def running(machine: Machine, **more: object) -> Iterator[Site]:
    site = Site(machine, **more)
    try:
        yield site
    finally:
        site.collector.close()


def broken(*faults: Fault) -> Machine:
    return replace(H100, faults=faults)


def values(samples: Sequence[Sample], family: str, **labels: str) -> list[float]:
    wanted = set(labels.items())
    return [s.value for s in samples if s.family.name == family and wanted <= set(s.labels)]


@pytest.mark.parametrize("name", BUNDLED)
async def test_all_that_a_simulation_says_says_that_it_is_one(name: str) -> None:
    with running(BUNDLED[name]) as site:
        await site.read()
        samples = await site.read()
    assert len(samples) > 50
    for sample in samples:
        assert ("simulated", "true") in sample.labels
        assert {name for name, _ in sample.labels} <= {"simulated", *GPU.labels[sample.family.name]}
    assert len({(s.family.name, s.labels) for s in samples}) == len(samples)


async def test_eight_h100_tell_what_such_a_machine_tells() -> None:
    with running(H100, gpu_hostname={"Hostname": "node-7"}) as site:
        await site.read()
        samples = await site.read()
    lacking = set(GPU) - {sample.family.name for sample in samples}
    # Of events that have not come, of older GPUs, of virtual ones and of other vendors:
    assert lacking == {
        "DCGM_EXP_XID_ERRORS_COUNT",
        "gpu_xid_last_timestamp_seconds",
        *(f"DCGM_FI_DEV_RETIRED_{kind}" for kind in ("SBE", "DBE", "PENDING")),
        *(name for name in GPU if name.startswith("DCGM_FI_DEV_NVLINK_")),
        "DCGM_FI_DEV_VGPU_LICENSE_STATUS",
        "gpu_fan_speed_ratio",
        *OF_OTHER_VENDORS,
    }
    assert values(samples, "gpu_devices") == values(samples, "gpu_devices_expected") == [8]
    assert len(values(samples, "gpu_nvlink_up")) == 8 * 18
    used = "DCGM_FI_DEV_FB_USED"
    assert len(values(samples, used)) == 7 + 4  # one is split
    assert len(values(samples, used, gpu="6", GPU_I_PROFILE="1g.10gb")) == 2
    assert values(samples, "DCGM_FI_DEV_GPU_UTIL", gpu="7") == [0]
    assert values(samples, "gpu_process_memory_bytes", gpu="0", groupname="vllm") == [71 << 30]


# NVIDIA's dashboard 12239, with what it chooses by its variables.
DASHBOARD = {
    "DCGM_FI_DEV_GPU_TEMP": ("Hostname", "gpu", "UUID"),
    "DCGM_FI_DEV_POWER_USAGE": ("Hostname", "gpu", "UUID"),
    "DCGM_FI_DEV_SM_CLOCK": ("Hostname", "gpu", "UUID"),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("Hostname", "gpu"),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("Hostname", "gpu"),
    "DCGM_FI_DEV_FB_USED": ("Hostname", "gpu"),
    "DCGM_FI_DEV_FB_FREE": ("Hostname", "gpu"),
}


async def test_each_query_of_dashboard_12239_finds_all_gpus() -> None:
    with running(H100, gpu_hostname={"Hostname": "node-7"}) as site:
        await site.read()
        samples = await site.read()
    for name, needed in DASHBOARD.items():
        found = [dict(s.labels) for s in samples if s.family.name == name]
        assert {labels["gpu"] for labels in found} == set("01234567"), name
        assert all(labels.keys() >= set(needed) for labels in found)
        split = [labels for labels in found if labels["gpu"] == "6"]
        if "PROF" in name or "FB" in name:
            assert {labels["GPU_I_ID"] for labels in split} == set("1234")


async def test_a_geforce_lacks_what_it_lacks() -> None:
    with running(GEFORCE) as site:
        await site.read()
        names = {sample.family.name for sample in await site.read()}
    assert "gpu_fan_speed_ratio" in names
    assert not [name for name in names if "ECC" in name or "nvlink" in name or "REMAP" in name]
    assert not names & {"DCGM_FI_DEV_MEMORY_TEMP", "DCGM_FI_PROF_SM_ACTIVE", "gpu_fabric_state"}
    assert "DCGM_FI_PROF_PCIE_TX_BYTES" in names  # of its counters


async def test_power_energy_and_profile_agree_with_the_load() -> None:
    with running(H100) as site:
        await site.read()
        before = values(await site.read(), "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", gpu="6")
        samples = await site.read()
    watts = values(samples, "DCGM_FI_DEV_POWER_USAGE", gpu="6")
    after = values(samples, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", gpu="6")
    assert watts == [70 + 630 * 0.8]
    assert after[0] - before[0] == pytest.approx(watts[0] * 1000, abs=2)
    active = values(samples, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", gpu="6")
    assert active == pytest.approx([0.8] * 4)


async def test_a_lost_gpu_is_said_and_comes_back() -> None:
    with running(broken(Fault("lost", 3, after=2, lasts=2))) as site:
        assert values(await site.read(), "gpu_devices") == [8]
        site.now += 1
        with pytest.raises(CollectorError, match="GPU 3: GPU is lost") as lost:
            await site.collector.collect()
        assert values(lost.value.samples, "gpu_devices") == [7]
        assert values(lost.value.samples, "gpu_devices_expected") == [8]
        assert not values(lost.value.samples, "DCGM_FI_DEV_GPU_TEMP", gpu="3")
        assert ("simulated", "true") in lost.value.samples[0].labels
        samples = await site.read(later=2)
    assert values(samples, "gpu_devices") == [8]
    assert values(samples, "DCGM_FI_DEV_GPU_TEMP", gpu="3")


async def test_a_gpu_that_hangs_costs_its_own_metrics() -> None:
    with running(broken(Fault("hang", 0, after=2, lasts=2))) as site:
        await site.read()
        hung = await site.read()
        assert not values(hung, "DCGM_FI_DEV_GPU_TEMP", gpu="0")
        assert len(values(hung, "DCGM_FI_DEV_GPU_TEMP")) == 7
        assert values(hung, "gpu_devices") == [7]
        async with asyncio.timeout(10):
            while values(await site.read(), "gpu_devices") != [8]:
                await asyncio.sleep(0.01)


async def test_an_xid_is_an_event() -> None:
    with running(broken(Fault("xid", 2, after=30, value=79))) as site:
        assert isinstance(site.collector, SimulatedGpus)
        xid = site.collector._gpus.xid
        await site.read()
        async with asyncio.timeout(10):
            while xid.listening != set(range(8)):
                await asyncio.sleep(0.01)
        samples = await site.read(later=30)
        async with asyncio.timeout(10):
            while values(samples, "gpu_xid_errors_total", gpu="2", xid="79") != [1]:
                await asyncio.sleep(0.01)
                samples = await site.read(later=0)
    assert values(samples, "DCGM_FI_DEV_XID_ERRORS") == [0, 0, 79, 0, 0, 0, 0, 0]
    assert values(samples, "gpu_xid_last_timestamp_seconds", gpu="2") == [site.now]


async def test_errors_heat_and_throttling() -> None:
    faults = (
        Fault("ecc", 1, after=1, value=2),
        Fault("temperature", 4, after=1, value=94),
        Fault("throttle", 4, after=1, value=THROTTLES["hw_thermal"]),
        Fault("nvlink_down", 5, after=1, value=17),
    )
    with running(broken(*faults)) as site:
        await site.read(later=0)
        for _ in range(4):
            samples = await site.read()
    assert values(samples, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL") == [0, 2, 0, 0, 0, 0, 0, 0]
    assert values(samples, "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", gpu="1") == [2]
    assert values(samples, "DCGM_FI_DEV_ROW_REMAP_PENDING", gpu="1") == [1]
    assert values(samples, "gpu_recovery_action", gpu="1") == [1]
    assert values(samples, "DCGM_FI_DEV_GPU_TEMP", gpu="4") == [94]
    assert values(samples, "gpu_throttle_active", gpu="4", reason="hw_thermal") == [1]
    assert values(samples, "gpu_throttle_seconds_total", gpu="4", reason="hw_thermal") == [4]
    assert values(samples, "DCGM_FI_DEV_THERMAL_VIOLATION", gpu="4") == [4e9]
    assert values(samples, "DCGM_FI_DEV_SM_CLOCK", gpu="4") == [990]
    assert values(samples, "gpu_nvlink_up", gpu="5", link="17") == [0]
    degraded = {"gpu": "5", "reason": "degraded_bandwidth"}
    assert values(samples, "gpu_fabric_unhealthy", **degraded) == [1]


def test_what_a_simulation_left_is_not_taken_for_a_gpu_nor_the_other_way_round() -> None:
    expected = "gpu_devices_expected"
    left = [LastSample(expected, {"simulated": "true"}, 8), LastSample(expected, {}, 2)]
    for simulated, counted in ((False, 2), (True, 8)):
        collector = Gpu(None, lambda: NOW, simulated=simulated)
        collector.resume(left, NOW)
        assert collector._counted == counted
