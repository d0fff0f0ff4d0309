"""How long a request waits for the event loop, and what held the loop up.

Two threads look at the loop from outside. One sends a real request to our own server each second:
the time to the answer holds everything that anybody's request waits for, refusals too. The other
asks the loop four times a second to turn; one that does not within a second is blocked, and its
stack is logged.
"""

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tocsin_exporter import output
from tocsin_exporter.catalogue import OWN
from tocsin_exporter.listen import joined
from tocsin_exporter.snapshot import Sample
from tocsin_exporter.tls import ServerTls

log = logging.getLogger(__name__)

BLOCKED_SECONDS = 1.0
_TICK_SECONDS = 0.25
_ASK_SECONDS = 1.0
_GIVE_UP_SECONDS = 60.0
_STATUS_BYTES = 64
_WINDOW_SECONDS = 15.0
_FRAMES = 25  # of the loop's stack, the innermost
_IDLE_SHARE = 0.5  # a process that used less of the time was stopped, or had no CPU


class LoopWaits:
    """The waits of the last 15 s; one thread writes them, another may read."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended: deque[tuple[float, float]] = deque()

    def begin(self, now: float) -> None:
        """One that has not ended goes on."""
        if self._began is None:
            self._began = now

    def end(self, now: float, counts: bool = True) -> None:
        """`counts`: whether that was an answer."""
        if self._began is not None and counts:
            self._ended.append((now, now - self._began))
        self._began = None
        while self._ended and self._ended[0][0] < now - _WINDOW_SECONDS:
            self._ended.popleft()

    def longest(self, now: float) -> float:
        """Seconds; a wait that still lasts counts as long as it has lasted."""
        began = self._began
        ended = [s for at, s in tuple(self._ended) if at >= now - _WINDOW_SECONDS]
        return max([*ended, now - began if began is not None else 0.0])


class LoopWatchdog:
    """`start` within the loop that is watched; `samples` is what it found.

    `ask` sends one request to the server and returns at the answer. OSError: there was none, and
    the wait goes on until there is one; ConnectionRefusedError: nobody listens, so nobody waits.
    `monotonic` and `cpu` give seconds: of the clock, and of work by this process.
    """

    def __init__(
        self,
        ask: Callable[[], object],
        monotonic: Callable[[], float],
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self.waits = LoopWaits()
        self.turns = LoopWaits()
        self.blocked = 0
        self._ask, self._monotonic, self._cpu = ask, monotonic, cpu
        self._asked: tuple[float, float] | None = None  # since when it is to turn, and the CPU then
        self._ticked = monotonic(), cpu()
        self._silent = 0.0  # seconds between the last ticks
        self._logged = False
        self._ended = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def start(self) -> None:
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._ticked = self._monotonic(), self._cpu()  # what was loaded before held nothing up
        for work, seconds in ((self.tick, _TICK_SECONDS), (self.request, _ASK_SECONDS)):
            run = (work, seconds)
            threading.Thread(target=self._repeat, args=run, name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def lag(self) -> float:
        """The longest turn of the loop within the last 15 s, in seconds."""
        return self.turns.longest(self._monotonic())

    def samples(self) -> Iterator[Sample]:
        now = self._monotonic()
        longest = max(self.waits.longest(now), self.turns.longest(now))
        yield Sample(OWN["tocsin_loop_lag_seconds"], longest)
        yield Sample(OWN["tocsin_loop_blocked_total"], self.blocked)

    def tick(self) -> None:
        """Ask the loop to turn, or look at one that has not turned yet."""
        now, cpu, asked = self._monotonic(), self._cpu(), self._asked
        (last, cpu_then), self._ticked = self._ticked, (now, cpu)
        self._silent = now - last
        if asked is None:  # a tick that is late itself was due earlier: what held it held the loop
            self._asked = min(now, last + _TICK_SECONDS), cpu_then
            self.turns.begin(self._asked[0])
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._turned)
        elif now - asked[0] >= BLOCKED_SECONDS and not self._logged:
            self._logged = True
            self._say_blocked(now - asked[0], cpu - asked[1])

    def request(self) -> None:
        """Measure one request of our own; where the last had no answer, in its stead."""
        self.waits.begin(self._monotonic())
        try:
            self._ask()
        except ConnectionRefusedError:  # not served yet, or no more
            self.waits.end(self._monotonic(), counts=False)
        except OSError:
            log.debug("own request failed, retrying", exc_info=True)
        else:
            self.waits.end(self._monotonic())

    def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        while not self._ended.wait(seconds):
            try:
                work()
            except RuntimeError:  # the loop is closed
                return

    def _turned(self) -> None:
        """In the loop: it turns."""
        assert self._asked is not None
        now = self._monotonic()
        seconds, cpu = now - self._asked[0], self._cpu() - self._asked[1]
        self.turns.end(now)
        if seconds >= BLOCKED_SECONDS:
            if not self._logged:
                self._say_blocked(seconds, cpu)
            log.warning("event loop recovered", extra={"seconds": f"{seconds:.2f}"})
        self._logged, self._asked = False, None

    def _say_blocked(self, seconds: float, cpu: float) -> None:
        self.blocked += 1
        silent = max(self._silent, self._monotonic() - self._ticked[0])  # this watch did not run
        if silent >= BLOCKED_SECONDS / 2 and cpu < _IDLE_SHARE * seconds:
            why = "the process was stopped, or had no CPU"
        else:  # a call into C that keeps the interpreter's lock is seen just after its end
            why = "\n".join(output.stack_of("of the event loop", self._thread)[:_FRAMES])
        message = "event loop blocked for %.1f s; no page is sent meanwhile: %s"
        log.error(message, seconds, why)


def own_request(
    listeners: Sequence[socket.socket], tls: ServerTls | None = None
) -> Callable[[], None]:
    """A GET of the landing page over the first of `listeners`, by a connection of its own.

    It is served as anybody's request is: a health check would wait in no queue, and find a place
    where others are refused. It raises OSError if there is no answer or a 503, the refusal.

    Where there is TLS it goes by a Unix socket, which has none. A server without one that takes
    certificates of clients is not asked: we have none to show."""
    if tls is not None and (unix := [own for own in listeners if own.family == socket.AF_UNIX]):
        return _asking(socket.AF_UNIX, unix[0].getsockname(), "localhost", None)
    if tls is not None and tls.requires:
        return lambda: None
    family, address = listeners[0].family, listeners[0].getsockname()
    if family == socket.AF_INET and address[0] == "0.0.0.0":
        address = ("127.0.0.1", address[1])
    if family == socket.AF_INET6 and address[0] == "::":
        address = ("::1", *address[1:])
    host = joined(str(address[0]), int(address[1]))
    return _asking(family, address, host, _any_server() if tls is not None else None)


def _asking(family: int, address: Any, host: str, tls: ssl.SSLContext | None) -> Callable[[], None]:
    head = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    def ask() -> None:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(_GIVE_UP_SECONDS)
            connection.connect(address)
            if tls is None:
                status = _status(connection, head)
            else:
                try:
                    with tls.wrap_socket(connection) as secured:
                        status = _status(secured, head)
                except ssl.SSLError:  # it has answered, and takes no such handshake
                    return
        if not status or status == [b"503"]:
            raise ConnectionAbortedError("closed or refused")

    return ask


def _status(connection: socket.socket, head: bytes) -> list[bytes]:
    connection.sendall(head)
    with connection.makefile("rb") as answer:
        return answer.readline(_STATUS_BYTES).split()[1:2]


def _any_server() -> ssl.SSLContext:
    """It is our own that we ask, whatever its certificate says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
