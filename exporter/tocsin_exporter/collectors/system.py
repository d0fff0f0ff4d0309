"""What kind of system this is: its release, its board, its entropy, its scheduler, SELinux."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tocsin_exporter.catalogue import HARDWARE, KERNEL
from tocsin_exporter.collectors.attributes import AttributeCollector, word, words
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import (
    FileCollector,
    InlineCollector,
    LineParser,
    count,
    text,
)
from tocsin_exporter.snapshot import Sample, labels

_RELEASE = KERNEL["node_os_info"]
_VERSION = KERNEL["node_os_version"]
_RELEASE_FILES = ("etc/os-release", "usr/lib/os-release")
_MAJOR_MINOR = re.compile(r"[0-9]+\.?[0-9]*")

_BOARD = HARDWARE["node_dmi_info"]
_FILE_OF = {"system_vendor": "sys_vendor"}  # the others are called as their labels

_AVAILABLE = KERNEL["node_entropy_available_bits"]
_POOL = KERNEL["node_entropy_pool_size_bits"]

_NANOSECONDS = 1e9
_SCHEDULED = (
    (KERNEL["node_schedstat_running_seconds_total"], _NANOSECONDS),
    (KERNEL["node_schedstat_waiting_seconds_total"], _NANOSECONDS),
    (KERNEL["node_schedstat_timeslices_total"], 1.0),
)
_CPU = re.compile(r"cpu([0-9]+)")

_MODES = {"enforcing": 1.0, "permissive": 0.0}
_DISABLED = -1.0


def release(host: Host) -> AttributeCollector:
    return AttributeCollector("os", host.root, lambda lines: _release(host.root, lines))


def _release(root: Path, lines: LineParser) -> Iterator[Sample]:
    """The first of the files that is there. Raises Unavailable without one."""
    path = next((p for name in _RELEASE_FILES if (p := root / name).is_file()), None)
    if path is None:
        raise Unavailable("the system has no os-release")
    said = dict(lines.parse(text(path), assignment))
    known = {name: said.get(name.upper(), "") for name in _release_labels()}
    yield Sample(_RELEASE, 1, labels(**known))
    if version := _MAJOR_MINOR.match(known["version_id"]):
        short = {name: known[name] for name in KERNEL.labels[_VERSION.name]}
        yield Sample(_VERSION, float(version[0]), labels(**short))


def _release_labels() -> tuple[str, ...]:
    return KERNEL.labels[_RELEASE.name]


def assignment(line: str) -> Iterator[tuple[str, str]]:
    """`NAME="a value"` as a shell reads it; nothing for a comment."""
    if line.lstrip().startswith("#"):
        return
    name, equals, value = line.strip().partition("=")
    if not (equals and name.isidentifier()):
        raise ValueError(f"{name!r} is no assignment")
    yield name, " ".join(shlex.split(value))


def dmi(host: Host) -> AttributeCollector:
    return AttributeCollector("dmi", host.sys / "class/dmi/id", lambda _: _dmi(host.sys))


def _dmi(sys: Path) -> Iterator[Sample]:
    """Serial numbers are for root alone: who may not read a file has no such label."""
    files = {_FILE_OF.get(name, name): name for name in HARDWARE.labels[_BOARD.name]}
    known = words(sys / "class/dmi/id", files)
    yield Sample(_BOARD, 1, labels(**{files[file]: said for file, said in known.items()}))


def entropy(host: Host) -> InlineCollector:
    random = host.proc / "sys/kernel/random"

    def read() -> Iterator[Sample]:
        yield Sample(_AVAILABLE, count(text(random / "entropy_avail").strip()))
        yield Sample(_POOL, count(text(random / "poolsize").strip()))

    return InlineCollector("entropy", read)


def schedstat(host: Host) -> FileCollector:
    path = str(host.proc / "schedstat")
    return FileCollector("schedstat", lambda lines: lines.parse(text(path), scheduled))


def scheduled(line: str) -> Iterator[Sample]:
    """`cpu0`, six counts, then nanoseconds run and waited, and slices; other lines say nothing."""
    if not (match := _CPU.match(line)):
        return
    name, *fields = line.split()
    if name != match[0]:
        raise ValueError(f"{name} is no CPU")
    of_cpu = (("cpu", match[1]),)
    for (family, divisor), value in zip(_SCHEDULED, fields[6:9], strict=True):
        yield Sample(family, count(value) / divisor, of_cpu)


def selinux(host: Host) -> AttributeCollector:
    return AttributeCollector("selinux", host.sys, lambda _: _selinux(host))


def _selinux(host: Host) -> Iterator[Sample]:
    current = word(host.sys / "fs/selinux/enforce")
    yield Sample(KERNEL["node_selinux_enabled"], float(current is not None))
    if current is not None:
        configured = _configured_mode(host.root / "etc/selinux/config")
        yield Sample(KERNEL["node_selinux_config_mode"], configured)
        yield Sample(KERNEL["node_selinux_current_mode"], count(current))


def _configured_mode(path: Path) -> float:
    said = re.search(r"^\s*SELINUX=(\w+)", word(path) or "", re.MULTILINE)
    return _MODES.get(said[1].lower(), _DISABLED) if said else _DISABLED
