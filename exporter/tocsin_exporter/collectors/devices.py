"""Devices that a machine may have: NVMe disks, memory controllers, bonded links, RAID arrays."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import HARDWARE
from tocsin_exporter.catalogue.hardware import MD_STATES
from tocsin_exporter.collectors.attributes import (
    AttributeCollector,
    entries,
    sampled,
    word,
    words,
)
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, LineParser, count, text
from tocsin_exporter.snapshot import Sample, labels

_NVME = HARDWARE["node_nvme_info"]
_NVME_FILES = {"firmware_rev": "firmware_revision", "model": "", "serial": "", "state": ""}

_CONTROLLER = {
    "ce_count": (HARDWARE["node_edac_correctable_errors_total"], 1.0),
    "ue_count": (HARDWARE["node_edac_uncorrectable_errors_total"], 1.0),
}
_ROW = {
    "ce_count": (HARDWARE["node_edac_csrow_correctable_errors_total"], 1.0),
    "ue_count": (HARDWARE["node_edac_csrow_uncorrectable_errors_total"], 1.0),
}
_NO_ROW = {"ce_noinfo_count": _ROW["ce_count"], "ue_noinfo_count": _ROW["ue_count"]}

_SLAVES = HARDWARE["node_bonding_slaves"]
_ACTIVE = HARDWARE["node_bonding_active"]

_STATE = HARDWARE["node_md_state"]
_DISKS = HARDWARE["node_md_disks"]
_REQUIRED = HARDWARE["node_md_disks_required"]
_BLOCKS = HARDWARE["node_md_blocks"]
_SYNCED = HARDWARE["node_md_blocks_synced"]
_DISKS_UP = re.compile(r"\[(\d+)/(\d+)\]")
_SYNC = re.compile(r"\b(recovery|resync|check)\s*=")
_PROGRESS = re.compile(r"\((\d+)/\d+\)")
_AS_A_STATE = {"recovery": "recovering", "resync": "resync", "check": "check"}


def nvme(host: Host) -> AttributeCollector:
    root = host.sys / "class/nvme"
    return AttributeCollector("nvme", root, lambda _: _nvme(root))


def _nvme(root: Path) -> Iterator[Sample]:
    for device in entries(root):
        said = words(device, _NVME_FILES)
        known = {_NVME_FILES[file] or file: content for file, content in said.items()}
        yield Sample(_NVME, 1, labels(device=device.name, **known))


def edac(host: Host) -> AttributeCollector:
    root = host.sys / "devices/system/edac/mc"
    return AttributeCollector("edac", root, partial(_edac, root))


def _edac(root: Path, lines: LineParser) -> Iterator[Sample]:
    for controller in entries(root, "mc[0-9]*"):
        own = {"controller": controller.name.removeprefix("mc")}
        yield from sampled(controller, _CONTROLLER, labels(**own), lines)
        yield from sampled(controller, _NO_ROW, labels(**own, csrow="unknown"), lines)
        for row in entries(controller, "csrow[0-9]*"):
            of_row = labels(**own, csrow=row.name.removeprefix("csrow"))
            yield from sampled(row, _ROW, of_row, lines)


def bonding(host: Host) -> AttributeCollector:
    root = host.sys / "class/net"
    return AttributeCollector("bonding", root / "bonding_masters", lambda _: _bonding(root))


def _bonding(root: Path) -> Iterator[Sample]:
    for master in (word(root / "bonding_masters") or "").split():
        slaves = (word(root / master / "bonding/slaves") or "").split()
        states = [_link_state(root / master, slave) for slave in slaves]
        of_master = labels(master=master)
        yield Sample(_SLAVES, len(states), of_master)
        yield Sample(_ACTIVE, states.count("up"), of_master)


def _link_state(master: Path, slave: str) -> str | None:
    new, old = (master / f"{kind}_{slave}/bonding_slave/mii_status" for kind in ("lower", "slave"))
    return word(new) or word(old)


def mdadm(host: Host) -> FileCollector:
    path = str(host.proc / "mdstat")
    return FileCollector("mdadm", lambda lines: _arrays(text(path), lines), if_nothing=None)


def _arrays(content: str, lines: LineParser) -> Iterator[Sample]:
    """An array is a line that begins at the margin, with the indented ones below it."""
    array: list[str] = []
    for line in [*content.split("\n"), "end"]:
        if line.startswith((" ", "\t")):
            array.append(line)
        elif line.strip():
            if array:
                yield from lines.take("\n".join(array), lambda text: raid(text.split("\n")))
            array = [] if line.startswith(("Personalities", "unused", "end")) else [line]


def raid(lines: Sequence[str]) -> Iterator[Sample]:
    """One array of /proc/mdstat. Raises ValueError or LookupError where it is none."""
    device, colon, activity, *_ = lines[0].split()
    if colon != ":" or activity not in ("active", "inactive"):
        raise ValueError(f"{device!r} is no array")
    of_device = labels(device=device)
    blocks = count(lines[1].split()[0])
    required, active = _disks(lines[0], lines[1])
    state, synced = _state(activity, lines[2:], blocks)
    disks = {"active": active, "failed": lines[0].count("(F)"), "spare": lines[0].count("(S)")}
    yield Sample(_REQUIRED, required, of_device)
    for name, number in disks.items():
        yield Sample(_DISKS, number, labels(device=device, state=name))
    for name in MD_STATES:
        yield Sample(_STATE, float(name == state), labels(device=device, state=name))
    yield Sample(_BLOCKS, blocks, of_device)
    yield Sample(_SYNCED, synced, of_device)


def _disks(heading: str, status: str) -> tuple[float, float]:
    """How many disks there should be, and are. Without redundancy all are needed."""
    if "raid0" in heading or "linear" in heading:
        return heading.count("["), heading.count("[")
    if "inactive" in heading:
        return 0, 0
    if not (match := _DISKS_UP.search(status)):
        raise ValueError("an array without its number of disks")
    return float(match[1]), float(match[2])


def _state(activity: str, lines: Sequence[str], blocks: float) -> tuple[str, float]:
    """What the array does, and how many of its blocks are in sync."""
    for line in lines:
        if doing := _SYNC.search(line):
            done = _PROGRESS.search(line)  # DELAYED and PENDING have none
            return _AS_A_STATE[doing[1]], float(done[1]) if done else 0.0
    return activity, blocks
