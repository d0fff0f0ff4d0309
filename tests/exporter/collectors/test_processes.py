"""Watched groups: who belongs to one, and what stays when its processes have gone."""

import re
import shutil
from pathlib import Path

import pytest

from support.site import RECORDED, only, recorded_site, table
from tocsin_exporter.collectors.processes import Processes
from tocsin_exporter.collectors.site import PROCESS_GROUPS

GROUP = "namedprocess_namegroup_"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED / "proc", tmp_path / "proc")
    return tmp_path


def use(machine: Path, pid: int, user_ticks: int, started: int | None = None) -> None:
    """Give a recorded process another CPU time, and another start: then it is another process."""
    path = machine / "proc" / str(pid) / "stat"
    before, _, after = path.read_text().rpartition(") ")
    fields = after.split()
    fields[11] = str(user_ticks)
    fields[19] = str(started) if started is not None else fields[19]
    path.write_text(f"{before}) {' '.join(fields)}\n")


async def test_engines_are_known_by_name_or_command_line() -> None:
    rows = table(await Processes(recorded_site()).collect())
    assert only(rows, GROUP + "num_procs", groupname="vllm") == 2
    assert only(rows, GROUP + "num_procs", groupname="llama-server") == 1
    assert only(rows, GROUP + "num_procs", groupname="sglang") == 0
    assert only(rows, GROUP + "num_threads", groupname="vllm") == 28
    assert only(rows, GROUP + "cpu_seconds_total", groupname="vllm", mode="user") == 13
    assert only(rows, GROUP + "memory_bytes", groupname="vllm", memtype="virtual") == 2 * 104857600
    assert only(rows, GROUP + "memory_bytes", groupname="vllm", memtype="swapped") == 2 * 8192
    assert only(rows, GROUP + "states", groupname="llama-server", state="Waiting") == 1
    assert only(rows, GROUP + "oldest_start_time_seconds", groupname="vllm") == 1795254402 + 40
    assert only(rows, GROUP + "open_filedesc", groupname="vllm") == 6
    assert only(rows, GROUP + "worst_fd_ratio", groupname="vllm") == 3 / 1024
    assert only(rows, GROUP + "write_bytes_total", groupname="vllm") == 2 * 8192


async def test_a_group_stays_when_its_processes_have_gone_and_no_counter_falls(
    machine: Path,
) -> None:
    collector = Processes(recorded_site(machine))
    before = table(await collector.collect())
    for pid in (4242, 4243):
        shutil.rmtree(machine / "proc" / str(pid))
    after = table(await collector.collect())
    assert only(after, GROUP + "num_procs", groupname="vllm") == 0
    for (name, labels), value in before.items():
        if name.endswith("_total"):
            assert after[name, labels] >= value
    collector.close()


async def test_what_a_new_process_with_an_old_number_uses_is_added(machine: Path) -> None:
    collector = Processes(recorded_site(machine))
    await collector.collect()
    use(machine, 4242, user_ticks=1500)  # 5 s more
    more = table(await collector.collect())
    assert only(more, GROUP + "cpu_seconds_total", groupname="vllm", mode="user") == 18
    use(machine, 4242, user_ticks=100, started=9999)  # it died, and its number was given again
    again = table(await collector.collect())
    assert only(again, GROUP + "cpu_seconds_total", groupname="vllm", mode="user") == 19
    collector.close()


@pytest.mark.parametrize(
    ("shown", "group"),
    [
        ("VLLM::EngineCor VLLM::EngineCore", "vllm"),
        ("vllm /opt/venv/bin/python /opt/venv/bin/vllm serve m --port 8000", "vllm"),
        ("python3 python3 -m vllm.entrypoints.openai.api_server", "vllm"),
        ("python3 python3 -m sglang.launch_server --model-path m", "sglang"),
        ("text-generation text-generation-launcher --model-id m", "tgi"),
        ("llama-server /usr/bin/llama-server -m x.gguf", "llama-server"),
        ("tocsin /v/bin/python /v/bin/tocsin up --load 2", "tocsin"),
        ("tocsin /v/bin/python /v/bin/tocsin worker", "tocsin-worker"),
        ("python /v/bin/python -m tocsin_inference", "tocsin-worker"),
        ("grep grep -r vllm", None),
        ("vim vim llama-server.service", None),
        ("pip pip install sglang", None),
    ],
)
def test_the_default_groups_know_engines_and_not_what_only_names_them(
    shown: str, group: str | None
) -> None:
    found = [name for name, pattern in PROCESS_GROUPS.items() if re.search(pattern, shown)]
    assert found == ([group] if group else [])


async def test_groups_are_configurable() -> None:
    site = recorded_site(process_groups={"odd": r"tricky\) name"})
    rows = table(await Processes(site).collect())
    assert only(rows, GROUP + "num_procs", groupname="odd") == 1
    assert only(rows, GROUP + "states", groupname="odd", state="Zombie") == 1
