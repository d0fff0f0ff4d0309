"""What only some GPUs have, through the real pynvml: GPU 0 of the C library has it, GPU 1 not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from support.fake_nvml import FakeNvml
from support.site import NOW
from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.gpu import Gpu
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.nvml_processes import group_names
from tocsin_exporter.collectors.nvml_query import ASK_AGAIN_SECONDS, Aside
from tocsin_exporter.collectors.program import by_comm
from tocsin_exporter.snapshot import Sample

MIB = 2**20
NAMES = {4711: "vllm", 815: ""}


class Now:
    def __init__(self) -> None:
        self.seconds = NOW

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def fake() -> Iterator[FakeNvml]:
    fake = FakeNvml()
    yield fake
    fake.split(0, on=False)


@pytest.fixture
async def gpu(fake: FakeNvml, now: Now) -> AsyncIterator[Gpu]:
    collector = Gpu(fake.nvml, now, name_of=NAMES.__getitem__, hostname={"Hostname": "node-7"})
    yield collector
    collector.close()


async def second_round(gpu: Gpu, now: Now) -> Sequence[Sample]:
    """What is told by comparing two rounds is in the second."""
    await gpu.collect()
    now.seconds += 1
    return await gpu.collect()


def values(samples: Sequence[Sample], family: str, **labels: str) -> list[float]:
    wanted = set(labels.items())
    return [s.value for s in samples if s.family.name == family and wanted <= set(s.labels)]


async def until(wanted: Callable[[Sequence[Sample]], Any], gpu: Gpu, now: Now) -> None:
    async with asyncio.timeout(10):
        while not wanted(await gpu.collect()):
            now.seconds += 1
            await asyncio.sleep(0.01)


async def test_profiling_comes_of_two_samples_where_the_gpu_has_it(gpu: Gpu, now: Now) -> None:
    assert not [s for s in await gpu.collect() if "PROF_SM" in s.family.name]
    now.seconds += 1
    told = {
        s.family.name.removeprefix("DCGM_FI_PROF_"): s.value
        for s in await gpu.collect()
        if "_PROF_" in s.family.name and ("gpu", "0") in s.labels
    }
    assert told == pytest.approx(
        {
            "GR_ENGINE_ACTIVE": 0.01,
            "SM_ACTIVE": 0.02,
            "SM_OCCUPANCY": 0.03,
            "PIPE_TENSOR_ACTIVE": 0.05,
            "DRAM_ACTIVE": 0.10,
            "PIPE_FP32_ACTIVE": 0.12,
            "PIPE_FP16_ACTIVE": 0.13,
            "PCIE_TX_BYTES": 20 * MIB,
            "PCIE_RX_BYTES": 21 * MIB,
            "NVLINK_RX_BYTES": 60 * MIB,
            "NVLINK_TX_BYTES": 61 * MIB,
        }
    )  # and no PIPE_FP64_ACTIVE, which this GPU cannot tell


async def test_samples_that_are_too_near_are_not_compared(gpu: Gpu, now: Now) -> None:
    before = values(await second_round(gpu, now), "DCGM_FI_PROF_SM_ACTIVE", gpu="0")
    now.seconds += 0.05
    assert values(await gpu.collect(), "DCGM_FI_PROF_SM_ACTIVE", gpu="0") == before
    now.seconds -= 3600  # the clock was set
    assert values(await gpu.collect(), "DCGM_FI_PROF_SM_ACTIVE", gpu="0") == before


async def test_a_profile_that_is_no_number_is_absent(gpu: Gpu, fake: FakeNvml, now: Now) -> None:
    fake.blank("nvmlGpmMetricsGet")
    try:
        assert not values(await second_round(gpu, now), "DCGM_FI_PROF_SM_ACTIVE")
    finally:
        fake.blank("nvmlGpmMetricsGet", on=False)


async def test_a_gpu_that_is_split_tells_of_each_instance_once(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    fake.split(0)
    samples = await second_round(gpu, now)
    first = {"gpu": "0", "GPU_I_ID": "3", "GPU_I_PROFILE": "1g.10gb"}
    other = {"gpu": "0", "GPU_I_ID": "5", "GPU_I_PROFILE": "2g.20gb"}
    assert values(samples, "DCGM_FI_DEV_FB_USED", gpu="0") == [1, 2]  # and not the whole GPU's
    assert values(samples, "DCGM_FI_DEV_FB_USED", **first) == [1]
    assert values(samples, "DCGM_FI_DEV_FB_TOTAL", **other) == [10]
    assert values(samples, "gpu_memory_used_ratio", gpu="0") != []
    active = "DCGM_FI_PROF_SM_ACTIVE"
    assert values(samples, active, gpu="0") == pytest.approx([0.32, 0.52])
    assert values(samples, active, **first) == pytest.approx([0.32])
    temperatures = [s for s in samples if s.family.name == "DCGM_FI_DEV_GPU_TEMP"]
    assert not [s for s in temperatures if "GPU_I_ID" in dict(s.labels)]


async def test_a_gpu_is_split_and_joined_while_it_is_read(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    used = "DCGM_FI_DEV_FB_USED"
    whole = values(await gpu.collect(), used, gpu="0")
    fake.split(0)
    assert len(values(await gpu.collect(), used, gpu="0")) == 2
    fake.split(0, on=False)
    assert values(await gpu.collect(), used, gpu="0") == whole


async def test_nvlink(gpu: Gpu) -> None:
    samples = await gpu.collect()
    assert values(samples, "gpu_nvlink_up") == [1, 0]
    assert values(samples, "gpu_nvlink_transmit_bytes_total", link="1") == [138001 * 1024]
    assert values(samples, "gpu_nvlink_receive_bytes_total", link="0") == [139000 * 1024]
    assert values(samples, "gpu_nvlink_errors_total", link="1", type="crc") == [163001]
    assert values(samples, "gpu_nvlink_errors_total", link="0", type="replay") == [161000]
    assert values(samples, "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL") == [52e9]
    assert not values(samples, "gpu_nvlink_up", gpu="1")


async def test_throttle_seconds_by_fields_or_by_what_older_drivers_say(gpu: Gpu) -> None:
    seconds, samples = "gpu_throttle_seconds_total", await gpu.collect()
    assert values(samples, seconds, gpu="0", reason="power_cap") == pytest.approx([74])
    assert values(samples, seconds, gpu="0", reason="hw_thermal") == pytest.approx([270])
    assert values(samples, seconds, gpu="1", reason="sync_boost") == pytest.approx([2e-6])
    assert values(samples, seconds, gpu="1", reason="sw_thermal") == pytest.approx([1e-6])
    assert not values(samples, seconds, gpu="1", reason="hw_thermal")


async def test_the_rest_of_the_board(gpu: Gpu) -> None:
    samples = await gpu.collect()
    assert values(samples, "gpu_recovery_action") == [2]
    assert values(samples, "gpu_fan_speed_ratio", gpu="0", fan="0") == [0.45]
    assert values(samples, "gpu_pcie_link_generation") == [4, 4]
    assert values(samples, "gpu_pcie_link_generation_max") == [5, 5]
    assert values(samples, "gpu_pcie_link_width") == [8, 8]
    assert values(samples, "gpu_pcie_link_width_max") == [16, 16]
    assert values(samples, "DCGM_FI_DEV_RETIRED_PENDING") == [31, 31]
    assert values(samples, "DCGM_FI_DEV_VGPU_LICENSE_STATUS", gpu="1") == [1]
    assert not values(samples, "DCGM_FI_DEV_VGPU_LICENSE_STATUS", gpu="0")
    assert values(samples, "gpu_fabric_state") == [3]
    told = {dict(s.labels)["reason"]: s.value for s in samples if "unhealthy" in s.family.name}
    assert told == {
        "registration": 0,
        "degraded_bandwidth": 1,
        "route_recovery": 0,
        "route_unhealthy": 0,
        "incorrect_configuration": 1,
    }


async def test_pcie_without_gpm_by_the_call_that_waits_or_by_counters(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    sent = "DCGM_FI_PROF_PCIE_TX_BYTES"
    assert not values(await gpu.collect(), sent, gpu="1")
    await until(lambda samples: values(samples, sent, gpu="1") == [100_000], gpu, now)
    await until(
        lambda samples: values(samples, "DCGM_FI_PROF_PCIE_RX_BYTES", gpu="1") == [101_000],
        gpu,
        now,
    )
    fake.fail("nvmlGpmQueryDeviceSupport", fake.nvml.NVML_ERROR_NOT_SUPPORTED)
    counting = Gpu(fake.nvml, now)
    try:
        assert values(await second_round(counting, now), sent, gpu="0") == [0]  # bytes that rest
    finally:
        fake.fail("nvmlGpmQueryDeviceSupport", 0)
        counting.close()


async def test_a_call_that_waits_and_hangs_costs_its_throughput_alone(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    fake.hang("nvmlDeviceGetPcieThroughput")
    try:
        for _ in range(3):
            now.seconds += 1
            samples = await gpu.collect()
            assert values(samples, "DCGM_FI_DEV_GPU_TEMP") == [61, 62]
            assert not values(samples, "DCGM_FI_PROF_PCIE_TX_BYTES", gpu="1")
    finally:
        fake.hang("nvmlDeviceGetPcieThroughput", on=False)


async def test_what_a_process_uses_with_its_group(gpu: Gpu) -> None:
    samples = await gpu.collect()
    named = {"gpu": "0", "pid": "4711", "groupname": "vllm"}
    assert values(samples, "gpu_process_memory_bytes", **named) == [2**34]
    assert values(samples, "gpu_process_sm_utilization_ratio", **named) == [0.4]  # the newest
    nameless = [s for s in samples if ("pid", "815") in s.labels]
    assert [s.value for s in nameless] == [0.1, 0.1]
    assert "groupname" not in dict(nameless[0].labels)


async def test_names_that_cannot_be_read_keep_nothing_else(fake: FakeNvml, now: Now) -> None:
    released = Event()

    def hang(pid: int) -> str:
        released.wait(60)
        return "late"

    gpu = Gpu(fake.nvml, now, name_of=hang)
    try:
        for _ in range(2):
            samples = await gpu.collect()
            assert values(samples, "gpu_process_memory_bytes", pid="4711") == [2**34] * 2
            assert not values(samples, "gpu_process_memory_bytes", groupname="late")
        released.set()
        used = "gpu_process_memory_bytes"
        await until(lambda samples: values(samples, used, groupname="late"), gpu, now)
    finally:
        released.set()
        gpu.close()


def test_the_group_of_a_process_is_the_configured_one_then_the_usual_then_its_name(
    tmp_path: Path,
) -> None:
    for pid, comm, line in (
        (1, "trainer", "python train.py"),
        (2, "VLLM::Worker", "VLLM::Worker_TP0"),
        (3, "python3", "python3 other.py"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({comm}) S 1")
        (tmp_path / str(pid) / "cmdline").write_text(line.replace(" ", "\0"))
    host = Host(lambda: NOW, proc=tmp_path, process_groups={"mine": by_comm("trainer")})
    assert [group_names(host)(pid) for pid in (1, 2, 3, 4)] == ["mine", "vllm", "python3", ""]


async def test_the_host_is_a_label_of_dcgms_names_alone(gpu: Gpu) -> None:
    samples = await gpu.collect()
    named = {s.family.name for s in samples if ("Hostname", "node-7") in s.labels}
    assert named == {s.family.name for s in samples if s.family.name.startswith("DCGM_")}
    for sample in samples:
        assert {name for name, _ in sample.labels} <= set(GPU.labels[sample.family.name])


async def test_xid_errors_in_the_window(gpu: Gpu, now: Now) -> None:
    uuid = "GPU-11111111-0000-0000-0000-000000000000"
    for xid in (31, 31, 79):
        gpu.xid.record(uuid, xid)
    counted = {"gpu": "0", "window_size_in_ms": "300000"}
    samples = await gpu.collect()
    assert values(samples, "DCGM_EXP_XID_ERRORS_COUNT", xid="31", **counted) == [2]
    assert len(values(samples, "DCGM_EXP_XID_ERRORS_COUNT")) == 2
    now.seconds += 300
    assert not values(await gpu.collect(), "DCGM_EXP_XID_ERRORS_COUNT")


async def test_a_gpu_that_is_lost_in_a_field_is_lost_and_is_profiled_anew(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    await second_round(gpu, now)
    fake.fail("nvmlDeviceGetNvLinkState", fake.nvml.NVML_ERROR_GPU_IS_LOST, gpu=0)
    try:
        with pytest.raises(CollectorError, match="GPU 0: GPU is lost"):
            await gpu.collect()
    finally:
        fake.fail("nvmlDeviceGetNvLinkState", 0, gpu=0)
    now.seconds += 1
    assert not values(await gpu.collect(), "DCGM_FI_PROF_SM_ACTIVE", gpu="0")
    now.seconds += 1
    assert values(await gpu.collect(), "DCGM_FI_PROF_SM_ACTIVE", gpu="0")


async def test_a_call_that_is_not_there_is_asked_again_rarely(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    up = "gpu_nvlink_up"
    fake.fail("nvmlDeviceGetNvLinkState", fake.nvml.NVML_ERROR_NOT_SUPPORTED, gpu=0)
    assert not values(await gpu.collect(), up)
    fake.fail("nvmlDeviceGetNvLinkState", 0, gpu=0)
    assert not values(await gpu.collect(), up)
    now.seconds += ASK_AGAIN_SECONDS
    assert values(await gpu.collect(), up) == [1, 0]


def test_a_call_aside_that_fails_is_made_again() -> None:
    aside: Aside[int] = Aside("test", patience=10)
    answers = iter([OSError("no"), None])

    def call() -> int:
        if (error := next(answers)) is not None:
            raise error
        return 7

    assert [aside.ask(call), aside.ask(call)] == [None, 7]
    aside.close()
