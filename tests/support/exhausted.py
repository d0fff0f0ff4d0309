"""What a process can run out of: descriptors, memory, threads."""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

import psutil
import pytest


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process cannot open anything more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for one in taken:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def little_memory(more: int) -> Iterator[None]:
    """This process has room for so many bytes more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class NoThreads(Executor):
    """As one of the standard library that cannot begin a thread: it keeps the call all the same."""

    def __init__(self) -> None:
        self.kept: list[Callable[[], object]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.kept.append(lambda: fn(*args, **kwargs))
        raise RuntimeError("can't start new thread")


@contextmanager
def no_threads(error: type[Exception] = RuntimeError) -> Iterator[None]:
    """No thread can be started; `error` is what the interpreter raises then."""

    def refused(thread: threading.Thread) -> None:
        raise error("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        yield
