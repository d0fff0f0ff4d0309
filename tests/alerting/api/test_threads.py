"""Threads that are let go of: results, errors, cancelled work, and the end of a process."""

import subprocess
import sys
import threading
import time

import pytest

from tocsin_alerting.api.threads import Threads

HANGS = """
import time
from tocsin_alerting.api.threads import Threads
Threads(1, "query").submit(time.sleep, 600)
"""


def test_work_gives_its_result_or_its_error() -> None:
    threads = Threads(2, "query")
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(5)
    assert threads.submit(threading.current_thread).result(5).name.startswith("query-")


def test_what_is_cancelled_while_it_waits_never_runs() -> None:
    threads, free, ran = Threads(1, "query"), threading.Event(), threading.Event()
    busy = threads.submit(free.wait, 5)
    waits = threads.submit(ran.set)
    assert waits.cancel()
    free.set()
    busy.result(5)
    threads.submit(int).result(5)
    assert not ran.is_set()


def test_a_process_ends_while_one_works() -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=30)
    assert time.monotonic() - began < 20


def test_a_thread_that_cannot_be_had_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = Threads(1, "query")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.submit(int)
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
