"""A pipe whose reader has stopped, as a log's does behind Ctrl-S, `less` or a stopped journald."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Its ends for reading and writing; there is no room in it, so that a write waits for ever."""
    taken, entry = os.pipe()
    os.set_blocking(entry, False)
    try:
        while True:
            os.write(entry, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(entry, True)
    try:
        yield taken, entry
    finally:
        os.close(taken)
        os.close(entry)
