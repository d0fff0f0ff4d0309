"""What one cell of a column may hold: a number, a real NaN, a stale marker, or no sample.

All four are float64 values, distinguished by the bits of the NaN. The stale marker has Prometheus's
bits (model/value/value.go, StaleNaN), so remote write may copy it; "no sample" has bits of our own.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

NEVER_MS, END_OF_TIME = -(2**62), 2**62  # times before and after all others, in ms

NAN_BITS = 0x7FF8000000000001
STALE_BITS = 0x7FF0000000000002
ABSENT_BITS = 0x7FF80000000A0B5E

STALE: float = np.array([STALE_BITS], np.int64).view(np.float64)[0].item()
ABSENT: float = np.array([ABSENT_BITS], np.int64).view(np.float64)[0].item()


def is_stale(cells: Floats) -> Mask:
    stale: Mask = cells.view(np.int64) == STALE_BITS
    return stale


def is_absent(cells: Floats) -> Mask:
    """Of contiguous `cells`: no sample was written here."""
    absent: Mask = cells.view(np.int64) == ABSENT_BITS
    return absent


def is_sample(cells: Floats) -> Mask:
    """True where a number or a real NaN stands."""
    bits = np.ascontiguousarray(cells).view(np.int64)
    sample: Mask = (bits != ABSENT_BITS) & (bits != STALE_BITS)
    return sample


def normalised(values: Floats) -> Floats:
    """Every NaN that is not the stale marker gets the one set of bits that means a real NaN."""
    nan = np.isnan(values)
    if not nan.any():
        return values
    cells = np.array(values, np.float64)
    bits = cells.view(np.int64)
    bits[nan & (bits != STALE_BITS)] = NAN_BITS
    return cells


def absent_cells(count: int) -> Floats:
    """`count` cells without a sample."""
    return np.full(count, ABSENT_BITS, np.int64).view(np.float64)
