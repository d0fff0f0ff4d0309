"""What /proc/stat counts beside CPU time: interrupts, switches, forks, boot time, run queue."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import HOST, KERNEL_TABLES
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, count, text
from tocsin_exporter.snapshot import Sample

_FIELDS = {
    "intr": HOST["node_intr_total"],
    "ctxt": HOST["node_context_switches_total"],
    "processes": HOST["node_forks_total"],
    "btime": HOST["node_boot_time_seconds"],
    "procs_running": HOST["node_procs_running"],
    "procs_blocked": HOST["node_procs_blocked"],
}


_SOFTIRQS = KERNEL_TABLES["node_softirqs_total"]
# In the kernel's order, after the total.
_VECTORS = (
    *("hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched"),
    *("hrtimer", "rcu"),
)


def stat(host: Host) -> FileCollector:
    path = str(host.proc / "stat")
    by_vector = "stat.softirq" in host.settings.switches

    def read(line: str) -> Iterator[Sample]:
        yield from parse(line)
        if by_vector and line.startswith("softirq "):
            yield from vectors(line)

    return FileCollector("stat", lambda lines: lines.parse(text(path), read))


def vectors(line: str) -> Iterator[Sample]:
    """`softirq`, the total, and the calls of each vector."""
    for name, value in zip(_VECTORS, line.split()[2:], strict=False):
        yield Sample(_SOFTIRQS, count(value), (("vector", name),))


def parse(line: str) -> Iterator[Sample]:
    """`intr` and `processes` carry the total first; what follows is by line and not needed."""
    key, _, rest = line.partition(" ")
    if (family := _FIELDS.get(key)) is not None:
        yield Sample(family, count(rest.split(None, 1)[0]))
