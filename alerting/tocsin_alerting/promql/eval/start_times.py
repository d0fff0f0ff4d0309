"""Start timestamps: when the counter of a sample began to count, where its writer says so.

A counter that began anew is then seen without a fall, and what it counted before the first sample
of a window is known. (promql/functions.go, isStartTimestampReset and extrapolatedRate)
"""

import numpy as np

from tocsin_alerting.promql.eval.window import Window
from tocsin_alerting.tsdb.values import Floats, Ints, Mask


def restarts(window: Window) -> Mask:
    """Between which samples (depth - 1, series) a counter began anew.

    A start at the sample before is one of two things: increments, each of which starts where the
    last one ended, or a counter whose start is unknown, which has none or a senseless one before.
    """
    before_ms, at_ms, before, start = _pairs(window)
    known = (start != 0) & (start < at_ms)
    increments = (start == before_ms) & (before != 0) & (before < before_ms)
    mask: Mask = known & ((start > before_ms) | increments)
    return mask


def overlapping(window: Window) -> Mask:
    """The series (series,) of which a sample's time of counting reaches behind the one before."""
    before_ms, _, before, start = _pairs(window)
    overlap = (start != 0) & (start < before_ms) & (start != before)
    if window.valid is not None:
        overlap &= window.valid[1:]
    mask: Mask = overlap.any(axis=0)
    return mask


def last_restart(window: Window) -> Mask:
    """Which series (series,) began anew between their last two samples."""
    at = np.maximum(window.sizes.astype(np.int64) - 2, 0)[None, :]
    mask: Mask = np.take_along_axis(restarts(window), at, axis=0)[0]
    return mask


def from_start(window: Window, change: Floats) -> tuple[Floats, Mask]:
    """The change from where the first sample's counter began, and which series (series,) have it.

    There is nothing to guess on the left then; on the right it is as ever. `change` is that
    between the first and the last sample.
    """
    assert window.starts is not None
    span, start = window.span, window.starts[0]
    first, first_ms = window.first()
    last_ms = window.last()[1]
    gaps = np.maximum(window.sizes - 1, 1)
    gap = (last_ms - first_ms) / 1000.0 / gaps
    to_end = (span.end_ms - last_ms) / 1000.0
    to_end = np.where(to_end >= gap * 1.1, gap / 2, to_end)
    counted = (last_ms - start) / 1000.0
    has: Mask = (start != 0) & (start > span.start_ms) & (start < first_ms)
    return (change + first) * ((counted + to_end) / counted), has


def _pairs(window: Window) -> tuple[Ints, Ints, Ints, Ints]:
    """Times and starts of all samples but the last, and of all but the first."""
    assert window.starts is not None
    return window.times[:-1], window.times[1:], window.starts[:-1], window.starts[1:]
