"""How much the store holds, and what it did not take."""

from collections.abc import Mapping
from dataclasses import dataclass

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.remote_appender import RemoteAppender
from tocsin_alerting.tsdb.head.remote_limits import SeriesLimits
from tocsin_exporter.snapshot import Source


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What memory holds: `sources`, `series` (of these `unaligned`; one that became so counts twice
    as long as it has columns), `samples`, and the `bytes` of these without labels.

    `refused` counts samples by reason, `series_refused` series by limit. `remote_sources` of remote
    writers have a place, `evicted` lost theirs, and there are as many as `limits` says.
    """

    sources: int
    series: int
    unaligned: int
    samples: int
    bytes: int
    refused: Mapping[str, int]
    series_refused: Mapping[str, int]
    remote_sources: int
    evicted: int
    limits: SeriesLimits


def store_stats(
    heads: Mapping[Source, AlignedHead],
    appender: RemoteAppender,
    refused: Mapping[str, int],
) -> StoreStats:
    unaligned, limits = appender.unaligned, appender.limits
    all_heads = list(heads.values())
    own_refused = sum(head.index.refused for head in all_heads)
    per_source = limits.refused["per_source"] + own_refused
    return StoreStats(
        sources=len(heads.keys() | appender.unaligned_sources),
        series=sum(len(head.index) for head in all_heads) + len(unaligned.index),
        unaligned=len(unaligned.index),
        samples=sum(head.samples for head in all_heads) + unaligned.samples,
        bytes=sum(head.bytes for head in all_heads) + unaligned.bytes,
        refused=refused,
        series_refused={**limits.refused, "per_source": per_source},
        remote_sources=limits.sources,
        evicted=limits.evicted,
        limits=limits.settings,
    )
