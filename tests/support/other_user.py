"""A server of another user of this machine; only root can start one."""

import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def open_to_others(folder: Path) -> None:
    """Lets others into a folder for tests, as deep as pytest made it."""
    for part in (folder, *folder.parents):
        if part.stat().st_uid != os.geteuid():
            return
        if part.stat().st_mode & 0o005 != 0o005:
            part.chmod(0o755)
        if part.name.startswith("pytest-of-"):  # each pytest that starts closes this one again
            return


@contextmanager
def served_by_another_user(port: int, answer: bytes) -> Iterator[None]:
    """`answer`, whatever is asked, on the loopback, as the user `nobody`."""
    context = multiprocessing.get_context("fork")
    listens = context.Event()
    process = context.Process(target=_serve, args=(port, answer, listens), daemon=True)
    process.start()
    try:
        assert listens.wait(10)
        yield
    finally:
        process.kill()
        process.join()


def _serve(port: int, answer: bytes, listens: Event) -> None:
    os.setuid(NOBODY)
    with socket.create_server(("127.0.0.1", port)) as server:
        listens.set()
        while True:
            connection = server.accept()[0]
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()
