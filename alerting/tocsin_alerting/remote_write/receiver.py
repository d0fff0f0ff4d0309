"""Remote write's end: a request in, samples in the store, and a receipt."""

from tocsin_alerting.remote_write.batch import Batch, joined, read
from tocsin_alerting.remote_write.message import spans, time_series
from tocsin_alerting.remote_write.numbered import NumberedStore
from tocsin_alerting.remote_write.others import enrolled, parsed
from tocsin_alerting.remote_write.receipt import Receipt, Refusals
from tocsin_alerting.remote_write.roster import Roster
from tocsin_alerting.remote_write.series import shown
from tocsin_alerting.remote_write.snappy import unpacked
from tocsin_alerting.remote_write.traffic import Traffic
from tocsin_alerting.remote_write.walk import walk
from tocsin_alerting.store.backlog import Backlogged
from tocsin_alerting.store.senders import UNKNOWN, Sender

_TRIES = 3


class Unsettled(Exception):
    """The store could not take it now: to be sent again."""


class Receiver:
    """Takes one request at a time, in any thread. `traffic` counts."""

    def __init__(self, store: NumberedStore) -> None:
        self._store = store
        self._roster = Roster(store)
        self.traffic = Traffic()

    def receive(self, body: bytes, now_ms: int, sender: Sender = UNKNOWN) -> Receipt:
        """Writes what is good in a request. Raises Malformed, TooLarge or Unsettled, and then
        nothing of it was written."""
        data = unpacked(body)
        for _ in range(_TRIES):
            try:
                receipt = self._write(data, now_ms, sender)
            except Backlogged as error:
                raise Unsettled(str(error)) from None
            if receipt is not None:
                self.traffic.add(receipt)
                return receipt
        raise Unsettled("the store is busy with its series; send it again")

    def _write(self, data: bytes, now_ms: int, sender: Sender) -> Receipt | None:
        """None: the numbers of the series are no longer good."""
        roster, refusals = self._roster, Refusals()
        batch = self._decoded(data, refusals, sender)
        if batch is None:
            return None
        if not len(batch.numbers):
            return Receipt(0, refusals.counts, refusals.first)
        columns = batch.numbers, batch.times, batch.values
        written = self._store.write_numbered(roster.epoch, *columns, now_ms)
        if written is None:
            roster.forget()
            return None
        if written.first is not None:
            place, reason = written.first
            refusals.counts.update(written.refused)
            refusals.name(*_named(data, batch, place, reason))
        return Receipt(written.taken, refusals.counts, refusals.first)

    def _decoded(self, data: bytes, refusals: Refusals, sender: Sender) -> Batch | None:
        roster = self._roster
        walked = roster.layouts.find(data, roster.known)
        if walked is None:
            walked = walk(data, roster.known)
            roster.layouts.learn(data, walked)
        batches = []
        if len(walked.stops):
            batches.append(read(data, walked.numbers, walked.stops, walked.zeros))
        if walked.others:
            others = parsed(data, walked.others, roster.known)
            rest = enrolled(others, roster, refusals, sender)
            if rest is None:
                return None
            batches.append(rest)
        return joined(batches)


def _named(data: bytes, batch: Batch, place: int, reason: str) -> tuple[int, str]:
    """Where a sample that the store refused stands in the request, and which one it is."""
    stop = int(batch.stops[place])
    begin = next(begin for begin, end in spans(data) if end == stop)
    pairs = time_series(data, begin, stop, {}).pairs
    return stop, f"{shown(pairs)} at {int(batch.times[place]) / 1000:.3f}: {reason}"
