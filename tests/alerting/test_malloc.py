"""glibc itself says how many heaps a process with threads has."""

import gc
import platform
import subprocess
import sys

import pytest

from tocsin_alerting.malloc import freeze_gc, use_one_arena

THREADS = """
import ctypes, os, sys, threading
from tocsin_alerting.malloc import use_one_arena
if "share" in sys.argv:
    assert use_one_arena({})
libc, gate = ctypes.CDLL(None), threading.Barrier(4)
def work():
    gate.wait()
    kept = [bytearray(1000) for _ in range(1000)]
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for one in threads: one.start()
for one in threads: one.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def heaps(*arguments: str) -> int:
    command = [sys.executable, "-c", THREADS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_share_one_heap() -> None:
    assert heaps() > 1
    assert heaps("share") == 1


def test_what_the_user_set_stays() -> None:
    assert not use_one_arena({"MALLOC_ARENA_MAX": "4"})


def test_the_collector_looks_no_more_at_what_was_there() -> None:
    before, thresholds = gc.get_objects(), gc.get_threshold()
    freeze_gc()
    try:
        assert gc.get_freeze_count() > len(before) / 2
        assert len(gc.get_objects()) < len(before) / 10
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_a_million_objects_are_not_looked_at_whenever_some_more_have_come() -> None:
    thresholds = gc.get_threshold()
    try:
        freeze_gc()
        before = gc.get_stats()[2]["collections"]
        kept = [[number] for number in range(1_000_000)]
        assert len(kept) == 1_000_000
        assert gc.get_stats()[2]["collections"] == before
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
