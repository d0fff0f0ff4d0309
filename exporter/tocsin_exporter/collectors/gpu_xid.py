"""XID errors: NVML tells of them once, as events, so somebody has to be listening all the time."""

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from threading import Event, Lock, Thread
from typing import Any

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.nvml_query import GpuLabels, with_labels
from tocsin_exporter.snapshot import Labels, LastSample, Sample

log = logging.getLogger(__name__)

# Those that mean a broken GPU or a needed reset; each exists at 0 from the start, so that
# increase() sees the first one.
CRITICAL = (
    *(46, 48, 62, 64, 74, 79, 94, 95, 109, 110, 119, 120, 136, 140, 143),
    *range(144, 151),
    *(155, 156, 158),
)
_NEWEST, _COUNT, _LAST = REMEMBERED = (
    "DCGM_FI_DEV_XID_ERRORS",
    "gpu_xid_errors_total",
    "gpu_xid_last_timestamp_seconds",
)
_REMEMBERED_SECONDS = 86_400.0
_WINDOW_SECONDS = 300.0  # of DCGM_EXP_XID_ERRORS_COUNT, dcgm-exporter's default
_MOST_IN_WINDOW = 10_000
_WINDOW = ("window_size_in_ms", str(int(_WINDOW_SECONDS * 1000)))
_WAIT_MS = 1000
_RETRY_SECONDS = 30.0


class XidWatcher:
    """Listens on a daemon thread; counts by (UUID, xid). `now` gives Unix seconds."""

    def __init__(self, nvml: Any, now: Callable[[], float]) -> None:
        self._nvml = nvml
        self._now = now
        self._lock = Lock()
        self._counts: dict[tuple[str, int], int] = {}
        self._last: dict[tuple[str, int], float] = {}
        self._newest: dict[str, int] = {}
        self._recent: deque[tuple[float, str, int]] = deque(maxlen=_MOST_IN_WINDOW)
        self._labels: dict[str, Labels] = {}  # of each GPU that was ever seen, by UUID
        self._answering: set[int] = set()
        self.listening: set[int] = set()  # the GPUs whose events come
        self._silent: set[int] = set()  # those that do not report events
        self._stop = Event()
        self._thread: Thread | None = None
        self._has_events = True

    def listen(self, index: int) -> None:
        """Listen to a GPU that has answered: one that hangs would keep the thread from others."""
        self._answering.add(index)
        with self._lock:
            gone = self._thread is None or not self._thread.is_alive()
            if gone and self._has_events:
                thread = Thread(target=self._listen, name="xid events", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # tried again at the next reading, which is not lost
                    log.warning("failed to listen for XID events", extra={"error": str(error)})
                    return
                self._thread = thread

    def resume(self, last: Iterable[LastSample]) -> None:
        """Go on from what was counted before a restart."""
        with self._lock:
            for name, named, value in last:
                uuid, xid = named.get("UUID", ""), named.get("xid", "")
                self._labels[uuid] = (("UUID", uuid), ("gpu", named.get("gpu", "")))
                if name == _NEWEST:
                    self._newest[uuid] = int(value)
                elif name == _COUNT and value:
                    self._counts[uuid, int(xid)] = int(value)
                elif name == _LAST:
                    self._last[uuid, int(xid)] = value

    def move(self, seconds: float) -> None:
        """The clock was set; what came since is by the new one already."""
        with self._lock:
            now = self._now()
            self._last = {key: min(at + seconds, now) for key, at in self._last.items()}
            moved = [(min(at + seconds, now), uuid, xid) for at, uuid, xid in self._recent]
            self._recent = deque(moved, _MOST_IN_WINDOW)

    def close(self) -> None:
        self._stop.set()

    def record(self, uuid: str, xid: int) -> None:
        with self._lock:
            self._counts[uuid, xid] = self._counts.get((uuid, xid), 0) + 1
            self._last[uuid, xid] = self._now()
            self._newest[uuid] = xid
            self._recent.append((self._now(), uuid, xid))
        log.warning("XID error", extra={"uuid": uuid, "xid": xid})

    def samples(self, identity: GpuLabels) -> Iterator[Sample]:
        uuid = dict(identity.own)["UUID"]
        with self._lock:
            self._labels[uuid] = identity.own
            newest = self._newest.get(uuid, 0)
            since = self._now() - _WINDOW_SECONDS
            recent = Counter(xid for at, one, xid in self._recent if one == uuid and at > since)
        yield Sample(GPU[_NEWEST], float(newest), identity.dcgm)
        for xid, number in sorted(recent.items()):
            labels = with_labels(identity.dcgm, _WINDOW, ("xid", str(xid)))
            yield Sample(GPU["DCGM_EXP_XID_ERRORS_COUNT"], float(number), labels)
        yield from self._errors(uuid, identity.own, dict.fromkeys(CRITICAL, 0))

    def of_missing(self, present: Collection[str]) -> Iterator[Sample]:
        """The errors of the last day of GPUs that do not answer: an XID is often why."""
        since = self._now() - _REMEMBERED_SECONDS
        with self._lock:
            fresh = {uuid for (uuid, _), at in self._last.items() if at > since}
            missing = {u: self._labels[u] for u in fresh if u in self._labels and u not in present}
        for uuid, own in missing.items():
            yield from self._errors(uuid, own, {})

    def _errors(self, uuid: str, own: Labels, counts: dict[int, int]) -> Iterator[Sample]:
        with self._lock:
            counts |= {x: n for (u, x), n in self._counts.items() if u == uuid}
            last = {x: at for (u, x), at in self._last.items() if u == uuid}
        for xid, number in sorted(counts.items()):
            yield Sample(GPU[_COUNT], float(number), (*own, ("xid", str(xid))))
        for xid, at in sorted(last.items()):
            yield Sample(GPU[_LAST], at, (*own, ("xid", str(xid))))

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen_until_error()
            except Exception as error:  # why: nobody else listens, so no fault may end the thread
                if getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_SUPPORTED:
                    log.info("driver does not report XID events")
                    self._has_events = False
                    return
                log.warning("XID events lost, listening again", extra={"error": str(error)})
                self._stop.wait(_RETRY_SECONDS)

    def _listen_until_error(self) -> None:
        nvml = self._nvml
        events = nvml.nvmlEventSetCreate()
        self.listening = set()
        try:
            while not self._stop.is_set():
                for index in sorted(self._answering - self.listening - self._silent):
                    self.listening |= self._register(index, events)
                if self.listening:
                    self._take(events)
                else:
                    self._stop.wait(_WAIT_MS / 1000)
        finally:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlEventSetFree(events)

    def _register(self, index: int, events: Any) -> set[int]:
        """One GPU that cannot be listened to costs no other its events."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_NOT_SUPPORTED:
                log.info("GPU does not report XID events", extra={"gpu": index})
                self._silent.add(index)
            self._answering.discard(index)  # until it answers again
            return set()
        return {index}

    def _take(self, events: Any) -> None:
        nvml = self._nvml
        try:
            event = nvml.nvmlEventSetWait_v2(events, _WAIT_MS)
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_TIMEOUT:
                return
            raise
        if event.eventType == nvml.nvmlEventTypeXidCriticalError:
            uuid = nvml.nvmlDeviceGetUUID(event.device)
            self.record(uuid if isinstance(uuid, str) else uuid.decode(), int(event.eventData))
