"""Groups that wait for no source."""

import asyncio

from tocsin_alerting.rounds.arrivals import Arrivals
from tocsin_exporter.clock import Clock


def nothing_awaited(clock: Clock) -> Arrivals:
    return Arrivals(
        lambda at_ms, patience_ms: (),
        asyncio.Event().wait,
        lambda: (),
        lambda selector: frozenset(),
        lambda source: None,
        clock,
    )
