"""The mount table: /proc/1/mountinfo."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tocsin_exporter.collectors.reading import text
from tocsin_exporter.collectors.site import Site

_ESCAPED = re.compile(r"\\(040|011|012|134)")
_READ_ONLY = {"ro", "emergency_ro"}


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted filesystem; `point` is the path on the host."""

    device: str
    point: str
    kind: str
    read_only: bool


def watched(site: Site) -> list[Mount]:
    """The mounts that are not excluded, each (device, point, kind) once.

    The table of process 1 is the host's; where it is hidden, our own has to do.
    """
    try:
        table = text(site.proc / "1/mountinfo")
    except OSError:
        table = text(site.proc / "self/mountinfo")
    points, kinds = re.compile(site.mounts_excluded), re.compile(site.filesystems_excluded)
    wanted = {
        (mount.device, mount.point, mount.kind): mount
        for mount in parse(table, str(site.root))
        if not points.search(mount.point) and not kinds.search(mount.kind)
    }
    return list(wanted.values())


def parse(table: str, root: str = "/") -> Iterator[Mount]:
    """Lines of proc(5) mountinfo: fields, a lone `-`, then kind, device and its options."""
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, _, point, options, *_ = before.split(" ")
        kind, device, *more = after.split(" ")
        flags = {*options.split(","), *(more[0].split(",") if more else ())}
        shown = _without(root, _unescape(point))
        yield Mount(_unescape(device), shown, kind, not flags.isdisjoint(_READ_ONLY))


def _unescape(field: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), field)


def _without(root: str, point: str) -> str:
    """/host/data under root /host is the host's /data."""
    if root == "/" or not (point == root or point.startswith(root + "/")):
        return point
    return point[len(root) :] or "/"
