"""The agent's own process: `process_*`, as every Prometheus client library has them."""

import os
import resource
from collections.abc import Iterator

from tocsin_exporter.catalogue import OWN
from tocsin_exporter.collectors.cpu import TICKS
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import InlineCollector, count, text
from tocsin_exporter.collectors.process_files import boot_seconds, parse_stat
from tocsin_exporter.snapshot import Sample


def own_process(host: Host) -> InlineCollector:
    proc = str(host.proc)
    return InlineCollector("process", lambda: _read(proc))


def _read(proc: str) -> Iterator[Sample]:
    yield from parse(text(f"{proc}/self/stat"), boot_seconds(text(f"{proc}/stat")))
    yield Sample(OWN["process_open_fds"], len(os.listdir(f"{proc}/self/fd")) - 1)  # not its own
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    yield Sample(OWN["process_max_fds"], _limit(files))
    yield Sample(OWN["process_virtual_memory_max_bytes"], _limit(memory))


def parse(stat: str, boot: int | None) -> Iterator[Sample]:
    """Field 14 and 15 are CPU time, 22 the start, 23 and 24 the memory (proc(5))."""
    fields = parse_stat(stat)
    cpu = (count(fields[11]) + count(fields[12])) / TICKS
    yield Sample(OWN["process_cpu_seconds_total"], cpu)
    if boot is not None:
        yield Sample(OWN["process_start_time_seconds"], boot + count(fields[19]) / TICKS)
    yield Sample(OWN["process_virtual_memory_bytes"], count(fields[20]))
    resident = count(fields[21]) * resource.getpagesize()
    yield Sample(OWN["process_resident_memory_bytes"], float(resident))


def _limit(value: int) -> float:
    """Go's client writes an unlimited size as 2**64 - 1."""
    return float(2**64 - 1) if value == resource.RLIM_INFINITY else float(value)
