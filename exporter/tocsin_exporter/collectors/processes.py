"""Watched groups of processes: is the worker there, since when, and what does it use.

A group never disappears: when its last process has gone it stays with 0 processes, and its
counters keep what the dead ones used. That is what lets a rule see the death.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tocsin_exporter.catalogue import PROCESS
from tocsin_exporter.collectors.cpu import TICKS
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import PROCESS_GROUPS, Host
from tocsin_exporter.collectors.inline import LineParser, text
from tocsin_exporter.collectors.process_files import Process, boot_seconds, read
from tocsin_exporter.collectors.program import parse
from tocsin_exporter.snapshot import Family, Labels, LastSample, Sample, labels


def _family(name: str) -> Family:
    return PROCESS[f"namedprocess_namegroup_{name}"]


# Key in Process.counts -> family and the labels that tell it from its neighbours.
_COUNTS = {
    "user": (_family("cpu_seconds_total"), {"mode": "user"}),
    "system": (_family("cpu_seconds_total"), {"mode": "system"}),
    "read_bytes": (_family("read_bytes_total"), {}),
    "write_bytes": (_family("write_bytes_total"), {}),
    "major_faults": (_family("major_page_faults_total"), {}),
    "minor_faults": (_family("minor_page_faults_total"), {}),
    "voluntary": (_family("context_switches_total"), {"ctxswitchtype": "voluntary"}),
    "nonvoluntary": (_family("context_switches_total"), {"ctxswitchtype": "nonvoluntary"}),
}
_LAST_SEEN = PROCESS["tocsin_process_group_last_seen_timestamp_seconds"]
_TELLING = ("mode", "ctxswitchtype")  # labels that tell counters of one family apart
_PID = re.compile(r"[0-9]+")
_STATES = ("Running", "Sleeping", "Waiting", "Zombie", "Other")


@dataclass
class _ProcessGroup:
    """What is remembered of a group between two scans."""

    last_seen: float | None = None  # Unix seconds
    totals: dict[str, float] = field(default_factory=dict)
    seen: dict[tuple[int, int], Mapping[str, float]] = field(default_factory=dict)

    def add(self, processes: Sequence[Process], at: float) -> None:
        """Add what each process used since the last scan, so that no death lowers a counter."""
        now = {_key(p): p.counts for p in processes}
        for key, counts in now.items():
            before = self.seen.get(key, {})
            for name, value in counts.items():
                used = max(0.0, value - before.get(name, 0.0))
                self.totals[name] = self.totals.get(name, 0.0) + used
        self.seen = now
        if processes:
            self.last_seen = at


def _key(process: Process) -> tuple[int, int]:
    return process.pid, process.started_ticks


class Processes:
    """Scans /proc on a HangGuard: a process stuck in the kernel can hold up who reads its files."""

    name = "process_groups"
    remembered = frozenset({*(family.name for family, _ in _COUNTS.values()), _LAST_SEEN.name})

    def __init__(self, host: Host) -> None:
        self.lines = LineParser(self.name)
        self._proc = host.proc
        self._now = host.now
        usual = {n: match for n, match in PROCESS_GROUPS.items() if n not in host.process_groups}
        self._matchers = {**host.process_groups, **usual}
        self._groups = {name: _ProcessGroup() for name in self._matchers}
        self._guard = HangGuard("process_groups")
        self._resumed_at: float | None = None

    async def collect(self) -> Sequence[Sample]:
        groups, boot = await self._guard.run(lambda: (self._scan(), self._boot()))
        samples: list[Sample] = []
        if self._resumed_at is not None:
            self._know(groups, self._resumed_at, boot)
            self._resumed_at = None
        for name, group in self._groups.items():
            group.add(groups[name], self._now())
            samples += _samples(name, groups[name], group, boot)
        return samples

    def resume(self, last: Iterable[LastSample], at: float) -> None:
        """The counters go on; what was used between `at` and the first scan is not counted."""
        keys = {(family.name, *more.items()): key for key, (family, more) in _COUNTS.items()}
        for name, named, value in last:
            group = self._groups.get(named.get("groupname", ""))
            if group is None:
                continue
            if name == _LAST_SEEN.name:
                group.last_seen = value
                self._resumed_at = at
            more = ((k, v) for k, v in named.items() if k in _TELLING)
            if (key := keys.get((name, *more))) is not None:
                group.totals[key] = value

    def move(self, seconds: float) -> None:
        for group in self._groups.values():
            if group.last_seen is not None:
                group.last_seen = min(group.last_seen + seconds, self._now())

    def close(self) -> None:
        self._guard.close()

    def _know(self, groups: Mapping[str, list[Process]], at: float, boot: int | None) -> None:
        """The processes that ran at `at` are in the counters already."""
        for name, processes in groups.items():
            self._groups[name].seen = {
                _key(process): process.counts
                for process in processes
                if boot is None or boot + process.started_ticks / TICKS <= at
            }

    def _scan(self) -> dict[str, list[Process]]:
        groups: dict[str, list[Process]] = {name: [] for name in self._matchers}
        for directory in self._proc.iterdir():
            if _PID.fullmatch(directory.name):
                self._look(directory, groups)
        return groups

    def _look(self, directory: Path, groups: dict[str, list[Process]]) -> None:
        try:
            stat = text(directory / "stat")
            program = parse(stat, text(directory / "cmdline"))
            name = next((n for n, match in self._matchers.items() if match(program)), None)
        except OSError:  # ended, or hidden
            return
        if name is not None:
            with contextlib.suppress(OSError):
                groups[name] += self.lines.take(stat, lambda _: [read(directory)])

    def _boot(self) -> int | None:
        try:
            return boot_seconds(text(self._proc / "stat"))
        except OSError:
            return None


def _samples(
    name: str, processes: Sequence[Process], group: _ProcessGroup, boot: int | None
) -> Iterator[Sample]:
    yield from _sizes(name, processes, boot)
    if group.last_seen is not None:
        yield Sample(_LAST_SEEN, group.last_seen, labels(groupname=name))
    states = Counter(p.state for p in processes)
    for state in _STATES:
        yield Sample(_family("states"), states[state], labels(groupname=name, state=state))
    for key, value in group.totals.items():
        family, more = _COUNTS[key]
        yield Sample(family, value, labels(groupname=name, **more))


def _sizes(name: str, processes: Sequence[Process], boot: int | None) -> Iterator[Sample]:
    group = labels(groupname=name)
    memory = {
        "resident": sum(p.resident_bytes for p in processes),
        "virtual": sum(p.virtual_bytes for p in processes),
        "swapped": sum(p.swapped_bytes for p in processes),
    }
    yield Sample(_family("num_procs"), len(processes), group)
    yield Sample(_family("num_threads"), sum(p.threads for p in processes), group)
    for kind, size in memory.items():
        yield Sample(_family("memory_bytes"), size, labels(groupname=name, memtype=kind))
    if processes and boot is not None:
        oldest = boot + min(p.started_ticks for p in processes) / TICKS
        yield Sample(_family("oldest_start_time_seconds"), oldest, group)
    yield from _files(processes, group)


def _files(processes: Sequence[Process], group: Labels) -> Iterator[Sample]:
    """Open files, of the processes that let us see them."""
    opened = [(p.open_files, p.files_limit) for p in processes if p.open_files is not None]
    if opened or not processes:
        yield Sample(_family("open_filedesc"), sum(count for count, _ in opened), group)
        ratios = [count / limit for count, limit in opened if limit]
        yield Sample(_family("worst_fd_ratio"), max(ratios, default=0.0), group)
