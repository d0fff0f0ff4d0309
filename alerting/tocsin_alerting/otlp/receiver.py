"""OTLP's end: a request in, samples in the store, and what became of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tocsin_alerting.otlp.messages import read_message
from tocsin_alerting.otlp.translate import OtlpSample, Translation, translate
from tocsin_alerting.remote_write.receiver import TRIES, Busy, Receiver
from tocsin_alerting.remote_write.ref_cache import RefStore, SeriesRefCache
from tocsin_alerting.remote_write.result import ReceiveResult, Refusals, RemoteWriteCounters
from tocsin_alerting.remote_write.slow_path import REASON_TEXTS, describe_series
from tocsin_alerting.tsdb.backlog import Backlogged
from tocsin_alerting.tsdb.head.remote_limits import REASONS
from tocsin_alerting.tsdb.native_histograms import NativeHistograms
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_exporter.snapshot import Labels

_AFTER_ALL_POINTS = 1 << 40  # places of samples, behind those of data points that have none


class OtlpReceiver:
    """Takes one request at a time, in any thread. `counters` counts; `natives` hears of native
    histograms."""

    def __init__(self, store: RefStore, natives: NativeHistograms | None = None) -> None:
        self._store = store
        self._natives = natives or NativeHistograms()
        self._refs = SeriesRefCache(store)
        self.counters = RemoteWriteCounters()

    def receive(
        self,
        body: bytes,
        now_ms: int,
        sender: Sender = UNKNOWN,
        json: bool = False,
        zipped: bool = False,
    ) -> ReceiveResult:
        """Writes what is good in a request. Raises Malformed, RequestTooLarge or Busy, and then
        nothing of it was written."""
        translation = translate(read_message(body, json, zipped))
        for name in translation.refusals.native_histograms:
            self._natives.add(name, now_ms)
        for _ in range(TRIES):
            try:
                result = self._write(translation, now_ms, sender)
            except Backlogged as error:
                raise Busy(str(error)) from None
            if result is not None:
                self.counters.add(result)
                return result
        raise Busy("the store is busy with its series; send it again")

    def _write(self, translation: Translation, now_ms: int, sender: Sender) -> ReceiveResult | None:
        """None: the numbers of the series are no longer good."""
        told = translation.refusals
        refusals = Refusals(Counter(told.counts))
        if told.first:
            refusals.name_first(0, told.first)
        placed = self._placed(translation.samples, refusals, sender)
        if placed is None:
            return None
        refs, samples = placed
        if not samples:
            return ReceiveResult(0, refusals.counts, refusals.first)
        times = np.array([at_ms for _, at_ms, _ in samples], np.int64)
        values = np.array([value for _, _, value in samples], np.float64)
        numbers = np.array(refs, np.int64)
        written = self._store.write_refs(self._refs.epoch, numbers, times, values, now_ms)
        if written is None:
            self._refs.clear()
            return None
        if written.first_refused is not None:
            place, reason = written.first_refused
            labels, at_ms, _ = samples[place]
            refusals.counts.update(written.refused)
            message = f"{_described(labels)} at {at_ms / 1000:.3f}: {reason}"
            refusals.name_first(_AFTER_ALL_POINTS + place, message)
        return ReceiveResult(written.accepted, refusals.counts, refusals.first)

    def _placed(
        self, samples: Sequence[OtlpSample], refusals: Refusals, sender: Sender
    ) -> tuple[list[int], list[OtlpSample]] | None:
        """The samples that the store has a place for, with the numbers of their series."""
        series = list(dict.fromkeys(labels for labels, _, _ in samples))
        numbers = self._refs.register(series, sender)
        if numbers is None:
            return None
        number_of = dict(zip(series, numbers, strict=True))
        refs: list[int] = []
        placed: list[OtlpSample] = []
        for place, sample in enumerate(samples):
            ref = number_of[sample[0]]
            if ref < 0:
                message = f"{_described(sample[0])}: {REASON_TEXTS[ref]}"
                refusals.add(REASONS[ref], 1, _AFTER_ALL_POINTS + place, message)
                continue
            refs.append(ref)
            placed.append(sample)
        return refs, placed


def new_receivers(store: RefStore) -> tuple[Receiver, OtlpReceiver]:
    """Those of remote write and of OTLP, which know of each other's native histograms."""
    receiver = Receiver(store)
    return receiver, OtlpReceiver(store, receiver.natives)


def _described(labels: Labels) -> str:
    return describe_series([(name.encode(), value.encode()) for name, value in labels])
