"""Groups that wait for no source."""

import asyncio

from tocsin_alerting.loops.scrape_barrier import ScrapeBarrier
from tocsin_exporter.clock import Clock


def nothing_awaited(clock: Clock) -> ScrapeBarrier:
    return ScrapeBarrier(
        lambda at_ms, patience_ms: (),
        asyncio.Event().wait,
        lambda: (),
        lambda selector: frozenset(),
        lambda source: None,
        clock,
    )
