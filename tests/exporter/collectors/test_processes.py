"""Watched groups: who belongs to one, and what stays when its processes have gone."""

import shutil
from pathlib import Path

import pytest

from support.site import NOW, RECORDED, only, recorded_site, table
from tocsin_exporter.collectors.processes import Processes
from tocsin_exporter.collectors.program import by_comm
from tocsin_exporter.snapshot import LastSample

GROUP = "namedprocess_namegroup_"
BOOT = 1795254402
LAST_SEEN = "tocsin_process_group_last_seen_timestamp_seconds"


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


async def test_groups_are_configurable_and_win_over_the_usual_ones_of_the_same_name() -> None:
    own = {"odd": by_comm("tricky) name"), "vllm": by_comm("llama-server")}
    rows = table(await Processes(recorded_site(process_groups=own)).collect())
    assert only(rows, GROUP + "num_procs", groupname="odd") == 1
    assert only(rows, GROUP + "states", groupname="odd", state="Zombie") == 1
    assert only(rows, GROUP + "num_procs", groupname="vllm") == 1
    assert only(rows, GROUP + "num_procs", groupname="llama-server") == 0, "its process is taken"


async def test_a_group_that_used_no_cpu_time_was_there_all_the_same(machine: Path) -> None:
    collector = Processes(recorded_site(machine))
    use(machine, 4242, user_ticks=0)
    use(machine, 4243, user_ticks=0)
    rows = table(await collector.collect())
    assert only(rows, LAST_SEEN, groupname="vllm") == NOW
    assert (LAST_SEEN, (("groupname", "sglang"),)) not in rows, "never seen"
    for pid in (4242, 4243):
        shutil.rmtree(machine / "proc" / str(pid))
    assert only(table(await collector.collect()), LAST_SEEN, groupname="vllm") == NOW
    collector.close()


@pytest.mark.parametrize(
    "odd", ["", "4242", "4242 (vllm", "4242 (vllm) S 1 x y", "4242 (vllm) S 1"]
)
async def test_one_process_that_cannot_be_read_costs_itself_alone(machine: Path, odd: str) -> None:
    (machine / "proc/4242/stat").write_text(odd)
    collector = Processes(recorded_site(machine))
    rows = table(await collector.collect())
    assert only(rows, GROUP + "num_procs", groupname="vllm") == 1
    assert collector.lines.skipped["malformed"] == 1
    collector.close()


async def test_without_a_boot_time_only_the_start_is_missing(machine: Path) -> None:
    (machine / "proc/stat").write_text("cpu 1 2 3 4\n")
    rows = table(await Processes(recorded_site(machine)).collect())
    assert only(rows, GROUP + "num_procs", groupname="vllm") == 2
    assert not [name for name, _ in rows if name.endswith("oldest_start_time_seconds")]


async def test_after_a_restart_what_ran_before_is_counted_once_and_what_began_since_as_new(
    machine: Path,
) -> None:
    samples = await Processes(recorded_site(machine)).collect()
    last = [LastSample(s.family.name + s.suffix, dict(s.labels), s.value) for s in samples]
    use(machine, 4242, user_ticks=500, started=round((NOW - BOOT + 5) * 100))
    collector = Processes(recorded_site(machine))
    collector.resume(last, NOW)
    rows = table(await collector.collect())
    assert only(rows, GROUP + "cpu_seconds_total", groupname="vllm", mode="user") == 13 + 5
    collector.close()


@pytest.mark.parametrize(("step", "seen"), [(3600.0, NOW), (-5.0, NOW - 15)])
async def test_when_the_clock_is_set_nothing_was_seen_in_time_to_come(
    machine: Path, step: float, seen: float
) -> None:
    collector = Processes(recorded_site(machine))
    collector.resume([LastSample(LAST_SEEN, {"groupname": "sglang"}, NOW - 10)], NOW)
    collector.move(step)
    assert only(table(await collector.collect()), LAST_SEEN, groupname="sglang") == seen
    collector.close()
