"""Space on filesystems: statvfs, one lane a mount.

statvfs on a dead NFS server never returns and cannot be stopped. Such a mount costs its own
metrics, and its node_filesystem_device_error is 1 until the call comes back.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.collector import Stuck
from tocsin_exporter.collectors.lane import Lane
from tocsin_exporter.collectors.mounts import Mount, watched
from tocsin_exporter.collectors.reading import Lines
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Sample, labels

_SIZE = HOST["node_filesystem_size_bytes"]
_FREE = HOST["node_filesystem_free_bytes"]
_AVAILABLE = HOST["node_filesystem_avail_bytes"]
_FILES = HOST["node_filesystem_files"]
_FILES_FREE = HOST["node_filesystem_files_free"]
_READ_ONLY = HOST["node_filesystem_readonly"]
_ERROR = HOST["node_filesystem_device_error"]


class Filesystem:
    name = "filesystem"

    def __init__(self, site: Site) -> None:
        self.lines = Lines(self.name)
        self._site = site
        self._lanes: dict[str, Lane] = {}

    async def collect(self) -> Sequence[Sample]:
        mounts = watched(self._site, self.lines)
        points = {mount.point for mount in mounts}
        self._leave({*self._lanes} - points)
        answers = dict(await asyncio.gather(*(self._stat(point) for point in points)))
        return [sample for mount in mounts for sample in parse(mount, answers[mount.point])]

    async def _stat(self, point: str) -> tuple[str, os.statvfs_result | None]:
        """None for a mount that does not answer in time or answers with an error."""
        lane = self._lanes.setdefault(point, Lane(f"statvfs {point}"))
        path = os.path.join(self._site.root, point.lstrip("/"))
        try:
            async with asyncio.timeout(self._site.mount_seconds):
                return point, await lane.run(lambda: self._site.statvfs(path))
        except (OSError, Stuck):  # TimeoutError is an OSError
            return point, None

    def _leave(self, points: set[str]) -> None:
        for point in points:
            self._lanes.pop(point).close()

    def close(self) -> None:
        self._leave({*self._lanes})


def parse(mount: Mount, answer: os.statvfs_result | None) -> Iterator[Sample]:
    """`free` is what root could still use, `avail` what others can."""
    of_mount = labels(
        device=_shown(mount.device), mountpoint=_shown(mount.point), fstype=_shown(mount.kind)
    )
    yield Sample(_READ_ONLY, float(mount.read_only), of_mount)
    yield Sample(_ERROR, float(answer is None), of_mount)
    if answer is None:
        return
    yield Sample(_SIZE, float(answer.f_blocks * answer.f_frsize), of_mount)
    yield Sample(_FREE, float(answer.f_bfree * answer.f_frsize), of_mount)
    yield Sample(_AVAILABLE, float(answer.f_bavail * answer.f_frsize), of_mount)
    yield Sample(_FILES, float(answer.f_files), of_mount)
    yield Sample(_FILES_FREE, float(answer.f_ffree), of_mount)


def _shown(name: str) -> str:
    """Bytes that are not UTF-8 become U+FFFD, as on the rest of the page."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
