"""How well the clock is kept: what adjtimex(2) says, which needs no privilege to be asked."""

import ctypes
import os
from collections.abc import Callable, Iterator
from functools import cache

from tocsin_exporter.catalogue import KERNEL
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.snapshot import Sample

_TIME_ERROR = 5  # the answer of a clock that is not synchronized
_STA_NANO = 0x2000  # offset and jitter are nanoseconds then, else microseconds
_MICRO, _NANO = 1e6, 1e9
_PPM_16_BITS = 1e6 * 65536.0  # parts per million with 16 bits of fraction


class Timex(ctypes.Structure):
    """struct timex of Linux on 64 bits, as adjtimex(2) describes it."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    ]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def adjtimex() -> tuple[int, Timex]:
    """The clock's state and what is known of it. Raises OSError where it may not be asked."""
    libc = _libc()
    asked = Timex()  # modes 0: nothing is set
    state = libc.adjtimex(ctypes.byref(asked))
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "adjtimex")
    return state, asked


def timex(_host: Host, ask: Callable[[], tuple[int, Timex]] = adjtimex) -> InlineCollector:
    return InlineCollector("timex", lambda: samples(*ask()))


def samples(state: int, clock: Timex) -> Iterator[Sample]:
    for name, value in _values(state, clock).items():
        yield Sample(KERNEL[f"node_timex_{name}"], value)


def _values(state: int, clock: Timex) -> dict[str, float]:
    fine = _NANO if clock.status & _STA_NANO else _MICRO
    return {
        "sync_status": float(state != _TIME_ERROR),
        "offset_seconds": clock.offset / fine,
        "frequency_adjustment_ratio": 1 + clock.freq / _PPM_16_BITS,
        "maxerror_seconds": clock.maxerror / _MICRO,
        "estimated_error_seconds": clock.esterror / _MICRO,
        "status": float(clock.status),
        "loop_time_constant": float(clock.constant),
        "tick_seconds": clock.tick / _MICRO,
        "pps_frequency_hertz": clock.ppsfreq / _PPM_16_BITS,
        "pps_jitter_seconds": clock.jitter / fine,
        "pps_shift_seconds": float(clock.shift),
        "pps_stability_hertz": clock.stabil / _PPM_16_BITS,
        "pps_jitter_total": float(clock.jitcnt),
        "pps_calibration_total": float(clock.calcnt),
        "pps_error_total": float(clock.errcnt),
        "pps_stability_exceeded_total": float(clock.stbcnt),
        "tai_offset_seconds": float(clock.tai),
    }
