"""Containers by their groups: what is one, and what is said of each, on written trees."""

import json
from pathlib import Path

import pytest

from support.site import NOW, only, table
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.containers import ContainerGroups, containers
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.snapshot import Labels

ID = "4f5c" * 16
OTHER = "0a1b" * 16
DOCKER = f"system.slice/docker-{ID}.scope"
FILES = {
    "cpu.stat": "usage_usec 7500000\nuser_usec 5000000\nsystem_usec 2500000\n"
    "nr_periods 40\nnr_throttled 4\nthrottled_usec 1500000\n",
    "cpu.max": "200000 100000\n",
    "memory.current": "1000000\n",
    "memory.peak": "1500000\n",
    "memory.swap.current": "4096\n",
    "memory.max": "8000000\n",
    "memory.stat": "anon 600000\nfile 300000\nfile_mapped 7\ninactive_file 250000\n"
    "pgfault 11\npgmajfault 2\n",
    "memory.events": "low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\n",
    "io.stat": "259:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=0 dios=0\n7:1 \n",
    "pids.current": "33\n",
    "pids.max": "max\n",
    "cgroup.procs": "10\n11\n12\n",
    "cpu.pressure": "some avg10=1.00 avg60=0.5 avg300=0.1 total=2500000\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n",
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    groups = tmp_path / "sys/fs/cgroup"
    groups.mkdir(parents=True)
    (groups / "cgroup.controllers").write_text("cpu io memory pids\n")
    devices = tmp_path / "sys/dev/block"
    devices.mkdir(parents=True)
    (devices / "259:0").symlink_to("../../devices/pci0000:00/nvme/nvme0/nvme0n1")
    return tmp_path


def run(machine: Path, group: str, **files: str) -> Path:
    """A group with those files, `_` in place of `.` in their names."""
    directory = machine / "sys/fs/cgroup" / group
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in {**FILES, **{k.replace("_", "."): v for k, v in files.items()}}.items():
        (directory / name).write_text(content)
    return directory


async def read(machine: Path, most: int = 500) -> dict[tuple[str, Labels], float]:
    collector = ContainerGroups(Host(now=lambda: NOW, sys=machine / "sys", root=machine), most)
    try:
        return table(await collector.collect())
    finally:
        collector.close()


async def test_a_container_in_cadvisors_words(machine: Path) -> None:
    run(machine, DOCKER)
    rows = await read(machine)
    of = {"id": f"/{DOCKER}", "name": ID}
    wanted = {
        "container_cpu_usage_seconds_total": 7.5,
        "container_cpu_user_seconds_total": 5.0,
        "container_cpu_system_seconds_total": 2.5,
        "container_cpu_cfs_periods_total": 40,
        "container_cpu_cfs_throttled_periods_total": 4,
        "container_cpu_cfs_throttled_seconds_total": 1.5,
        "container_spec_cpu_quota": 200000,
        "container_spec_cpu_period": 100000,
        "container_memory_usage_bytes": 1000000,
        "container_memory_max_usage_bytes": 1500000,
        "container_memory_working_set_bytes": 750000,
        "container_memory_rss": 600000,
        "container_memory_cache": 300000,
        "container_memory_mapped_file": 7,
        "container_memory_swap": 4096,
        "container_memory_failcnt": 5,
        "container_oom_events_total": 1,
        "container_spec_memory_limit_bytes": 8000000,
        "container_processes": 3,
        "container_threads": 33,
        "container_threads_max": 0,
        "container_last_seen": NOW,
        "container_pressure_cpu_waiting_seconds_total": 2.5,
        "container_pressure_cpu_stalled_seconds_total": 0.5,
    }
    assert {name: only(rows, name, **of) for name in wanted} == wanted
    of_disk = {**of, "device": "/dev/nvme0n1"}
    assert only(rows, "container_fs_reads_bytes_total", **of_disk) == 90430464
    assert only(rows, "container_fs_writes_total", **of_disk) == 1252
    faults = {**of, "failure_type": "pgmajfault", "scope": "container"}
    assert only(rows, "container_memory_failures_total", **faults) == 2
    assert only(rows, "container_cpu_usage_seconds_total", cpu="total") == 7.5
    assert len(rows) == len(wanted) + 4 + 2


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (f"docker/{ID}", ID),
        (f"system.slice/docker-{ID}.scope", ID),
        (
            f"kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
            ID,
        ),
        (f"kubepods/burstable/pod9f0c7a1e-6d2b/{ID}", ID),
        (f"kubepods.slice/kubepods-pod2.slice/crio-{ID}.scope", ID),
        (f"machine.slice/libpod-{ID}.scope", ID),
        (f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ID),
        (f"default/{ID}", ID),
        ("lxc.payload.web-1", "web-1"),
    ],
)
def test_each_runtimes_groups_are_known(machine: Path, group: str, name: str) -> None:
    root = machine / "sys/fs/cgroup"
    (root / group / "nested" / OTHER).mkdir(parents=True)
    assert list(containers(root)) == [(root / group, name)]


@pytest.mark.parametrize(
    "group",
    [
        *(f"machine.slice/libpod-conmon-{ID}.scope", f"system.slice/crio-conmon-{ID}.scope"),
        *("system.slice/docker.service", "system.slice/docker-4f5c.scope", "init.scope"),
    ],
)
def test_what_stands_beside_them_is_none(machine: Path, group: str) -> None:
    root = machine / "sys/fs/cgroup"
    (root / group).mkdir(parents=True)
    assert list(containers(root)) == []


async def test_docker_says_its_name_and_image(machine: Path) -> None:
    run(machine, DOCKER)
    run(machine, f"system.slice/docker-{OTHER}.scope")
    for number, content in ((ID, {"Name": "/vllm", "Config": {"Image": "vllm:0.11"}}), (OTHER, [])):
        directory = machine / "var/lib/docker/containers" / number
        directory.mkdir(parents=True)
        (directory / "config.v2.json").write_text(json.dumps(content))
    rows = await read(machine)
    assert only(rows, "container_processes", name="vllm", image="vllm:0.11") == 3
    assert only(rows, "container_processes", name=OTHER) == 3


async def test_without_limits_there_is_no_quota_and_nothing_throttled(machine: Path) -> None:
    run(
        machine,
        DOCKER,
        **{"cpu_max": "max 100000\n", "memory_max": "max\n"},
        cpu_stat="usage_usec 1\nuser_usec 1\nsystem_usec 0\nnr_periods 0\nnr_throttled 0\n",
    )
    rows = await read(machine)
    assert only(rows, "container_spec_memory_limit_bytes") == 0
    assert not {name for name, _ in rows} & {
        *("container_spec_cpu_quota", "container_cpu_cfs_periods_total"),
    }


async def test_a_controller_that_is_off_costs_its_own_metrics(machine: Path) -> None:
    group = run(machine, DOCKER)
    for file in ("memory.current", "io.stat", "cpu.pressure", "pids.current"):
        (group / file).unlink()
    (group / "memory.stat").write_text("anon many\nfile 5\n")
    rows = await read(machine)
    names = {name for name, _ in rows}
    assert {"container_cpu_usage_seconds_total", "container_memory_cache"} <= names
    assert not names & {"container_memory_usage_bytes", "container_memory_rss"}


async def test_more_containers_than_are_shown_are_an_error(machine: Path) -> None:
    run(machine, DOCKER)
    run(machine, f"system.slice/docker-{OTHER}.scope")
    with pytest.raises(CollectorError, match="2 containers, of which 1 are shown") as error:
        await read(machine, most=1)
    assert {dict(sample.labels)["name"] for sample in error.value.samples} == {OTHER}


async def test_cgroups_of_version_1_have_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no cgroups v2"):
        await read(tmp_path)


async def test_without_containers_nothing_is_said(machine: Path) -> None:
    assert await read(machine) == {}
