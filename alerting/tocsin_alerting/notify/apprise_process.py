"""The process in which apprise runs: `python -m` this, a socket as its standard input.

Its services block, sleep, and may keep a message for ever. A thread cannot be ended; a process can.
The first line is the URL, answered by `{}` when apprise is ready. Each of the others is a message,
`{"number": 1, "title": "...", "body": "..."}`, answered by `{"number": 1}` when it has been read,
and by `{"number": 1, "taken": true}` when it was handed over, in any order.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tocsin_exporter.threads import Threads

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def service(url: str) -> Any:
    """The apprise object of one URL; raises ValueError, without the URL."""
    try:
        import apprise
    except ImportError:
        raise ValueError("apprise is not installed; pip install 'tocsin[apprise]'") from None
    for name in ("apprise", "urllib3"):  # their lines hold URLs, which are passwords
        logging.getLogger(name).setLevel(logging.CRITICAL)
    made = apprise.Apprise()
    if not made.add(url):
        raise ValueError("apprise has no service for this URL; see its list of services")
    return made


def serve(connection: socket.socket, threads: int) -> None:
    """Until the agent closes its end, or is killed. All threads are begun at once: later there may
    be none."""
    pool, lines = Threads(threads, "apprise").begin(), connection.makefile("rb")
    receiver, lock = service(json.loads(next(lines))), threading.Lock()

    def say(**answer: Any) -> None:
        with lock, suppress(OSError):
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def hand_over(message: Mapping[str, Any]) -> None:
        taken = _notify(receiver, message["title"], message["body"])
        say(number=message["number"], taken=taken)

    say()
    for line in lines:
        message = json.loads(line)
        say(number=message["number"])
        pool.submit(hand_over, message)


def _notify(receiver: Any, title: str, body: str) -> bool:
    try:
        return bool(receiver.notify(title=title, body=body))
    except Exception:  # plugins of others, any of which may raise anything
        return False


def _die_with_parent(parent: int) -> None:
    """However the agent ends, and whatever a service does here then."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended meanwhile
        os._exit(0)


def main() -> None:
    _die_with_parent(int(sys.argv[2]))
    for number in (signal.SIGINT, signal.SIGTERM):  # the agent ends it, after its last messages
        signal.signal(number, signal.SIG_IGN)
    try:
        serve(socket.socket(fileno=os.dup(0)), int(sys.argv[1]))
    finally:
        os._exit(0)  # nobody waits for what a service keeps


if __name__ == "__main__":
    main()
