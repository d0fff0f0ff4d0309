"""CPU time: the `cpu<N>` lines of /proc/stat, and what `cpu_info.py` knows of processors."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.cpu_info import CpuFacts
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, LineParser, count, text
from tocsin_exporter.snapshot import Labels, Sample, labels

TICKS = 100  # USER_HZ of /proc, the same on every Linux that Python runs on

_TIME = HOST["node_cpu_seconds_total"]
_GUEST_TIME = HOST["node_cpu_guest_seconds_total"]
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")


_IDLE = _MODES.index("idle")
_HOTPLUG_SECONDS = 3.0  # idle time that falls by so much belongs to a CPU that came back

_NAME = re.compile(r"cpu[0-9]+")
_FEWEST = 4  # columns, in the oldest kernels
_MOST = len(_MODES) + len(_GUEST_MODES)

Seconds = list[float]  # by mode, then by guest mode


def cpu(host: Host) -> FileCollector:
    path = str(host.proc / "stat")
    last: dict[str, Seconds] = {}
    facts = CpuFacts(host)

    def read(lines: LineParser) -> Iterator[Sample]:
        times = list(samples(dict(lines.parse(text(path), parse)), last))
        if times:
            yield from times
            yield from facts.samples()

    return FileCollector("cpu", read)


def parse(line: str) -> Iterator[tuple[str, Seconds]]:
    """Seconds of one CPU. Guest time is part of user and nice as well, as in the kernel."""
    if not line.startswith("cpu") or line.startswith("cpu "):
        return
    name, *ticks = line.split()
    if not _NAME.fullmatch(name) or len(ticks) < _FEWEST:
        raise ValueError(f"{name} is no CPU with its times")
    yield name[3:], [count(tick) / TICKS for tick in ticks[:_MOST]]


def samples(now: Mapping[str, Seconds], last: dict[str, Seconds]) -> Iterator[Sample]:
    """Keeps what was said in `last`: the kernel's idle and iowait can step back a little.

    A counter that fell would be taken for a restart, and its whole value for an increase.
    """
    for number, seconds in now.items():
        before = last.get(number)
        if before is not None and before[_IDLE] - seconds[_IDLE] < _HOTPLUG_SECONDS:
            highest = (max(pair) for pair in zip(before, seconds, strict=False))
            seconds = [*highest, *seconds[len(before) :]]
        last[number] = seconds
        yield from _times(number, seconds)


def _times(number: str, seconds: Seconds) -> Iterator[Sample]:
    for mode, value in zip(_MODES, seconds, strict=False):  # old kernels have fewer columns
        yield Sample(_TIME, value, _labels(number, mode))
    for mode, value in zip(_GUEST_MODES, seconds[8:], strict=False):
        yield Sample(_GUEST_TIME, value, _labels(number, mode))


@lru_cache(maxsize=8192)
def _labels(number: str, mode: str) -> Labels:
    return labels(cpu=number, mode=mode)
