"""Where the series of a source that the agent itself appends to are kept."""

from dataclasses import dataclass

import numpy as np

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.table import Table
from tocsin_alerting.store.target import stored_labels, synthetic_labels
from tocsin_exporter.snapshot import Labels, Layout, Source


@dataclass(slots=True)
class Placed:
    """Where the series of a source's present layout go."""

    layout: Layout | None
    rows: Ints  # the synthetic series come last
    taken: Ints | None  # positions in the layout; None: all
    series: tuple[Labels, ...] | None = None  # instead of a layout, where rules wrote
    report: bool = True  # whether `up` and its like are among the rows


NOWHERE = Placed(None, np.empty(0, np.int64), None)


def place(
    source: Source, layout: Layout, report: bool, table: Table, before: Placed
) -> tuple[Placed, Ints]:
    """Where the series of a layout go, and the rows of those that have ended with it."""
    if before.layout is layout and before.report is report:
        return before, NOWHERE.rows
    synthetic, _ = table.rows.all_of(synthetic_labels(source) if report else ())
    own = set(synthetic.tolist())
    rows, taken = table.rows.all_of(stored_labels(source, one) for one in layout.series)
    # The source's own word on `up` does not count.
    free = np.array([row not in own for row in rows.tolist()], np.bool_)
    rows, taken = np.concatenate([rows[free], synthetic]), taken[free]
    ended = np.setdiff1d(before.rows, rows)
    table.end(ended)
    everything = len(taken) == len(layout.series)
    return Placed(layout, rows, None if everything else taken, report=report), ended


def place_rules(series: tuple[Labels, ...], table: Table, before: Placed) -> tuple[Placed, Ints]:
    """As `place`; the same series as the last time, which is most times, stay where they are."""
    if before.series == series:
        return before, NOWHERE.rows
    rows, taken = table.rows.all_of(series)
    ended = np.setdiff1d(before.rows, rows)
    table.end(ended)
    everything = len(taken) == len(series)
    return Placed(None, rows, None if everything else taken, series), ended
