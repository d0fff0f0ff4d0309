"""CPU time: the `cpu<N>` lines of /proc/stat."""

from collections.abc import Iterator
from functools import lru_cache

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Labels, Sample, labels

TICKS = 100  # USER_HZ of /proc, the same on every Linux that Python runs on

_TIME = HOST["node_cpu_seconds_total"]
_GUEST_TIME = HOST["node_cpu_guest_seconds_total"]
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")


def cpu(site: Site) -> Reading:
    path = str(site.proc / "stat")
    return Reading("cpu", lambda: parse(text(path)))


def parse(stat: str) -> Iterator[Sample]:
    """Seconds by CPU and mode. Guest time is part of user and nice as well, as in the kernel."""
    for line in stat.splitlines():
        if line.startswith("cpu") and line[3] != " ":
            number, *ticks = line[3:].split()
            yield from _times(number, [int(tick) / TICKS for tick in ticks])


def _times(number: str, seconds: list[float]) -> Iterator[Sample]:
    for mode, value in zip(_MODES, seconds, strict=False):  # old kernels have fewer columns
        yield Sample(_TIME, value, _labels(number, mode))
    for mode, value in zip(_GUEST_MODES, seconds[8:], strict=False):
        yield Sample(_GUEST_TIME, value, _labels(number, mode))


@lru_cache(maxsize=8192)
def _labels(number: str, mode: str) -> Labels:
    return labels(cpu=number, mode=mode)
