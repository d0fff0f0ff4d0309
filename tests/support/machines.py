"""Machines that we do not have: a YAML file of paths and contents each, laid out in a directory."""

from pathlib import Path

import yaml

from support.site import NOW, RECORDED, statvfs
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.host import Host

MACHINES = RECORDED / "machines"
NAMES = sorted(path.stem for path in MACHINES.glob("*.yml"))


def lay_out(name: str, root: Path) -> Path:
    """The tree of that machine below `root`."""
    for path, content in yaml.safe_load((MACHINES / f"{name}.yml").read_text()).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            file.symlink_to(content.removeprefix("-> "))
        else:
            file.write_text(content)
    return root


def machine(root: Path, settings: CollectorSettings) -> Host:
    return Host(
        now=lambda: NOW,
        proc=root / "proc",
        sys=root / "sys",
        udev=root / "udev",
        root=root,
        statvfs=statvfs,
        machine="x86_64",
        settings=settings,
    )
