"""Remote write's end: a request in, samples in the store, and what became of them."""

from collections.abc import Callable
from typing import NamedTuple

from tocsin_alerting.remote_write.fast_scan import RequestSamples, merged, read_usual, scan
from tocsin_alerting.remote_write.prompb import read_series, series_spans
from tocsin_alerting.remote_write.ref_cache import RefStore, SeriesRefCache
from tocsin_alerting.remote_write.result import ReceiveResult, Refusals, RemoteWriteCounters
from tocsin_alerting.remote_write.slow_path import (
    LabelPairs,
    describe_series,
    parse_series,
    register_series,
)
from tocsin_alerting.remote_write.snappy import decompress
from tocsin_alerting.remote_write.version2 import read_series_v2
from tocsin_alerting.tsdb.backlog import Backlogged
from tocsin_alerting.tsdb.native_histograms import NativeHistograms
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender

TRIES = 3


class Busy(Exception):
    """The store could not take it now: to be sent again."""


class Receiver:
    """Takes one request at a time, in any thread. `counters` counts; `natives` knows what came as
    native histograms."""

    def __init__(self, store: RefStore) -> None:
        self._store = store
        self.natives = NativeHistograms()
        self._refs = SeriesRefCache(store)
        self.counters = RemoteWriteCounters()

    def receive(self, body: bytes, now_ms: int, sender: Sender = UNKNOWN) -> ReceiveResult:
        """Writes what is good in a request of version 1.0. Raises Malformed, RequestTooLarge or
        Busy, and then nothing of it was written."""
        return self._receive(body, now_ms, sender, _VERSION_1)

    def receive_v2(self, body: bytes, now_ms: int, sender: Sender = UNKNOWN) -> ReceiveResult:
        """The same of version 2.0."""
        return self._receive(body, now_ms, sender, _VERSION_2)

    def _receive(
        self, body: bytes, now_ms: int, sender: Sender, version: "_Version"
    ) -> ReceiveResult:
        data = decompress(body)
        for _ in range(TRIES):
            try:
                result = self._write(data, now_ms, sender, version)
            except Backlogged as error:
                raise Busy(str(error)) from None
            if result is not None:
                self.counters.add(result)
                return result
        raise Busy("the store is busy with its series; send it again")

    def _write(
        self, data: bytes, now_ms: int, sender: Sender, version: "_Version"
    ) -> ReceiveResult | None:
        """None: the numbers of the series are no longer good."""
        ref_cache, refusals = self._refs, Refusals()
        batch = version.decode(self, data, refusals, sender)
        if batch is None:
            return None
        for name in refusals.native_histograms:
            self.natives.add(name, now_ms)
        if not len(batch.refs):
            return ReceiveResult(0, refusals.counts, refusals.first)
        columns = batch.refs, batch.times, batch.values
        written = self._store.write_refs(ref_cache.epoch, *columns, now_ms)
        if written is None:
            ref_cache.clear()
            return None
        if written.first_refused is not None:
            place, reason = written.first_refused
            refusals.counts.update(written.refused)
            refusals.name_first(*_describe_refused(version, data, batch, place, reason))
        return ReceiveResult(written.accepted, refusals.counts, refusals.first)

    def decode_v2(self, data: bytes, refusals: Refusals, sender: Sender) -> RequestSamples | None:
        """None: the numbers of the series are no longer good."""
        return register_series(read_series_v2(data), self._refs, refusals, sender)

    def decode(self, data: bytes, refusals: Refusals, sender: Sender) -> RequestSamples | None:
        """The same, by the bytes that were seen before."""
        ref_cache = self._refs
        scanned = ref_cache.requests.find(data, ref_cache.ref_by_key)
        if scanned is None:
            scanned = scan(data, ref_cache.ref_by_key)
            ref_cache.requests.learn(data, scanned)
        batches = []
        if len(scanned.stops):
            batches.append(read_usual(data, scanned.refs, scanned.stops, scanned.zeros))
        if scanned.others:
            others = parse_series(data, scanned.others, ref_cache.ref_by_key)
            rest = register_series(others, ref_cache, refusals, sender)
            if rest is None:
                return None
            batches.append(rest)
        return merged(batches)


class _Version(NamedTuple):
    """How a request is read: all of it, and the labels of the series that stops at a place."""

    decode: Callable[[Receiver, bytes, Refusals, Sender], RequestSamples | None]
    pairs_at: Callable[[bytes, int], LabelPairs]


def _pairs_at(data: bytes, stop: int) -> LabelPairs:
    begin = next(begin for begin, end in series_spans(data) if end == stop)
    return read_series(data, begin, stop, {}).pairs


def _pairs_at_v2(data: bytes, stop: int) -> LabelPairs:
    return next(series.pairs for series in read_series_v2(data) if series.stop == stop)


_VERSION_1 = _Version(Receiver.decode, _pairs_at)
_VERSION_2 = _Version(Receiver.decode_v2, _pairs_at_v2)


def _describe_refused(
    version: _Version, data: bytes, batch: RequestSamples, place: int, reason: str
) -> tuple[int, str]:
    """Where a sample that the store refused stands in the request, and which one it is."""
    stop = int(batch.stops[place])
    series = describe_series(version.pairs_at(data, stop))
    return stop, f"{series} at {int(batch.times[place]) / 1000:.3f}: {reason}"
