"""Remote write's end: a request in, samples in the store, and what became of them."""

from tocsin_alerting.remote_write.fast_scan import RequestSamples, merged, read_usual, scan
from tocsin_alerting.remote_write.prompb import read_series, series_spans
from tocsin_alerting.remote_write.ref_cache import RefStore, SeriesRefCache
from tocsin_alerting.remote_write.result import ReceiveResult, Refusals, RemoteWriteCounters
from tocsin_alerting.remote_write.slow_path import describe_series, parse_series, register_series
from tocsin_alerting.remote_write.snappy import decompress
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
        """Writes what is good in a request. Raises Malformed, TooLarge or Unsettled, and then
        nothing of it was written."""
        data = decompress(body)
        for _ in range(TRIES):
            try:
                result = self._write(data, now_ms, sender)
            except Backlogged as error:
                raise Busy(str(error)) from None
            if result is not None:
                self.counters.add(result)
                return result
        raise Busy("the store is busy with its series; send it again")

    def _write(self, data: bytes, now_ms: int, sender: Sender) -> ReceiveResult | None:
        """None: the numbers of the series are no longer good."""
        ref_cache, refusals = self._refs, Refusals()
        batch = self._decode(data, refusals, sender)
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
            refusals.name_first(*_describe_refused(data, batch, place, reason))
        return ReceiveResult(written.accepted, refusals.counts, refusals.first)

    def _decode(self, data: bytes, refusals: Refusals, sender: Sender) -> RequestSamples | None:
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


def _describe_refused(
    data: bytes, batch: RequestSamples, place: int, reason: str
) -> tuple[int, str]:
    """Where a sample that the store refused stands in the request, and which one it is."""
    stop = int(batch.stops[place])
    begin = next(begin for begin, end in series_spans(data) if end == stop)
    pairs = read_series(data, begin, stop, {}).pairs
    return stop, f"{describe_series(pairs)} at {int(batch.times[place]) / 1000:.3f}: {reason}"
