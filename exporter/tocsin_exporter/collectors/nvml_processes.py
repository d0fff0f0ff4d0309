"""Who uses a GPU: memory and time on its SMs of each process, with the group that it belongs to."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.host import PROCESS_GROUPS, Host
from tocsin_exporter.collectors.inline import text
from tocsin_exporter.collectors.nvml_query import BLANK, Aside, GpuQuery
from tocsin_exporter.collectors.program import Matcher, parse
from tocsin_exporter.snapshot import Sample

MOST_PROCESSES = 64
_KEPT_SECONDS = 15.0  # a name, as long as nobody looks again
_PATIENCE_SECONDS = 0.1

NameOf = Callable[[int], str]


def group_names(host: Host) -> NameOf:
    """The process group of a pid, as `namedprocess_*` has it, or else its name; "" for one that
    is in another pid namespace or has ended."""
    usual = {n: match for n, match in PROCESS_GROUPS.items() if n not in host.process_groups}
    return lambda pid: _group(host.proc, {**host.process_groups, **usual}, pid)


def _group(proc: Path, matchers: Mapping[str, Matcher], pid: int) -> str:
    try:
        program = parse(text(proc / str(pid) / "stat"), text(proc / str(pid) / "cmdline"))
    except OSError:
        return ""
    return next((name for name, match in matchers.items() if match(program)), program.comm)


class RunningProcesses:
    """One a GPU. Files of a process that hangs in the kernel may hang as well: names are read on a
    thread of their own, and a process whose name is not known has none."""

    def __init__(self, index: int, name_of: NameOf) -> None:
        self._name_of = name_of
        self._aside: Aside[dict[int, str]] = Aside(f"gpu {index} processes", _PATIENCE_SECONDS)
        self._names: dict[int, tuple[float, str]] = {}  # until when (Unix seconds)
        self._used_since_us = 0

    def samples(self, query: GpuQuery) -> Iterator[Sample]:
        """Raises NVMLError when the GPU is lost."""
        memory, busy = _memory(query), self._busy(query)
        names = self._named({*memory, *busy}, query.now)
        for family, values in (
            ("gpu_process_memory_bytes", memory),
            ("gpu_process_sm_utilization_ratio", busy),
        ):
            for pid, value in sorted(values.items()):
                labels = query.own(pid=str(pid), groupname=names.get(pid, ""))
                yield Sample(GPU[family], value, labels)

    def _busy(self, query: GpuQuery) -> dict[int, float]:
        """The share of the SMs' time since the last round; nothing runs: nothing is said."""
        since = self._used_since_us or int((query.now - 1) * 1e6)
        used = query.call("process utilization", "nvmlDeviceGetProcessUtilization", since) or ()
        known = [one for one in used if one.pid and 0 <= one.smUtil <= 100]
        self._used_since_us = max([since, *(int(one.timeStamp) for one in known)])
        newest: dict[int, Any] = {}
        for one in sorted(known, key=lambda one: int(one.timeStamp)):
            newest[one.pid] = one
        largest = sorted(newest.values(), key=lambda one: -one.smUtil)[:MOST_PROCESSES]
        return {one.pid: one.smUtil / 100 for one in largest}

    def _named(self, pids: set[int], now: float) -> dict[int, str]:
        self._names = {pid: known for pid, known in self._names.items() if known[0] > now}
        if new := pids - self._names.keys():
            found = self._aside.ask(lambda: {pid: self._name_of(pid) for pid in new})
            self._names |= {pid: (now + _KEPT_SECONDS, name) for pid, name in (found or {}).items()}
        return {pid: name for pid, (_, name) in self._names.items()}

    def close(self) -> None:
        self._aside.close()


def _memory(query: GpuQuery) -> dict[int, float]:
    return _largest(query.call("processes", "nvmlDeviceGetComputeRunningProcesses") or ())


def _largest(processes: Iterable[Any]) -> dict[int, float]:
    """The largest users of memory; a driver that does not tell sizes (None) gives nothing."""
    known = [p for p in processes if p.usedGpuMemory is not None and p.usedGpuMemory not in BLANK]
    largest = sorted(known, key=lambda p: -p.usedGpuMemory)[:MOST_PROCESSES]
    return {p.pid: float(p.usedGpuMemory) for p in reversed(largest)}
