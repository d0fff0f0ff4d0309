"""How much the store holds, and what it did not take."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tocsin_alerting.store.limits import Limits, Most
from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.table import Table
from tocsin_exporter.snapshot import Source


@dataclass(frozen=True, slots=True)
class Size:
    """What memory holds: `sources`, `series` (of these `loose`; one that became so counts twice as
    long as it has columns), `samples`, and the `bytes` of these without labels.

    `refused` counts samples by reason, `series_refused` series by limit. `remote_sources` of remote
    writers have a place, `evicted` lost theirs, and there are as many as `most` says.
    """

    sources: int
    series: int
    loose: int
    samples: int
    bytes: int
    refused: Mapping[str, int]
    series_refused: Mapping[str, int]
    remote_sources: int
    evicted: int
    most: Most


def size_of(
    columns: Mapping[Source, Table],
    strays: Collection[Source],
    loose: Loose,
    refused: Mapping[str, int],
    limits: Limits,
) -> Size:
    tables = list(columns.values())
    own_refused = sum(table.rows.refused for table in tables)
    per_source = limits.refused["per_source"] + own_refused
    return Size(
        sources=len(columns.keys() | strays),
        series=sum(len(table.rows) for table in tables) + len(loose.rows),
        loose=len(loose.rows),
        samples=sum(table.samples for table in tables) + loose.samples,
        bytes=sum(table.bytes for table in tables) + loose.bytes,
        refused=refused,
        series_refused={**limits.refused, "per_source": per_source},
        remote_sources=limits.sources,
        evicted=limits.evicted,
        most=limits.most,
    )
