"""What systemd hears of us, by sd_notify(3): that we are ready, alive, ending."""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

log = logging.getLogger(__name__)

_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4  # <linux/prctl.h>
_WATCHDOG_SHARE = 4  # so many signs of life in the time after which systemd gives us up


class SystemdNotifier:
    """The socket of `env`, if we were started with one. Nothing here waits or fails.

    The variables are taken out of `env`: a child of ours has nothing to say there.
    """

    def __init__(self, env: MutableMapping[str, str]) -> None:
        self._address = env.pop("NOTIFY_SOCKET", "")
        usec, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        meant = not pid or pid == str(os.getpid())
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdigit() and meant else 0.0

    def notify(self, *fields: str) -> None:
        if not self._address:
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(fields).encode(), address)
        except OSError as error:
            log.debug("systemd notification failed: %s", error)

    async def keep_alive(
        self,
        serving: Callable[[], bool],
        status: Callable[[], str],
        stalled: Callable[[], str] = lambda: "",
    ) -> None:
        """Say that we are ready once we serve, and then that this loop turns, for ever; but not
        while `stalled` says that another one does not.

        Nothing else is judged: an agent that is slow or has lost its disk still pages.
        """
        while not serving():  # noqa: ASYNC110  (the server has no event for it)
            await asyncio.sleep(0.05)
        self.notify("READY=1", f"STATUS={status()}")
        while self.watchdog_seconds:
            if why := stalled():
                log.error("loop blocked; systemd restarts the agent: %s", why)
                self.notify(f"STATUS={why}")
            else:
                self.notify("WATCHDOG=1", f"STATUS={status()}")
            await asyncio.sleep(self.watchdog_seconds / _WATCHDOG_SHARE)

    def reloading(self) -> None:
        """`systemctl reload` waits until it is over."""
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        self.notify("READY=1")

    def stopping(self) -> None:
        self.notify("STOPPING=1")


class HangupSignal:
    """SIGHUP, from the first moment on: what comes before somebody listens is not lost."""

    def __init__(self) -> None:
        self._came = False
        self._heard: Callable[[], None] | None = None

    def install(self) -> None:
        """Take it from whoever answers it."""
        signal.signal(signal.SIGHUP, lambda *_: self._hang_up())

    def listen(self, heard: Callable[[], None]) -> None:
        """`heard` is called in the running loop, for one that came before as well."""
        loop = asyncio.get_running_loop()

        def call() -> None:
            with suppress(RuntimeError):  # the loop has ended, and the agent ends
                loop.call_soon_threadsafe(heard)

        self._heard = call
        if self._came:
            call()

    def _hang_up(self) -> None:
        self._came = True
        if self._heard is not None:
            self._heard()


def drop_ambient_capabilities() -> None:
    """What the service gives us to read other users' /proc is not for the programs we start."""
    try:
        ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    except (OSError, AttributeError):  # no C library that has it: then no capabilities either
        return
