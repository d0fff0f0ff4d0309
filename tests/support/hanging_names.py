"""Names whose servers do not answer: the system's resolver waits for them."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

DOMAIN = ".hang.example"


@contextmanager
def hanging_names() -> Iterator[Counter[str]]:
    """In this process names below DOMAIN hang until the end; how often each was asked for."""
    free, asked, ask = threading.Event(), Counter[str](), socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if not name.endswith(DOMAIN):
            return ask(host, *args, **kwargs)
        asked[name] += 1
        free.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        try:
            yield asked
        finally:
            free.set()
