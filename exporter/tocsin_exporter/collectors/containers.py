"""Containers of Docker, containerd, Podman, CRI-O and LXC: their groups in the kernel (cgroups v2).

No runtime is asked. What is a container is known by the name of its group; only Docker leaves its
own name and image in files.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import CONTAINERS
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, count, text
from tocsin_exporter.files import file_bytes
from tocsin_exporter.snapshot import Family, Labels, Sample, labels

_OF_RUNTIME = re.compile(
    r"(?:(?:docker|cri-containerd|crio|libpod|nerdctl)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?"
    r"|lxc\.payload\.(?P<lxc>.+)"
)
_DEEPEST = 12  # groups below groups; Kubernetes has five
_MOST_NAMES = 4096  # that are remembered
_MOST_BYTES = 1 << 20  # of Docker's file about a container
_DOCKER = "var/lib/docker/containers"

_MICROSECONDS = 1e6
_TIMES = {
    "user_usec": CONTAINERS["container_cpu_user_seconds_total"],
    "system_usec": CONTAINERS["container_cpu_system_seconds_total"],
}
_USAGE = CONTAINERS["container_cpu_usage_seconds_total"]
_THROTTLED = {
    "nr_periods": (CONTAINERS["container_cpu_cfs_periods_total"], 1.0),
    "nr_throttled": (CONTAINERS["container_cpu_cfs_throttled_periods_total"], 1.0),
    "throttled_usec": (CONTAINERS["container_cpu_cfs_throttled_seconds_total"], _MICROSECONDS),
}
_PERIOD = CONTAINERS["container_spec_cpu_period"]
_QUOTA = CONTAINERS["container_spec_cpu_quota"]

_WORKING_SET = CONTAINERS["container_memory_working_set_bytes"]
_BYTES = {
    "memory.current": CONTAINERS["container_memory_usage_bytes"],
    "memory.peak": CONTAINERS["container_memory_max_usage_bytes"],
    "memory.swap.current": CONTAINERS["container_memory_swap"],
    "pids.current": CONTAINERS["container_threads"],
}
_LIMITS = {
    "memory.max": CONTAINERS["container_spec_memory_limit_bytes"],
    "pids.max": CONTAINERS["container_threads_max"],
}
_OF_MEMORY = {
    "anon": CONTAINERS["container_memory_rss"],
    "file": CONTAINERS["container_memory_cache"],
    "file_mapped": CONTAINERS["container_memory_mapped_file"],
}
_FAILURES = CONTAINERS["container_memory_failures_total"]
_EVENTS = {
    "max": CONTAINERS["container_memory_failcnt"],
    "oom_kill": CONTAINERS["container_oom_events_total"],
}
_IO = {
    "rbytes": CONTAINERS["container_fs_reads_bytes_total"],
    "rios": CONTAINERS["container_fs_reads_total"],
    "wbytes": CONTAINERS["container_fs_writes_bytes_total"],
    "wios": CONTAINERS["container_fs_writes_total"],
}
_PRESSURE = {
    (of, line): CONTAINERS[f"container_pressure_{of}_{kind}_seconds_total"]
    for of in ("cpu", "memory", "io")
    for line, kind in (("some", "waiting"), ("full", "stalled"))
}
_PROCESSES = CONTAINERS["container_processes"]
_SEEN = CONTAINERS["container_last_seen"]


@dataclass(frozen=True, slots=True)
class ContainerName:
    """What a container is called: its number where nothing better is known, and its image."""

    name: str
    image: str = ""


class ContainerGroups:
    """Reads the files of each container's group on a HangGuard; at most `most` containers."""

    name = "containers"

    def __init__(self, host: Host, most: int = 500) -> None:
        self.lines = LineParser(self.name)
        self._host, self._most = host, most
        self._groups = host.sys / "fs/cgroup"
        self._names: dict[str, ContainerName] = {}
        self._devices: dict[str, str] = {}
        self._guard = HangGuard(self.name)

    async def collect(self) -> Sequence[Sample]:
        """Raises Unavailable without cgroups v2, and CollectorError, with those that are shown,
        where more containers run."""
        if not (self._groups / "cgroup.controllers").exists():
            raise Unavailable(f"{self._groups} has no cgroups v2")
        return await self._guard.run(self._read)

    def close(self) -> None:
        self._guard.close()

    def _read(self) -> Sequence[Sample]:
        self._devices.clear()
        found = sorted(containers(self._groups))
        samples: list[Sample] = []
        for group, runtime_id in found[: self._most]:
            called = self._called(runtime_id)
            path = f"/{group.relative_to(self._groups)}"
            of = labels(id=path, name=called.name, image=called.image)
            samples += self._container(group, of)
        if len(found) > self._most:
            said = f"{len(found)} containers, of which {self._most} are shown"
            raise CollectorError(said, samples)
        return samples

    def _container(self, group: Path, of: Labels) -> Iterator[Sample]:
        yield from _cpu(_table(group / "cpu.stat", self.lines), of)
        yield from _quota(group / "cpu.max", of, self.lines)
        yield from _memory(group, of, self.lines)
        yield from self._disks(group, of)
        for file in ("cpu", "memory", "io"):
            yield from _pressure(group, file, of, self.lines)
        yield Sample(_PROCESSES, len(_said(group / "cgroup.procs").split()), of)
        yield Sample(_SEEN, self._host.now(), of)

    def _disks(self, group: Path, of: Labels) -> Iterator[Sample]:
        """`8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 ...`"""
        for line in _said(group / "io.stat").splitlines():
            number, *pairs = line.split()
            counted = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            of_device = labels(**dict(of), device=self._device(number))
            for key in _IO.keys() & counted.keys():
                yield from self.lines.take(counted[key], partial(_sample, _IO[key], of_device))

    def _device(self, number: str) -> str:
        """`/dev/sda` of `8:0`; the number where the kernel has no name for it."""
        if number not in self._devices:
            try:
                target = os.readlink(self._host.sys / "dev/block" / number)
                self._devices[number] = f"/dev/{os.path.basename(target)}"
            except OSError:
                self._devices[number] = number
        return self._devices[number]

    def _called(self, runtime_id: str) -> ContainerName:
        if runtime_id not in self._names:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[runtime_id] = docker_name(self._host.root, runtime_id)
        return self._names[runtime_id]


def containers(root: Path) -> Iterator[tuple[Path, str]]:
    """The groups that are containers, with their runtime's number for it; none within another."""
    below = [(root, 0)]
    while below:
        group, depth = below.pop()
        for child in _children(group):
            if match := _OF_RUNTIME.fullmatch(child.name):
                yield child, match["id"] or match["lxc"]
            elif depth < _DEEPEST:
                below.append((child, depth + 1))


def _children(group: Path) -> list[Path]:
    """Groups directly below; none of one that has ended meanwhile."""
    try:
        with os.scandir(group) as found:
            return [Path(e.path) for e in found if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def docker_name(root: Path, runtime_id: str) -> ContainerName:
    """As Docker keeps it, for who may read that."""
    path = root / _DOCKER / runtime_id / "config.v2.json"
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        about = json.loads(file_bytes(path, _MOST_BYTES))
        name, image = str(about["Name"]).removeprefix("/"), about["Config"].get("Image", "")
        return ContainerName(name or runtime_id, str(image))
    return ContainerName(runtime_id)


def _sample(family: Family, of: Labels, word: str) -> Iterator[Sample]:
    yield Sample(family, count(word), of)


def _said(path: Path) -> str:
    """What stands there; nothing where the controller is off or the container has ended."""
    try:
        return text(path)
    except OSError:
        return ""


def _table(path: Path, lines: LineParser) -> Mapping[str, float]:
    """Lines such as `usage_usec 42`."""

    def pair(line: str) -> Iterator[tuple[str, float]]:
        key, value = line.split()[:2]
        yield key, count(value)

    return dict(lines.parse(_said(path), partial(pair)))


def _cpu(stat: Mapping[str, float], of: Labels) -> Iterator[Sample]:
    if "usage_usec" in stat:
        of_all = labels(**dict(of), cpu="total")
        yield Sample(_USAGE, stat["usage_usec"] / _MICROSECONDS, of_all)
    for key in _TIMES.keys() & stat.keys():
        yield Sample(_TIMES[key], stat[key] / _MICROSECONDS, of)
    if stat.get("nr_periods"):  # without a quota nothing is throttled, and nothing counted
        for key in _THROTTLED.keys() & stat.keys():
            family, divisor = _THROTTLED[key]
            yield Sample(family, stat[key] / divisor, of)


def _quota(path: Path, of: Labels, lines: LineParser) -> Iterator[Sample]:
    """`200000 100000`, or `max 100000` where there is none."""

    def parse(line: str) -> Iterator[Sample]:
        quota, period = line.split()
        yield Sample(_PERIOD, count(period), of)
        if quota != "max":
            yield Sample(_QUOTA, count(quota), of)

    yield from lines.parse(_said(path), partial(parse))  # of this group alone: not remembered


def _memory(group: Path, of: Labels, lines: LineParser) -> Iterator[Sample]:
    numbers = {file: _number(group / file, lines) for file in (*_BYTES, *_LIMITS)}
    for file, family in {**_BYTES, **_LIMITS}.items():
        for value in numbers[file]:
            yield Sample(family, value, of)
    stat = _table(group / "memory.stat", lines)
    for usage in numbers["memory.current"]:
        yield Sample(_WORKING_SET, max(0.0, usage - stat.get("inactive_file", 0.0)), of)
    for key in _OF_MEMORY.keys() & stat.keys():
        yield Sample(_OF_MEMORY[key], stat[key], of)
    for kind in {"pgfault", "pgmajfault"} & stat.keys():
        named = labels(**dict(of), failure_type=kind, scope="container")
        yield Sample(_FAILURES, stat[kind], named)
    events = _table(group / "memory.events", lines)
    for key in _EVENTS.keys() & events.keys():
        yield Sample(_EVENTS[key], events[key], of)


def _number(path: Path, lines: LineParser) -> Sequence[float]:
    """One or none; `max`, no limit, is 0 as in cAdvisor."""
    said = _said(path).strip()
    if said == "max":
        return [0.0]
    return lines.take(said, lambda word: [count(word)]) if said else ()


def _pressure(group: Path, of_what: str, of: Labels, lines: LineParser) -> Iterator[Sample]:
    """`some avg10=0.00 avg60=0.00 avg300=0.00 total=1234` in microseconds."""

    def parse(line: str) -> Iterator[Sample]:
        kind, *pairs = line.split()
        family: Family | None = _PRESSURE.get((of_what, kind))
        total = dict(pair.split("=", 1) for pair in pairs)["total"]
        if family is not None:
            yield Sample(family, count(total) / _MICROSECONDS, of)

    yield from lines.parse(_said(group / f"{of_what}.pressure"), partial(parse))
