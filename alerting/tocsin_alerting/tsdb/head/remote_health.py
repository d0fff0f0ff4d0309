"""What the samples of remote writers say of their sources: that they live, and how they are."""

from collections.abc import Collection, Mapping

import numpy as np

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.request_samples import newest_per_source
from tocsin_alerting.tsdb.head.series_refs import SeriesRefs
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.source_health import SourceHealth
from tocsin_alerting.tsdb.target_labels import METRIC_NAME, UP, source_of
from tocsin_alerting.tsdb.values import Floats, Ints, Mask, is_stale
from tocsin_exporter.snapshot import Source

_UP_MATCHERS = ((Matcher(METRIC_NAME, MatchOp.EQUAL, UP),),)


class RemoteHealth:
    """Of `own`, the sources that the agent itself appends to, only the agent knows how they are."""

    def __init__(self, health: SourceHealth, own: Collection[Source]) -> None:
        self._health, self._own = health, own

    def observe(self, series_refs: SeriesRefs, refs: Ints, times: Ints, values: Floats) -> None:
        """Samples (n,) that were taken."""
        sources, real = series_refs.source[refs], ~is_stale(values)
        newest = (
            newest_per_source(sources, times)
            if real.all()
            else newest_per_source(sources[real], times[real])
        )
        for at, at_ms in newest:
            if (source := series_refs.sources[at]) not in self._own:
                self._health.observe(source, at_ms)
        ups = np.flatnonzero(series_refs.up[refs])
        for at in ups[np.argsort(times[ups], kind="stable")].tolist():
            source = series_refs.sources[int(sources[at])]
            self.observe_up(source, int(times[at]), values[at].item())

    def observe_scrape(self, source: Source, at_ms: int, values: Floats, ups: Mask) -> None:
        """Samples (n,) of one time that were taken, of a source that is not ours; `ups` (n,) are
        those of its `up`."""
        if not is_stale(values).all():
            self._health.observe(source, at_ms)
        if ups.any():
            for value in values[ups].tolist():
                self.observe_up(source, at_ms, value)

    def observe_up(self, source: Source, at_ms: int, value: float) -> None:
        """Its newest `up`."""
        if source in self._own:
            return
        if is_stale(np.array([value]))[0]:
            self._health.mark_ended(source, at_ms)
        else:
            self._health.observe_up(source, bool(value))

    def restore(self, heads: Mapping[Source, AlignedHead], unaligned: UnalignedHead) -> None:
        """After a WAL was read: what the newest samples of each remote source say. What the last
        run read itself has ended, unless this one reads it again."""
        for source, head in heads.items():
            if source in self._own and head.last_ms is not None:
                self._health.mark_ended(source, head.last_ms)
        remote = [(source, head) for source, head in heads.items() if source not in self._own]
        for source, head in remote:
            if (heard_ms := head.last_sample_ms()) is not None:
                self._health.observe(source, heard_ms)
        times, values = unaligned.newest()
        rows, series = unaligned.index.items()
        for row, labels in zip(rows.tolist(), series, strict=True):
            source = source_of(labels)
            if source not in self._own and not is_stale(values[row : row + 1])[0]:
                self._health.observe(source, int(times[row]))
        ups = [(source, *up) for source, head in remote for up in head.newest_samples(_UP_MATCHERS)]
        for row in unaligned.index.select_rows(_UP_MATCHERS).tolist():
            (labels,) = unaligned.index.labels_of([row])
            ups.append((source_of(labels), int(times[row]), float(values[row])))
        for source, at_ms, value in sorted(ups, key=lambda up: up[1]):
            self.observe_up(source, at_ms, value)
