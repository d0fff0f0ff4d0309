"""One process, from its files under /proc/<pid>."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

from tocsin_exporter.collectors.cpu import TICKS
from tocsin_exporter.collectors.inline import count, number, text

_STATES = {"R": "Running", "S": "Sleeping", "D": "Waiting", "Z": "Zombie"}
_UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True)
class Process:
    """What a process uses. `counts` only ever grow while it lives; keys as in COUNTS.

    None stands for what only its owner may read.
    """

    pid: int
    started_ticks: int  # since boot; with the pid it tells processes apart
    state: str
    threads: int
    resident_bytes: int
    virtual_bytes: int
    swapped_bytes: int
    open_files: int | None
    files_limit: float | None
    counts: Mapping[str, float]


def read(directory: Path) -> Process:
    """Raises FileNotFoundError or ProcessLookupError when the process has gone."""
    fields = parse_stat(text(directory / "stat"))
    status = parse_colons(text(directory / "status"))
    return Process(
        pid=int(directory.name),
        started_ticks=int(count(fields[19])),
        state=_STATES.get(fields[0], "Other"),
        threads=int(count(fields[17])),
        resident_bytes=int(number(fields[21])) * getpagesize(),
        virtual_bytes=int(count(fields[20])),
        swapped_bytes=int(count(status.get("VmSwap", "0 kB").split()[0])) * 1024,
        open_files=_open_files(directory),
        files_limit=parse_files_limit(_optional(directory / "limits")),
        counts={
            **_stat_counts(fields),
            **_numbers(status, _STATUS_COUNTS),
            **_numbers(parse_colons(_optional(directory / "io")), _IO_COUNTS),
        },
    )


def parse_stat(line: str) -> list[str]:
    """Fields of proc(5) stat from the state (field 3) on; the name before may hold anything."""
    return line.rpartition(")")[2].split()


def parse_colons(content: str) -> dict[str, str]:
    """Lines such as `VmSwap:   12 kB`."""
    pairs = (line.partition(":") for line in content.split("\n"))
    return {key: value.strip() for key, _, value in pairs}


def parse_files_limit(limits: str) -> float | None:
    """The soft limit of `Max open files`."""
    for line in limits.split("\n"):
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return float("inf") if soft == _UNLIMITED else count(soft)
    return None


_STATUS_COUNTS = {
    "voluntary_ctxt_switches": "voluntary",
    "nonvoluntary_ctxt_switches": "nonvoluntary",
}
_IO_COUNTS = {"read_bytes": "read_bytes", "write_bytes": "write_bytes"}


def _stat_counts(fields: list[str]) -> dict[str, float]:
    return {
        "minor_faults": count(fields[7]),
        "major_faults": count(fields[9]),
        "user": count(fields[11]) / TICKS,
        "system": count(fields[12]) / TICKS,
    }


def _numbers(fields: Mapping[str, str], names: Mapping[str, str]) -> dict[str, float]:
    return {name: count(fields[key].split()[0]) for key, name in names.items() if key in fields}


def boot_seconds(stat: str) -> int | None:
    """When the machine started, in Unix seconds; None where /proc/stat does not say."""
    match = re.search(r"^btime ([0-9]{1,12})(?=\s|$)", stat, re.MULTILINE)
    return int(match[1]) if match else None


def _optional(path: Path) -> str:
    try:
        return text(path)
    except OSError:  # hidden, or a kernel without it; a process that has gone has no stat either
        return ""


def _open_files(directory: Path) -> int | None:
    try:
        return len(os.listdir(directory / "fd"))
    except OSError:
        return None
