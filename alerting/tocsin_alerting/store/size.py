"""How much the store holds, and what it did not take."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.table import Table


@dataclass(frozen=True, slots=True)
class Size:
    """What memory holds: `sources`, `series` (of these `loose`; one that became so counts twice as
    long as it has columns), `samples`, and the `bytes` of these without labels.

    `refused` counts samples by reason, `over_limit` series of sources that have too many, and
    `over_sources` series of sources of which there are too many.
    """

    sources: int
    series: int
    loose: int
    samples: int
    bytes: int
    refused: Mapping[str, int]
    over_limit: int
    over_sources: int


def size_of(
    sources: int,
    tables: Collection[Table],
    loose: Loose,
    refused: Mapping[str, int],
    over_limit: int,
    over_sources: int,
) -> Size:
    return Size(
        sources=sources,
        series=sum(len(table.rows) for table in tables) + len(loose.rows),
        loose=len(loose.rows),
        samples=sum(table.samples for table in tables) + loose.samples,
        bytes=sum(table.bytes for table in tables) + loose.bytes,
        refused=refused,
        over_limit=sum(table.rows.refused for table in tables) + over_limit,
        over_sources=over_sources,
    )
