"""The catalogue against the conventions that its users' tools hold it to."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tocsin_exporter.catalogue import GPU, HOST, LLM, NETWORK, OWN, TABLES
from tocsin_exporter.catalogue.llm import FIRST_TOKEN, ITERATION_TOKENS, LATENCY, PER_TOKEN, TOKENS
from tocsin_exporter.catalogue.markdown import document
from tocsin_exporter.catalogue.own import SCRAPE_SECONDS
from tocsin_exporter.catalogue.table import OpenRow, Table, counter

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ALL = [(table, family) for table in TABLES.values() for family in table.values()]

# The bounds of vLLM 0.33, vllm/v1/metrics/buckets.py; OpenTelemetry's are among them.
VLLM_LATENCY = "0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"
VLLM_FIRST_TOKEN = (
    "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
)
VLLM_PER_TOKEN = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80"


def test_no_family_is_in_two_tables() -> None:
    names = [family.name for _, family in ALL]
    assert len(names) == len(set(names))


def test_a_table_refuses_a_family_twice() -> None:
    with pytest.raises(ValueError, match="a_total is in the table twice"):
        Table((counter("a_total", "A."), counter("a_total", "A.")))


def test_names_labels_and_helps_are_legal() -> None:
    for table, family in ALL:
        assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", family.name)
        assert family.help and "\n" not in family.help
        for label in table.labels[family.name]:
            assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", label)
            assert label not in {"job", "instance", "le", "quantile"} or family.name.startswith(
                "tocsin_"
            )


def test_our_own_names_keep_prometheus_rules() -> None:
    for table in (OWN, LLM):
        for family in table.values():
            assert (family.type == "counter") == family.name.endswith("_total"), family.name
            if family.unit in {"seconds", "bytes", "ratio"}:
                assert family.name.removesuffix("_total").endswith("_" + family.unit)


def test_every_engine_metric_names_its_target() -> None:
    for family in LLM.values():
        assert "target" in LLM.labels[family.name]


def test_dcgms_names_carry_its_labels_and_no_total() -> None:
    for name in GPU:
        if name.startswith("DCGM_"):
            assert GPU.labels[name][:5] == ("gpu", "UUID", "pci_bus_id", "device", "modelName")
            assert not name.endswith("_total")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(LATENCY, VLLM_LATENCY), (FIRST_TOKEN, VLLM_FIRST_TOKEN), (PER_TOKEN, VLLM_PER_TOKEN)],
)
def test_our_buckets_contain_vllms(ours: tuple[float, ...], theirs: str) -> None:
    assert {float(bound) for bound in theirs.split()} <= set(ours)


def test_buckets_ascend() -> None:
    for bounds in (LATENCY, FIRST_TOKEN, PER_TOKEN, TOKENS, ITERATION_TOKENS, SCRAPE_SECONDS):
        assert all(lower < upper for lower, upper in pairwise(bounds))


def test_an_open_row_gives_one_family_for_one_field() -> None:
    row = OpenRow("node_netstat_{}_{}", "untyped", "Statistic {}{}.")
    family = row.family("Tcp", "InSegs")
    assert (family.name, family.help) == ("node_netstat_Tcp_InSegs", "Statistic TcpInSegs.")
    assert row.family("Tcp", "InSegs") is family


def test_the_families_that_dashboards_ask_for_are_there() -> None:
    """The three top rows of dashboard 1860, and the six names of 12239 that NVML can give."""
    for name in ("node_boot_time_seconds", "node_cpu_guest_seconds_total", "node_load1"):
        assert name in HOST
    assert "node_network_speed_bytes" in NETWORK
    for name in ("GPU_TEMP", "POWER_USAGE", "SM_CLOCK", "GPU_UTIL", "FB_USED"):
        assert f"DCGM_FI_DEV_{name}" in GPU


# dcgm-exporter's etc/default-counters.csv, releases 3 and 4, with what it has commented out there.
DCGM_EXPORTERS = """
DEV_SM_CLOCK DEV_MEM_CLOCK DEV_MEMORY_TEMP DEV_GPU_TEMP DEV_POWER_USAGE DEV_TOTAL_ENERGY_CONSUMPTION
DEV_PCIE_TX_THROUGHPUT DEV_PCIE_RX_THROUGHPUT DEV_PCIE_REPLAY_COUNTER DEV_GPU_UTIL DEV_MEM_COPY_UTIL
DEV_ENC_UTIL DEV_DEC_UTIL DEV_XID_ERRORS DEV_POWER_VIOLATION DEV_THERMAL_VIOLATION
DEV_SYNC_BOOST_VIOLATION DEV_BOARD_LIMIT_VIOLATION DEV_LOW_UTIL_VIOLATION DEV_RELIABILITY_VIOLATION
DEV_FB_FREE DEV_FB_USED DEV_FB_RESERVED DEV_FB_TOTAL DEV_FB_USED_PERCENT DEV_ECC_SBE_VOL_TOTAL
DEV_ECC_DBE_VOL_TOTAL DEV_ECC_SBE_AGG_TOTAL DEV_ECC_DBE_AGG_TOTAL DEV_RETIRED_SBE DEV_RETIRED_DBE
DEV_RETIRED_PENDING DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL
DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL DEV_NVLINK_BANDWIDTH_TOTAL
DEV_VGPU_LICENSE_STATUS DEV_UNCORRECTABLE_REMAPPED_ROWS DEV_CORRECTABLE_REMAPPED_ROWS
DEV_ROW_REMAP_FAILURE DEV_ROW_REMAP_PENDING DEV_POWER_MGMT_LIMIT DEV_ENFORCED_POWER_LIMIT
DEV_CLOCKS_EVENT_REASONS PROF_GR_ENGINE_ACTIVE PROF_SM_ACTIVE PROF_SM_OCCUPANCY
PROF_PIPE_TENSOR_ACTIVE PROF_DRAM_ACTIVE PROF_PIPE_FP64_ACTIVE PROF_PIPE_FP32_ACTIVE
PROF_PIPE_FP16_ACTIVE PROF_PCIE_TX_BYTES PROF_PCIE_RX_BYTES PROF_NVLINK_TX_BYTES
PROF_NVLINK_RX_BYTES
""".split()
EXPORTERS_OWN = "XID_ERRORS_COUNT CLOCK_EVENTS_COUNT GPU_HEALTH_STATUS P2P_STATUS".split()


def test_each_name_of_dcgm_exporter_is_there_or_the_page_says_why_not() -> None:
    page = DOCUMENT.with_name("exporter.md").read_text()
    names = [f"DCGM_FI_{name}" for name in DCGM_EXPORTERS]
    names += [f"DCGM_EXP_{name}" for name in EXPORTERS_OWN]
    missing = {name for name in names if name not in GPU}
    excused = set(re.findall(r"`(DCGM_\w+)`", page.partition("why it is not there")[2]))
    assert missing <= excused
    assert len(missing) == 6


def test_the_document_agrees() -> None:
    assert DOCUMENT.read_text() == document(), (
        "write it again: python -m tocsin_exporter.catalogue.markdown > docs/metrics.md"
    )
