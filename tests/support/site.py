"""A recorded machine: the files under tests/exporter/recorded, and a clock that stands."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tocsin_exporter.collectors.host import Host
from tocsin_exporter.snapshot import Labels, Sample

RECORDED = Path(__file__).parents[1] / "exporter" / "recorded"
NOW = 1_795_255_284.5


def statvfs(_path: str) -> os.statvfs_result:
    """A filesystem of 1000 blocks of 4096 bytes: 400 free, 300 for others; 50 files, 20 free."""
    return os.statvfs_result((4096, 4096, 1000, 400, 300, 50, 20, 20, 0, 255))


def recorded_site(
    root: Path = RECORDED, statvfs: Callable[[str], os.statvfs_result] = statvfs, **more: Any
) -> Host:
    return Host(
        now=lambda: NOW,
        proc=root / "proc",
        sys=root / "sys",
        udev=root / "udev",
        statvfs=statvfs,
        machine="x86_64",
        **more,
    )


def table(samples: Iterable[Sample]) -> dict[tuple[str, Labels], float]:
    """Samples by (name, labels); a name and labels that come twice fail."""
    rows: dict[tuple[str, Labels], float] = {}
    for sample in samples:
        key = (sample.family.name + sample.suffix, sample.labels)
        assert key not in rows, f"{key} comes twice"
        rows[key] = sample.value
    return rows


def only(rows: dict[tuple[str, Labels], float], name: str, /, **wanted: str) -> float:
    """The one value of this name whose labels contain the wanted ones."""
    found = [
        value
        for (n, labels), value in rows.items()
        if n == name and wanted.items() <= dict(labels).items()
    ]
    assert len(found) == 1, f"{len(found)} rows of {name} {wanted}"
    return found[0]
