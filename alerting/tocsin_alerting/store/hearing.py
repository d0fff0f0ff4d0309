"""What the samples of remote writers say of their sources: that they live, and how they are."""

from collections.abc import Collection, Mapping

import numpy as np

from tocsin_alerting.store.cell import Floats, Ints, Mask, is_stale
from tocsin_alerting.store.last import Lasts
from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.matchers import Matcher, MatchOp
from tocsin_alerting.store.numbers import Numbers
from tocsin_alerting.store.requests import newest
from tocsin_alerting.store.table import Table
from tocsin_alerting.store.target import NAME, UP, source_of
from tocsin_exporter.snapshot import Source

_UP = ((Matcher(NAME, MatchOp.EQUAL, UP),),)


class RemoteHealth:
    """Of `own`, the sources that the agent itself appends to, only the agent knows how they are."""

    def __init__(self, lasts: Lasts, own: Collection[Source]) -> None:
        self._lasts, self._own = lasts, own

    def hear(self, known: Numbers, numbers: Ints, times: Ints, values: Floats) -> None:
        """Samples (n,) that were taken."""
        sources, real = known.source[numbers], ~is_stale(values)
        said = newest(sources, times) if real.all() else newest(sources[real], times[real])
        for at, at_ms in said:
            if (source := known.sources[at]) not in self._own:
                self._lasts.heard(source, at_ms)
        ups = np.flatnonzero(known.up[numbers])
        for at in ups[np.argsort(times[ups], kind="stable")].tolist():
            source = known.sources[int(sources[at])]
            self.say_up(source, int(times[at]), values[at].item())

    def hear_scrape(self, source: Source, at_ms: int, values: Floats, ups: Mask) -> None:
        """Samples (n,) of one time that were taken, of a source that is not ours; `ups` (n,) are
        those of its `up`."""
        if not is_stale(values).all():
            self._lasts.heard(source, at_ms)
        if ups.any():
            for value in values[ups].tolist():
                self.say_up(source, at_ms, value)

    def say_up(self, source: Source, at_ms: int, value: float) -> None:
        """Its newest `up`."""
        if source in self._own:
            return
        if is_stale(np.array([value]))[0]:
            self._lasts.ended(source, at_ms)
        else:
            self._lasts.up(source, bool(value))

    def restored(self, tables: Mapping[Source, Table], loose: Loose) -> None:
        """After a log was read: what the newest samples of each remote source say. What the last
        run read itself has ended, unless this one reads it again."""
        for source, table in tables.items():
            if source in self._own and table.last_ms is not None:
                self._lasts.ended(source, table.last_ms)
        remote = [(one, table) for one, table in tables.items() if one not in self._own]
        for source, table in remote:
            if (heard_ms := table.heard_ms()) is not None:
                self._lasts.heard(source, heard_ms)
        times, values = loose.newest()
        rows, series = loose.rows.owned()
        for row, labels in zip(rows.tolist(), series, strict=True):
            source = source_of(labels)
            if source not in self._own and not is_stale(values[row : row + 1])[0]:
                self._lasts.heard(source, int(times[row]))
        ups = [(source, *up) for source, table in remote for up in table.newest(_UP)]
        for row in loose.rows.find(_UP).tolist():
            (labels,) = loose.rows.labels([row])
            ups.append((source_of(labels), int(times[row]), float(values[row])))
        for source, at_ms, value in sorted(ups, key=lambda up: up[1]):
            self.say_up(source, at_ms, value)
