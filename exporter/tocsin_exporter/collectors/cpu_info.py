"""What processors are, and how often they were throttled: /proc/cpuinfo and /sys.

Read anew every five seconds, for the collector `cpu` is read at each scrape.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tocsin_exporter.catalogue import KERNEL_TABLES
from tocsin_exporter.collectors.attributes import word
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import text
from tocsin_exporter.snapshot import Family, Sample, labels

_CORE = KERNEL_TABLES["node_cpu_core_throttles_total"]
_PACKAGE = KERNEL_TABLES["node_cpu_package_throttles_total"]
_ISOLATED = KERNEL_TABLES["node_cpu_isolated"]
_INFO = KERNEL_TABLES["node_cpu_info"]
_FLAG = KERNEL_TABLES["node_cpu_flag_info"]
_BUG = KERNEL_TABLES["node_cpu_bug_info"]
_OF_INFO = {
    "package": "physical id",
    "core": "core id",
    "cpu": "processor",
    "vendor": "vendor_id",
    "family": "cpu family",
    "model": "model",
    "model_name": "model name",
    "microcode": "microcode",
    "stepping": "stepping",
    "cachesize": "cache size",
}
_SECONDS = 5.0
_LISTED = re.compile(r"([^:\t]+?)\s*:\s?(.*)")


class CpuFacts:
    """Samples beside CPU time, remembered for five seconds of the wall clock."""

    def __init__(self, host: Host) -> None:
        settings = host.settings
        self._flags = settings.patterns.get("cpu.info.flags-include", "")
        self._bugs = settings.patterns.get("cpu.info.bugs-include", "")
        self._listed = bool(self._flags or self._bugs or "cpu.info" in settings.switches)
        self._cpuinfo = host.proc / "cpuinfo"
        self._cpus = host.sys / "devices/system/cpu"
        self._now: Callable[[], float] = host.now
        self._throttles: Sequence[tuple[Family, dict[str, str], str]] | None = None
        self._isolated: Sequence[Sample] = ()
        self._said: Sequence[Sample] = ()
        self._read_at = -float("inf")

    def samples(self) -> Sequence[Sample]:
        if self._throttles is None:  # which files there are; a CPU that comes later has none
            self._throttles = list(throttle_files(self._cpus))
            self._isolated = list(_isolated(word(self._cpus / "isolated")))
        if not 0 <= self._now() - self._read_at < _SECONDS:
            self._read_at = self._now()
            self._said = [*self._throttled(), *self._isolated, *self._listing()]
        return self._said

    def _throttled(self) -> Iterator[Sample]:
        for family, of, path in self._throttles or ():
            if (said := word(path)) is not None and said.isdecimal():
                yield Sample(family, int(said), labels(**of))

    def _listing(self) -> Iterator[Sample]:
        if not self._listed:
            return
        processors = list(cpuinfo(text(self._cpuinfo)))
        for each in processors:
            named = {label: each.get(name, "") for label, name in _OF_INFO.items()}
            yield Sample(_INFO, 1, labels(**named))
        first: Mapping[str, str] = processors[0] if processors else {}
        for family, name, pattern in ((_FLAG, "flag", self._flags), (_BUG, "bug", self._bugs)):
            for value in first.get(f"{name}s", "").split() if pattern else ():
                if re.search(pattern, value):
                    yield Sample(family, 1, ((name, value),))


def throttle_files(cpus: Path) -> Iterator[tuple[Family, dict[str, str], str]]:
    """Once for each core and package: the CPUs of a core say the same."""
    seen: set[tuple[str, ...]] = set()
    for cpu in sorted(cpus.glob("cpu[0-9]*")):
        package = word(cpu / "topology/physical_package_id")
        core = word(cpu / "topology/core_id")
        if package is None or core is None:
            continue
        of_core = _CORE, {"package": package, "core": core}, "core"
        for family, of, kind in (of_core, (_PACKAGE, {"package": package}, "package")):
            path = cpu / f"thermal_throttle/{kind}_throttle_count"
            if (key := (kind, *of.values())) not in seen and path.exists():
                seen.add(key)
                yield family, of, str(path)


def _isolated(said: str | None) -> Iterator[Sample]:
    for cpu in cpu_list(said or ""):
        yield Sample(_ISOLATED, 1, labels(cpu=str(cpu)))


def cpu_list(said: str) -> Iterator[int]:
    """The kernel's `1,3-5`."""
    for part in said.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            yield from range(int(first), int(last or first) + 1)


def cpuinfo(content: str) -> Iterator[dict[str, str]]:
    """Each processor: paragraphs of `model name : AMD EPYC 9654`."""
    for paragraph in content.split("\n\n"):
        lines = (_LISTED.match(line) for line in paragraph.split("\n"))
        said = {match[1]: match[2] for match in lines if match}
        if "processor" in said:
            yield said
