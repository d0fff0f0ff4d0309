"""Space on filesystems: statvfs, on a few threads however many mounts there are.

statvfs on a dead NFS server never returns and cannot be stopped. Such a mount costs its own
metrics, and its node_filesystem_device_error is 1 until the call comes back. When so many hang that
no thread is left, or the others take too long, what was not read is a failure of the collector.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

from tocsin_exporter.catalogue import HOST, OWN
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser
from tocsin_exporter.collectors.mounts import Mount, watched
from tocsin_exporter.collectors.pool import Pool
from tocsin_exporter.snapshot import Sample, labels

_SIZE = HOST["node_filesystem_size_bytes"]
_FREE = HOST["node_filesystem_free_bytes"]
_AVAILABLE = HOST["node_filesystem_avail_bytes"]
_FILES = HOST["node_filesystem_files"]
_FILES_FREE = HOST["node_filesystem_files_free"]
_READ_ONLY = HOST["node_filesystem_readonly"]
_ERROR = HOST["node_filesystem_device_error"]
_MOUNTS = OWN["tocsin_filesystem_mounts"]

THREADS = 8
SPARE_THREADS = 24  # that may hang before others have fewer than THREADS
_ROUNDS = 1.8  # times the patience with one mount: within the deadline of the collector


class Filesystem:
    name = "filesystem"

    def __init__(self, host: Host) -> None:
        self.lines = LineParser(self.name)
        self._host = host
        self._table = HangGuard("mount table")  # which waits while something is being mounted
        self._pool = Pool[str, os.statvfs_result]("statvfs", THREADS, SPARE_THREADS)
        self._states: dict[str, int] = {}
        self._answered: set[str] = set()  # in the last round: asked first in the next

    async def collect(self) -> Sequence[Sample]:
        """Raises CollectorError, with what was read, when there was no time for some mounts."""
        mounts = await self._table.run(lambda: watched(self._host, self.lines))
        points = {mount.point: None for mount in mounts}
        first = sorted(points, key=lambda point: point not in self._answered)
        calls = [(point, partial(self._host.statvfs, self._path(point))) for point in first]
        patience = self._host.mount_seconds
        answered = await self._pool.run(calls, patience, patience * _ROUNDS)
        answers = {p: sample for p, sample in answered.items() if not isinstance(sample, Exception)}
        self._answered = set(answers)
        samples = [sample for mount in mounts for sample in parse(mount, answers.get(mount.point))]
        return self._complete(samples, points.keys(), answered, answers)

    def _complete(
        self,
        samples: list[Sample],
        points: Collection[str],
        answered: Mapping[str, object],
        answers: Mapping[str, object],
    ) -> list[Sample]:
        hung = self._pool.hung.intersection(points)
        missed = len(points) - len(answered) - len(hung)
        self._states = {
            "read": len(answers),
            "error": len(answered) - len(answers),
            "hung": len(hung),
            "missed": missed,
        }
        if missed:
            raise CollectorError(f"no time for {missed} of {len(points)} mounts", samples)
        return samples

    def health(self) -> Iterator[Sample]:
        for state, count in self._states.items():
            yield Sample(_MOUNTS, float(count), (("state", state),))

    def _path(self, point: str) -> str:
        return os.path.join(self._host.root, point.lstrip("/"))

    def close(self) -> None:
        self._table.close()
        self._pool.close()


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
