"""The mount table: /proc/1/mountinfo."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, text

_ESCAPED = re.compile(r"\\(040|011|012|043|134)")
_BYTES_KEPT = "surrogateescape"
_READ_ONLY = {"ro", "emergency_ro"}


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted filesystem; `point` is the path on the host.

    Bytes that are not UTF-8 are surrogates here: the path must lead to the mount.
    """

    device: str
    point: str
    kind: str
    read_only: bool


def watched(host: Host, lines: LineParser) -> list[Mount]:
    """The mounts that are not excluded, each (device, point, kind) once.

    The table of process 1 is the host's; where it is hidden, our own has to do. Raises
    CollectorError where no line of it can be read.
    """
    try:
        table = text(host.proc / "1/mountinfo", _BYTES_KEPT)
    except OSError:
        table = text(host.proc / "self/mountinfo", _BYTES_KEPT)
    mounts = list(lines.parse(table, partial(parse, root=str(host.root))))
    if not mounts:
        raise CollectorError("no line of the mount table can be read")
    points = host.settings.wanted("filesystem.mount-points")
    kinds = host.settings.wanted("filesystem.fs-types")
    wanted = {
        (mount.device, mount.point, mount.kind): mount
        for mount in mounts
        if points(mount.point) and kinds(mount.kind)
    }
    return list(wanted.values())


def parse(line: str, root: str = "/") -> Iterator[Mount]:
    """A line of proc(5) mountinfo: fields, a lone `-`, then kind, device and its options."""
    before, _, after = line.partition(" - ")
    _, _, _, _, point, options, *_ = before.split(" ")
    kind, device, more, *_ = after.split(" ")
    if not point.startswith("/") or not kind:
        raise ValueError(f"{point!r} is no path")
    flags = {*options.split(","), *more.split(",")}
    shown = _without(root, _unescape(point))
    yield Mount(_unescape(device), shown, kind, not flags.isdisjoint(_READ_ONLY))


def _unescape(field: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), field)


def _without(root: str, point: str) -> str:
    """/host/data under root /host is the host's /data."""
    if root == "/" or not (point == root or point.startswith(root + "/")):
        return point
    return point[len(root) :] or "/"
