import os

from support.site import only, recorded_site, table
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.own import own_process


async def test_a_recorded_process() -> None:
    rows = table(await own_process(recorded_site()).collect())
    assert only(rows, "process_cpu_seconds_total") == 3.5
    assert only(rows, "process_start_time_seconds") == 1795254402 + 40
    assert only(rows, "process_virtual_memory_bytes") == 104857600
    assert only(rows, "process_open_fds") == 2  # three, of which one lists the directory


async def test_ourselves_agree_with_the_system() -> None:
    rows = table(await own_process(Host(now=Clock().wall)).collect())
    assert only(rows, "process_cpu_seconds_total") <= sum(os.times()[:2]) + 0.02
    assert only(rows, "process_open_fds") == len(os.listdir("/proc/self/fd")) - 1
