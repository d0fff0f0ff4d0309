"""Throttles, isolation and descriptions of CPUs, on a written machine."""

from pathlib import Path

import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.cpu_info import CpuFacts, cpu_list, cpuinfo
from tocsin_exporter.collectors.host import Host

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: 0x2b0004d0
cache size\t: 107520 KB
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu aes avx avx2 amx_tile
bugs\t\t: spectre_v1 mds

processor\t: 1
physical id\t: 1
core id\t\t: 4
power management:
"""


def machine(root: Path, *, now: list[float], settings: CollectorSettings) -> Host:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(CPUINFO)
    host = recorded_site(root, settings=settings)
    return Host(now=lambda: now[0], proc=host.proc, sys=host.sys, settings=settings)


def with_cpu(root: Path, cpu: int, *, package: int, core: int, throttled: str = "") -> Path:
    """One CPU of /sys, with counts of throttling where the processor has them."""
    directory = root / f"sys/devices/system/cpu/cpu{cpu}"
    (directory / "topology").mkdir(parents=True)
    (directory / "topology/physical_package_id").write_text(f"{package}\n")
    (directory / "topology/core_id").write_text(f"{core}\n")
    if throttled:
        (directory / "thermal_throttle").mkdir()
        (directory / "thermal_throttle/core_throttle_count").write_text(f"{throttled}\n")
        (directory / "thermal_throttle/package_throttle_count").write_text(f"{throttled}0\n")
    return directory


def test_a_core_and_a_package_are_counted_once(tmp_path: Path) -> None:
    with_cpu(tmp_path, 0, package=0, core=0, throttled="5")
    with_cpu(tmp_path, 1, package=0, core=0, throttled="6")
    with_cpu(tmp_path, 2, package=1, core=0, throttled="7")
    with_cpu(tmp_path, 10, package=1, core=3)
    facts = CpuFacts(machine(tmp_path, now=[0.0], settings=CollectorSettings()))
    rows = table(facts.samples())
    assert only(rows, "node_cpu_core_throttles_total", package="0", core="0") == 5
    assert only(rows, "node_cpu_core_throttles_total", package="1", core="0") == 7
    assert only(rows, "node_cpu_package_throttles_total", package="1") == 70
    assert len(rows) == 4


def test_they_are_read_anew_every_five_seconds(tmp_path: Path) -> None:
    count = with_cpu(tmp_path, 0, package=0, core=0, throttled="1")
    now = [100.0]
    facts = CpuFacts(machine(tmp_path, now=now, settings=CollectorSettings()))

    def throttled() -> float:
        return only(table(facts.samples()), "node_cpu_core_throttles_total")

    seen = [throttled()]
    (count / "thermal_throttle/core_throttle_count").write_text("2\n")
    for now[0] in (104.9, 105.0, 50.0):  # the last: a clock that was set back
        seen.append(throttled())
        (count / "thermal_throttle/core_throttle_count").write_text(f"{len(seen)}\n")
    assert seen == [1, 1, 2, 3]


def test_isolated_cpus_are_listed(tmp_path: Path) -> None:
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/isolated").write_text("1,3-5\n")
    facts = CpuFacts(machine(tmp_path, now=[0.0], settings=CollectorSettings()))
    assert {dict(s.labels)["cpu"] for s in facts.samples()} == {"1", "3", "4", "5"}


@pytest.mark.parametrize(("said", "cpus"), [("", []), ("\n", []), ("7", [7]), ("0-2", [0, 1, 2])])
def test_a_list_of_cpus(said: str, cpus: list[int]) -> None:
    assert list(cpu_list(said)) == cpus


def test_processors_are_described_when_asked_for(tmp_path: Path) -> None:
    described = CollectorSettings(switches=frozenset({"cpu.info"}))
    rows = table(CpuFacts(machine(tmp_path, now=[0.0], settings=described)).samples())
    assert only(rows, "node_cpu_info", cpu="1", core="4", package="1") == 1
    of_first = {"vendor": "GenuineIntel", "family": "6", "model": "143", "stepping": "8"}
    of_first |= {"microcode": "0x2b0004d0", "cachesize": "107520 KB"}
    assert only(rows, "node_cpu_info", model_name="Intel(R) Xeon(R) Platinum 8480+", **of_first)
    assert len(rows) == 2


def test_a_pattern_shows_flags_and_bugs_of_the_first(tmp_path: Path) -> None:
    patterns = {"cpu.info.flags-include": "^avx", "cpu.info.bugs-include": "."}
    asked = CollectorSettings(patterns)
    rows = table(CpuFacts(machine(tmp_path, now=[0.0], settings=asked)).samples())
    assert {labels[0][1] for name, labels in rows if name == "node_cpu_flag_info"} == {
        *("avx", "avx2")
    }
    assert {labels[0][1] for name, labels in rows if name == "node_cpu_bug_info"} == {
        *("spectre_v1", "mds")
    }


def test_a_paragraph_without_a_processor_is_none() -> None:
    assert list(cpuinfo("Hardware : BCM2835\nRevision : a02082\n")) == []
