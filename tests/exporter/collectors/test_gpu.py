"""The GPU collector through the real pynvml, against a small libnvidia-ml compiled from C."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from support.exhausted import no_threads
from support.fake_nvml import FakeNvml
from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.collector import CollectorError, Unavailable, Unread
from tocsin_exporter.collectors.gpu import Gpu, kernels_gpus
from tocsin_exporter.collectors.nvml_query import ASK_AGAIN_SECONDS
from tocsin_exporter.snapshot import Sample


class Now:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def fake() -> FakeNvml:
    return FakeNvml()


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def gpu(fake: FakeNvml, now: Now) -> AsyncIterator[Gpu]:
    collector = Gpu(fake.nvml, now, device_seconds=0.3)
    yield collector
    collector.close()


def values(samples: Sequence[Sample], family: str, **labels: str) -> list[float]:
    wanted = set(labels.items())
    return [s.value for s in samples if s.family.name == family and wanted <= set(s.labels)]


# What the C library answers, in DCGM's units.
EXPECTED = {
    "DCGM_FI_DEV_SM_CLOCK": 1980,
    "DCGM_FI_DEV_MEM_CLOCK": 2619,
    "DCGM_FI_DEV_MEMORY_TEMP": 54,
    "DCGM_FI_DEV_POWER_USAGE": 631.95,
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": 700,
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": 690,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 123456789,
    "DCGM_FI_DEV_GPU_UTIL": 87,
    "DCGM_FI_DEV_MEM_COPY_UTIL": 11,
    "DCGM_FI_DEV_ENC_UTIL": 3,
    "DCGM_FI_DEV_DEC_UTIL": 5,
    "DCGM_FI_DEV_FB_TOTAL": 85520809984 / 2**20,
    "DCGM_FI_DEV_FB_USED": 20780679168 / 2**20,
    "DCGM_FI_DEV_FB_RESERVED": 502267904 / 2**20,
    "DCGM_FI_DEV_FB_USED_PERCENT": 20780679168 / (85520809984 - 502267904),
    "gpu_memory_used_ratio": 20780679168 / (85520809984 - 502267904),
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 68,
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 4,
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": 0,
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": 1,
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 10,
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": 11,
    "DCGM_FI_DEV_THERMAL_VIOLATION": 1000,
    "DCGM_FI_DEV_RELIABILITY_VIOLATION": 5000,
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 1,
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 2,
    "DCGM_FI_DEV_ROW_REMAP_PENDING": 0,
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": 1,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "gpu_performance_state": 2,
}


async def test_every_value_comes_through_in_dcgms_unit(gpu: Gpu) -> None:
    samples = await gpu.collect()
    first = {s.family.name: s.value for s in samples if ("gpu", "0") in s.labels}
    assert {name: first[name] for name in EXPECTED} == pytest.approx(EXPECTED)
    assert values(samples, "DCGM_FI_DEV_GPU_TEMP") == [61, 62]
    assert values(samples, "gpu_devices") == [2]


async def test_the_labels_are_dcgms_and_every_label_is_in_the_catalogue(gpu: Gpu) -> None:
    samples = await gpu.collect()
    temperature = next(s for s in samples if s.family.name == "DCGM_FI_DEV_GPU_TEMP")
    assert dict(temperature.labels) == {
        "gpu": "0",
        "UUID": "GPU-11111111-0000-0000-0000-000000000000",
        "pci_bus_id": "00000000:00:09.0",
        "device": "nvidia0",
        "modelName": "NVIDIA H100 80GB HBM3",
        "DCGM_FI_DRIVER_VERSION": "590.48.01",
    }
    for sample in samples:
        assert {name for name, _ in sample.labels} <= set(GPU.labels[sample.family.name])


async def test_throttle_reasons_are_a_series_each(gpu: Gpu) -> None:
    samples = await gpu.collect()
    assert values(samples, "gpu_throttle_active", gpu="0", reason="power_cap") == [1]
    assert values(samples, "gpu_throttle_active", gpu="0", reason="hw_thermal") == [1]
    assert values(samples, "gpu_throttle_active", gpu="0", reason="gpu_idle") == [0]


async def test_a_process_whose_memory_the_driver_does_not_tell_has_no_series(gpu: Gpu) -> None:
    samples = await gpu.collect()
    assert values(samples, "gpu_process_memory_bytes", gpu="0", pid="4711") == [2**34]
    assert values(samples, "gpu_process_memory_bytes", pid="815") == []


async def test_what_is_not_supported_is_absent_and_asked_again_rarely(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    fake.fail("nvmlDeviceGetTemperature", fake.nvml.NVML_ERROR_NOT_SUPPORTED, gpu=1)
    assert values(await gpu.collect(), "DCGM_FI_DEV_GPU_TEMP") == [61]
    fake.fail("nvmlDeviceGetTemperature", 0, gpu=1)
    assert values(await gpu.collect(), "DCGM_FI_DEV_GPU_TEMP") == [61]
    now.seconds += ASK_AGAIN_SECONDS
    assert values(await gpu.collect(), "DCGM_FI_DEV_GPU_TEMP") == [61, 62]


async def test_any_other_error_costs_one_reading_of_one_round(gpu: Gpu, fake: FakeNvml) -> None:
    for code in (1, 2, 4, 6, 8, 10, 11, 14, 16, 18, 20, 999):
        if code == fake.nvml.NVML_ERROR_UNINITIALIZED:
            continue
        fake.fail("nvmlDeviceGetPowerUsage", code)
        samples = await gpu.collect()
        assert values(samples, "DCGM_FI_DEV_POWER_USAGE") == [], code
        assert values(samples, "gpu_devices") == [2]
    fake.fail("nvmlDeviceGetPowerUsage", 0)
    assert len(values(await gpu.collect(), "DCGM_FI_DEV_POWER_USAGE")) == 2


async def test_a_lost_gpu_is_reported_with_the_others_and_comes_back(
    gpu: Gpu, fake: FakeNvml
) -> None:
    await gpu.collect()
    fake.fail("nvmlDeviceGetUtilizationRates", fake.nvml.NVML_ERROR_GPU_IS_LOST, gpu=1)
    with pytest.raises(CollectorError, match="GPU 1: GPU is lost") as lost:
        await gpu.collect()
    assert values(lost.value.samples, "DCGM_FI_DEV_GPU_TEMP") == [61]
    assert values(lost.value.samples, "gpu_devices") == [1]
    assert values(lost.value.samples, "gpu_devices_expected") == [2]
    fake.fail("nvmlDeviceGetUtilizationRates", 0, gpu=1)
    assert values(await gpu.collect(), "DCGM_FI_DEV_GPU_TEMP") == [61, 62]


async def test_a_call_that_hangs_costs_its_own_gpu_only(gpu: Gpu, fake: FakeNvml) -> None:
    await gpu.collect()
    fake.hang("nvmlDeviceGetTemperature", gpu=0)
    try:
        for words in ("GPU 0 does not answer", "GPU 0 still does not answer"):
            with pytest.raises(CollectorError, match=words) as hung:
                await gpu.collect()
            assert values(hung.value.samples, "DCGM_FI_DEV_GPU_TEMP") == [62]
    finally:
        fake.hang("nvmlDeviceGetTemperature", on=False, gpu=0)
    async with asyncio.timeout(5):
        while True:
            try:
                samples = await gpu.collect()
                break
            except CollectorError:
                await asyncio.sleep(0.01)
    assert values(samples, "DCGM_FI_DEV_GPU_TEMP") == [61, 62]


async def test_without_a_gpu_it_says_so_and_does_not_ask_every_second(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    fake.fail("nvmlInitWithFlags", fake.nvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with pytest.raises(Unavailable, match="Driver Not Loaded"):
        await gpu.collect()
    fake.fail("nvmlInitWithFlags", 0)
    with pytest.raises(Unavailable):
        await gpu.collect()
    now.seconds += ASK_AGAIN_SECONDS
    assert values(await gpu.collect(), "gpu_devices") == [2]


async def test_xid_errors_are_counted_and_the_critical_ones_exist_before_they_happen(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    before = fake.event_sets()
    samples = await gpu.collect()
    assert values(samples, "gpu_xid_errors_total", gpu="0", xid="79") == [0]
    assert values(samples, "gpu_xid_last_timestamp_seconds") == []
    async with asyncio.timeout(5):
        while fake.event_sets() == before:  # nobody listens yet
            await asyncio.sleep(0.01)
    fake.xid(0, 79)
    async with asyncio.timeout(5):
        while values(samples, "gpu_xid_errors_total", gpu="0", xid="79") != [1]:
            await asyncio.sleep(0.01)
            samples = await gpu.collect()
    assert values(samples, "DCGM_FI_DEV_XID_ERRORS", gpu="0") == [79]
    assert values(samples, "gpu_xid_errors_total", gpu="1", xid="79") == [0]
    assert values(samples, "gpu_xid_last_timestamp_seconds", gpu="0", xid="79") == [now()]


# What each call fills; a driver without a value says so bit by bit, without an error.
FILLS = {
    "nvmlDeviceGetClockInfo": {"DCGM_FI_DEV_SM_CLOCK", "DCGM_FI_DEV_MEM_CLOCK"},
    "nvmlDeviceGetTemperature": {"DCGM_FI_DEV_GPU_TEMP"},
    "nvmlDeviceGetFieldValues": {
        *("DCGM_FI_DEV_MEMORY_TEMP", "gpu_recovery_action", "gpu_nvlink_errors_total"),
        *(f"DCGM_FI_DEV_RETIRED_{kind}" for kind in ("SBE", "DBE", "PENDING")),
        *(name for name in GPU if name.startswith("DCGM_FI_DEV_NVLINK_")),
        *(f"gpu_{way}_bytes_total" for way in ("pcie_transmit", "pcie_receive")),
        *(f"gpu_{way}_bytes_total" for way in ("nvlink_transmit", "nvlink_receive")),
    },
    "nvmlDeviceGetNvLinkState": {
        *("gpu_nvlink_up", "gpu_nvlink_errors_total"),
        *(f"gpu_{way}_bytes_total" for way in ("nvlink_transmit", "nvlink_receive")),
    },
    "nvmlDeviceGetNumFans": {"gpu_fan_speed_ratio"},
    "nvmlDeviceGetFanSpeed_v2": {"gpu_fan_speed_ratio"},
    "nvmlDeviceGetCurrPcieLinkGeneration": {"gpu_pcie_link_generation"},
    "nvmlDeviceGetMaxPcieLinkWidth": {"gpu_pcie_link_width_max"},
    "nvmlDeviceGetPowerUsage": {"DCGM_FI_DEV_POWER_USAGE"},
    "nvmlDeviceGetPowerManagementLimit": {"DCGM_FI_DEV_POWER_MGMT_LIMIT"},
    "nvmlDeviceGetEnforcedPowerLimit": {"DCGM_FI_DEV_ENFORCED_POWER_LIMIT"},
    "nvmlDeviceGetTotalEnergyConsumption": {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"},
    "nvmlDeviceGetUtilizationRates": {"DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_MEM_COPY_UTIL"},
    "nvmlDeviceGetEncoderUtilization": {"DCGM_FI_DEV_ENC_UTIL"},
    "nvmlDeviceGetDecoderUtilization": {"DCGM_FI_DEV_DEC_UTIL"},
    "nvmlDeviceGetMemoryInfo_v2": {name for name in GPU if "_FB_" in name}
    | {"gpu_memory_used_ratio"},
    "nvmlDeviceGetCurrentClocksEventReasons": {
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "gpu_throttle_active",
    },
    "nvmlDeviceGetPcieReplayCounter": {"DCGM_FI_DEV_PCIE_REPLAY_COUNTER"},
    "nvmlDeviceGetPerformanceState": {"gpu_performance_state"},
    "nvmlDeviceGetRemappedRows": {"DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"},
    "nvmlDeviceGetTotalEccErrors": {name for name in GPU if "_ECC_" in name},
    "nvmlDeviceGetViolationStatus": {name for name in GPU if name.endswith("_VIOLATION")},
    "nvmlDeviceGetComputeRunningProcesses_v3": {"gpu_process_memory_bytes"},
}


@pytest.mark.parametrize("function", FILLS)
async def test_a_value_that_is_not_available_is_absent_and_the_others_stay(
    gpu: Gpu, fake: FakeNvml, function: str
) -> None:
    before = {sample.family.name for sample in await gpu.collect()}
    fake.blank(function)
    try:
        samples = await gpu.collect()
    finally:
        fake.blank(function, on=False)
    assert before - {sample.family.name for sample in samples} == FILLS[function]
    assert max(sample.value for sample in samples) < 2**37


async def test_a_count_that_is_not_available_is_a_failure(gpu: Gpu, fake: FakeNvml) -> None:
    fake.blank("nvmlDeviceGetCount_v2")
    try:
        with pytest.raises(CollectorError):
            await gpu.collect()
    finally:
        fake.blank("nvmlDeviceGetCount_v2", on=False)


async def test_the_device_is_named_by_its_minor_number(gpu: Gpu, fake: FakeNvml) -> None:
    fake.minor(0, 1)
    fake.minor(1, 0)
    try:
        samples = await gpu.collect()
    finally:
        fake.minor(0, 0)
        fake.minor(1, 1)
    assert values(samples, "DCGM_FI_DEV_GPU_TEMP", gpu="1", device="nvidia0") == [62]
    assert values(samples, "DCGM_FI_DEV_GPU_TEMP", gpu="0", device="nvidia1") == [61]


async def test_without_a_minor_number_the_index_names_the_device(gpu: Gpu, fake: FakeNvml) -> None:
    fake.blank("nvmlDeviceGetMinorNumber")
    fake.blank("nvmlDeviceGetCudaComputeCapability")
    try:
        samples = await gpu.collect()
    finally:
        fake.blank("nvmlDeviceGetMinorNumber", on=False)
        fake.blank("nvmlDeviceGetCudaComputeCapability", on=False)
    assert values(samples, "DCGM_FI_DEV_GPU_TEMP", gpu="1", device="nvidia1") == [62]
    assert not [s for s in samples if "compute_cap" in dict(s.labels)]


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"])
async def test_a_gpu_that_hangs_from_the_start_is_counted_as_expected(
    gpu: Gpu, fake: FakeNvml, function: str
) -> None:
    fake.hang(function, gpu=0)
    try:
        with pytest.raises(CollectorError, match="GPU 0 does not answer") as hung:
            await gpu.collect()
    finally:
        fake.hang(function, on=False, gpu=0)
    assert values(hung.value.samples, "gpu_devices") == [1]
    assert values(hung.value.samples, "gpu_devices_expected") == [2]


async def test_a_gpu_that_is_lost_from_the_start_is_counted_as_expected(
    gpu: Gpu, fake: FakeNvml
) -> None:
    fake.fail("nvmlDeviceGetUUID", fake.nvml.NVML_ERROR_GPU_IS_LOST, gpu=1)
    try:
        with pytest.raises(CollectorError) as lost:
            await gpu.collect()
    finally:
        fake.fail("nvmlDeviceGetUUID", 0, gpu=1)
    assert values(lost.value.samples, "gpu_devices_expected") == [2]


@pytest.mark.parametrize(("listed", "expected"), [(0, 1), (4, 4)])
async def test_a_driver_that_hangs_from_the_start_has_the_gpus_that_the_kernel_lists(
    fake: FakeNvml, now: Now, listed: int, expected: int
) -> None:
    gpu = Gpu(fake.nvml, now, device_seconds=0.05, listed=lambda: listed)
    fake.hang("nvmlDeviceGetCount_v2")
    try:
        for _ in range(2):
            with pytest.raises(CollectorError, match="driver does not answer") as hung:
                await gpu.collect()
            assert values(hung.value.samples, "gpu_devices") == [0]
            assert values(hung.value.samples, "gpu_devices_expected") == [expected]
    finally:
        fake.hang("nvmlDeviceGetCount_v2", on=False)
        gpu.close()


async def test_a_configured_number_is_expected_whatever_is_counted(
    fake: FakeNvml, now: Now
) -> None:
    for number in (1, 3):
        gpu = Gpu(fake.nvml, now, expected=number)
        assert values(await gpu.collect(), "gpu_devices_expected") == [number]
        gpu.close()
    gpu = Gpu(fake.nvml, now, expected=3)
    fake.fail("nvmlInitWithFlags", fake.nvml.NVML_ERROR_DRIVER_NOT_LOADED)
    try:
        for _ in range(2):  # it is asked each time: it may come
            with pytest.raises(CollectorError, match="Driver Not Loaded") as missing:
                await gpu.collect()
            assert values(missing.value.samples, "gpu_devices") == [0]
    finally:
        fake.fail("nvmlInitWithFlags", 0)
    assert values(await gpu.collect(), "gpu_devices") == [2]
    gpu.close()


async def test_the_kernels_list_is_read(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)
    assert kernels_gpus(tmp_path) == 3
    assert kernels_gpus(tmp_path / "nowhere") == 0


async def test_the_errors_of_a_gpu_that_does_not_answer_are_said_still(
    gpu: Gpu, fake: FakeNvml, now: Now
) -> None:
    uuid = "GPU-22222222-0000-0000-0000-000000000001"
    before = await gpu.collect()
    gpu.xid.record(uuid, 79)
    fake.fail("nvmlDeviceGetUtilizationRates", fake.nvml.NVML_ERROR_GPU_IS_LOST, gpu=1)
    try:
        with pytest.raises(CollectorError) as lost:
            await gpu.collect()
        said = lost.value.samples
        assert values(said, "gpu_xid_last_timestamp_seconds", gpu="1", UUID=uuid) == [now()]
        assert values(said, "gpu_xid_errors_total", gpu="1", xid="79") == [1]
        labels = {s.labels for s in before if s.family.name == "gpu_xid_errors_total"}
        assert {s.labels for s in said if s.family.name == "gpu_xid_errors_total"} <= labels
        now.seconds += 86_400
        with pytest.raises(CollectorError) as replaced:
            await gpu.collect()
        assert not values(replaced.value.samples, "gpu_xid_errors_total", gpu="1")
    finally:
        fake.fail("nvmlDeviceGetUtilizationRates", 0, gpu=1)
    assert values(await gpu.collect(), "gpu_xid_errors_total", gpu="1", xid="79") == [1]


async def test_a_name_that_nobody_can_read_costs_its_own_gpu(gpu: Gpu, fake: FakeNvml) -> None:
    fake.blank("nvmlDeviceGetName")
    try:
        with pytest.raises(CollectorError, match="GPU 0: UnicodeDecodeError") as odd:
            await gpu.collect()
    finally:
        fake.blank("nvmlDeviceGetName", on=False)
    assert values(odd.value.samples, "DCGM_FI_DEV_GPU_TEMP") == [62]
    assert values(odd.value.samples, "gpu_devices_expected") == [2]


@pytest.mark.parametrize("trouble", ["hangs", "reports no events", "is lost"])
async def test_a_gpu_in_trouble_costs_no_other_its_xid_errors(
    gpu: Gpu, fake: FakeNvml, trouble: str
) -> None:
    nvml, register = fake.nvml, "nvmlDeviceRegisterEvents"
    if trouble == "hangs":
        fake.hang("nvmlDeviceGetHandleByIndex_v2", gpu=0)
    else:
        silent = trouble == "reports no events"
        code = nvml.NVML_ERROR_NOT_SUPPORTED if silent else nvml.NVML_ERROR_GPU_IS_LOST
        fake.fail(register, code, gpu=0)
    try:
        async with asyncio.timeout(10):
            sent = False
            while True:
                try:
                    samples = await gpu.collect()
                except CollectorError as error:
                    samples = error.samples
                if values(samples, "gpu_xid_errors_total", gpu="1", xid="48") == [1]:
                    break
                if not sent and 1 in gpu.xid.listening:
                    fake.xid(1, 48)
                    sent = True
                await asyncio.sleep(0.01)
        assert 1 not in values(samples, "gpu_xid_errors_total", gpu="0", xid="48")
    finally:
        fake.hang("nvmlDeviceGetHandleByIndex_v2", on=False, gpu=0)
        fake.fail(register, 0, gpu=0)


async def test_without_a_thread_of_ours_no_gpu_is_missing(gpu: Gpu) -> None:
    with no_threads(), pytest.raises(Unread, match="no thread for nvml") as driver:
        await gpu.collect()
    assert driver.value.samples == ()
    await gpu._driver.run(lambda: None)
    with no_threads(), pytest.raises(Unread, match="no thread for") as device:
        await gpu.collect()
    assert device.value.samples == ()
    assert values(await gpu.collect(), "gpu_devices") == [2]


async def test_without_a_thread_for_xid_events_the_gpu_is_read(gpu: Gpu) -> None:
    with no_threads():
        gpu.xid.listen(0)
    gpu.xid.listen(0)
    assert gpu.xid._thread is not None
