"""Samples of our store to a receiver elsewhere, by remote write 1.0 or 2.0.

The store is the queue: its WAL and its blocks have every sample, over a kill and over an outage as
long as the retention. What is kept besides is how far each series was sent. Each round looks a few
minutes back from there, as samples may come late (a rule whose engine is slow), and sends what is
newer than what was sent of its series.
Formats: https://prometheus.io/docs/specs/prw/remote_write_spec/ and its 2.0.
"""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson

from tocsin_alerting.loops.remote_client import RemoteClient, RequestFailed
from tocsin_alerting.remote_read.response import write_labels, write_samples
from tocsin_alerting.remote_read.samples import ReadSamples
from tocsin_alerting.remote_write.prompb import write_number, write_part, write_varint
from tocsin_alerting.remote_write.snappy import compress
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels
from tocsin_exporter.threads import Threads, in_thread

log = logging.getLogger(__name__)
T = TypeVar("T")

LATE_MS = 3 * 60_000  # so late a sample may come to the store, and is sent all the same
FIRST_MS = 60_000  # before the start, the very first time
STEP_MS = 5 * 60_000  # are read at once, while there is much to catch up with
ROUND_SECONDS = 5.0
MOST_SAMPLES = 2_000  # in a request
_BACKOFF_S = (1.0, 10.0)
_REFUSED = (400, 413, 422)
# How Prometheus, Mimir and Cortex say that a sample is older than all that they take.
_TOO_OLD = re.compile("out of bounds|too old|too far in the past", re.IGNORECASE)
_TOO_NEW = 415  # for a receiver that knows 1.0 alone
_HEADERS = {
    1: {
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    },
    2: {
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "X-Prometheus-Remote-Write-Version": "2.0.0",
    },
}


@dataclass(frozen=True, slots=True, eq=False)
class UnsentSeries:
    """Samples of one series that follow those that were sent; `digest` names it."""

    digest: str
    labels: Labels
    times: Ints
    values: Floats

    def cut(self, start: int, stop: int) -> "UnsentSeries":
        """Some of its samples."""
        return UnsentSeries(
            self.digest, self.labels, self.times[start:stop], self.values[start:stop]
        )


@dataclass(slots=True)
class SendProgress:
    """All samples up to `complete_ms`, but for those that come late, were sent, and of each series
    in `sent_ms` those up to there. Nothing from before `begin_ms` is sent."""

    begin_ms: int
    complete_ms: int
    sent_ms: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, now_ms: int) -> "SendProgress":
        """What the last run left; the present, where it left nothing that can be read, and what
        the first evaluations of this run are dated."""
        fresh = cls(now_ms - FIRST_MS, now_ms)
        try:
            data = orjson.loads(file.read_bytes())
            sent = {str(name): int(at) for name, at in data["sent_ms"].items()}
            return cls(int(data["begin_ms"]), int(data["complete_ms"]), sent)
        except FileNotFoundError:
            return fresh
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("cannot read %s, samples are sent from now on: %s", file, error)
            return fresh

    def write(self, file: Path) -> None:
        """Raises OSError."""
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".tmp")
        with fresh.open("wb") as opened:
            opened.write(orjson.dumps(self))
            opened.flush()
            os.fsync(opened.fileno())  # else a power cut may leave an empty one
        os.replace(fresh, file)

    @property
    def floor_ms(self) -> int:
        """What is not newer was sent, or is not to be sent."""
        return max(self.begin_ms, self.complete_ms - LATE_MS)

    def unsent(self, read: ReadSamples) -> Iterator[UnsentSeries]:
        """Of what was read from `floor_ms` on."""
        for labels, times, values in read.series():
            digest = blake2b(repr(labels).encode(errors="replace"), digest_size=8).hexdigest()
            start = int(np.searchsorted(times, self.sent_ms.get(digest, self.floor_ms), "right"))
            if start < len(times):
                yield UnsentSeries(digest, labels, times[start:], values[start:])

    def sent(self, batch: Sequence[UnsentSeries]) -> None:
        for one in batch:
            self.sent_ms[one.digest] = int(one.times[-1])

    def completed(self, until_ms: int) -> None:
        """What is older than the floor need not be known of each series."""
        self.complete_ms = max(self.complete_ms, until_ms)
        floor_ms = self.floor_ms
        self.sent_ms = {name: at for name, at in self.sent_ms.items() if at > floor_ms}

    def shift(self, delta_ms: int) -> None:
        """The wall clock was set, and the store's samples with it."""
        self.begin_ms += delta_ms
        self.complete_ms += delta_ms
        self.sent_ms = {name: at + delta_ms for name, at in self.sent_ms.items()}


def batches(
    unsent: Iterator[UnsentSeries], most: int = MOST_SAMPLES
) -> Iterator[list[UnsentSeries]]:
    """Requests of at most so many samples; the samples of a series stay in their order."""
    batch, room = list[UnsentSeries](), most
    for series in unsent:
        start = 0
        while start < len(series.times):
            part = series.cut(start, start + room)
            batch.append(part)
            start += len(part.times)
            room -= len(part.times)
            if not room:
                yield batch
                batch, room = [], most
    if batch:
        yield batch


def split(
    batch: Sequence[UnsentSeries], at_ms: int
) -> tuple[list[UnsentSeries], list[UnsentSeries]]:
    """What is no newer than `at_ms`, and what is."""
    old, newer = list[UnsentSeries](), list[UnsentSeries]()
    for one in batch:
        middle, stop = int(np.searchsorted(one.times, at_ms, "right")), len(one.times)
        old += [one.cut(0, middle)] if middle else []
        newer += [one.cut(middle, stop)] if middle < stop else []
    return old, newer


def message_v1(batch: Sequence[UnsentSeries]) -> bytes:
    """prometheus.WriteRequest."""
    return b"".join(
        write_part(1, write_labels(one.labels) + write_samples(one.times, one.values))
        for one in batch
    )


def message_v2(batch: Sequence[UnsentSeries]) -> bytes:
    """io.prometheus.write.v2.Request: each text once, and the series refer to them."""
    symbols: dict[str, int] = {"": 0}
    parts = []
    for one in batch:
        refs = [symbols.setdefault(text, len(symbols)) for pair in one.labels for text in pair]
        packed = write_part(1, b"".join(map(write_varint, refs)))
        samples = b"".join(
            write_part(2, b"\x09" + value.tobytes() + write_number(2, at_ms))
            for value, at_ms in zip(one.values, one.times.tolist(), strict=True)
        )
        parts.append(write_part(5, packed + samples))
    return b"".join([*(write_part(4, text.encode()) for text in symbols), *parts])


_MESSAGES = {1: message_v1, 2: message_v2}


@dataclass(slots=True)
class SendCounts:
    """Samples that were taken and that were refused, and requests that failed."""

    sent: int = 0
    refused: int = 0
    errors: int = 0


Read = Callable[[int, int], ReadSamples]
"""The samples to send between two times, in a thread. It may raise."""


class SampleSender:
    """One receiver; `progress_file` has how far it is. `now_ms` reads the wall clock."""

    def __init__(
        self,
        client: RemoteClient,
        timeout_s: float,
        protocol: int,
        read: Read,
        progress_file: Path,
        now_ms: Callable[[], int],
        threads: Threads,
    ) -> None:
        self.client, self.counts = client, SendCounts()
        self.progress: SendProgress | None = None
        self._timeout_s, self._protocol, self._read = timeout_s, protocol, read
        self._file, self._now_ms, self._threads = progress_file, now_ms, threads
        self._too_old_ms: int | None = None  # what is no newer was too old for it
        self._says_too_old = self._has_told_refusal = False
        self._is_troubled = False

    async def run(self) -> None:
        """For ever: a round each few seconds, and at once while there is more."""
        pause_s = _BACKOFF_S[0]
        while True:
            try:
                caught_up = await self.round()
            except RequestFailed as error:
                self._tell(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _BACKOFF_S[1])
                continue
            self._tell("")
            pause_s = _BACKOFF_S[0]
            await asyncio.sleep(ROUND_SECONDS if caught_up else 0)

    async def round(self) -> bool:
        """Send what is new, of a few minutes at most; whether that was all. Raises RequestFailed;
        what was sent by then is not sent again."""
        progress = await self._loaded()
        now_ms, self._has_told_refusal = self._now_ms(), False
        until_ms = min(now_ms, progress.complete_ms + STEP_MS)
        floor_ms = progress.floor_ms
        unsent = await self._in_thread(
            lambda: list(batches(progress.unsent(self._read(floor_ms + 1, until_ms))))
        )
        try:
            for batch in unsent:
                await self._send(batch, progress)
            progress.completed(until_ms)
        finally:
            if unsent or until_ms < now_ms:
                await self._in_thread(lambda: self._save(progress))
        return until_ms >= now_ms

    def shift(self, delta_ms: int) -> None:
        if self.progress is not None:
            self.progress.shift(delta_ms)

    @property
    def behind_ms(self) -> int:
        """How old the oldest sample may be that waits; 0 before the first round."""
        return 0 if self.progress is None else max(0, self._now_ms() - self.progress.complete_ms)

    async def _loaded(self) -> SendProgress:
        if self.progress is None:
            now_ms = self._now_ms()
            self.progress = await self._in_thread(lambda: SendProgress.read(self._file, now_ms))
            await self._in_thread(lambda: self._save(self.progress))
        return self.progress

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await in_thread(work, self._threads)

    def _save(self, progress: SendProgress | None) -> None:
        try:
            if progress is not None:
                progress.write(self._file)
        except OSError as error:  # a restart sends some samples twice
            log.error("cannot write %s: %s", self._file, error.strerror)

    async def _send(self, batch: list[UnsentSeries], progress: SendProgress) -> None:
        """All of it, without what is refused. Samples that are no newer than one which was too old
        for the receiver go by themselves: it need not be asked of each of them."""
        if self._too_old_ms is None:
            await self._search(batch, progress)
            return
        old, newer = split(batch, self._too_old_ms)
        if old:
            if await self._post(old):
                self._too_old_ms = None
                progress.sent(old)
            elif self._says_too_old:
                self._drop(old, progress)
            else:
                await self._halves(old, progress)
        if newer:
            await self._search(newer, progress)

    async def _search(self, batch: list[UnsentSeries], progress: SendProgress) -> None:
        """What is refused is looked for in halves, down to single samples: an error is of a whole
        request, and a request may hold what the receiver takes."""
        if await self._post(batch):
            progress.sent(batch)
        else:
            await self._halves(batch, progress)

    async def _halves(self, batch: list[UnsentSeries], progress: SendProgress) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            parts = [batch[:middle], batch[middle:]]
        elif len(batch[0].times) > 1:
            middle = len(batch[0].times) // 2
            parts = [[batch[0].cut(0, middle)], [batch[0].cut(middle, len(batch[0].times))]]
        else:
            if self._says_too_old:
                self._too_old_ms = max(self._too_old_ms or 0, int(batch[0].times[0]))
            self._drop(batch, progress)
            return
        for part in parts:
            await self._send(part, progress)

    def _drop(self, batch: Sequence[UnsentSeries], progress: SendProgress) -> None:
        """The receiver refused them, and would again."""
        self.counts.refused += sum(len(one.times) for one in batch)
        progress.sent(batch)

    async def _post(self, batch: Sequence[UnsentSeries]) -> bool:
        """Whether it was taken. Raises RequestFailed where that is not known, or not yet."""
        message = _MESSAGES[self._protocol]
        body = await self._in_thread(lambda: compress([message(batch)]))  # some 20 ms
        headers = {"Content-Encoding": "snappy", **_HEADERS[self._protocol]}
        answer = await self.client.post("", body, self._timeout_s, headers)
        if 200 <= answer.status < 300:
            self.counts.sent += sum(len(one.times) for one in batch)
            return True
        if answer.status == _TOO_NEW and self._protocol == 2:
            log.warning("receiver of samples knows remote write 1.0 alone: %s", self.client.address)
            self._protocol = 1
            return await self._post(batch)
        if answer.status in _REFUSED:
            self._says_too_old = _TOO_OLD.search(answer.text) is not None
            self._tell_refused(str(self.client.failure(f"HTTP {answer.status}: {answer.text}")))
            return False
        raise self.client.failure(f"HTTP {answer.status}: {answer.text}")

    def _tell_refused(self, why: str) -> None:
        """Once a round, however many requests it takes to find them."""
        if not self._has_told_refusal:
            log.warning("receiver refuses samples: %s", why)
        self._has_told_refusal = True

    def _tell(self, error: str) -> None:
        """Once that it does not take samples, and once that it does again."""
        self.counts.errors += bool(error)
        if error and not self._is_troubled:
            log.warning("sending samples failed, retrying; the store keeps them: %s", error)
        elif self._is_troubled and not error:
            log.info("samples are sent again", extra={"receiver": self.client.address})
        self._is_troubled = bool(error)
