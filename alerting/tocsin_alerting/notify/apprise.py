"""Apprise: a hundred services behind one URL, for those that have no channel of their own here.

It says only whether it handed the message over, never why not, so nothing here is final.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pydantic import model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, RetryAt
from tocsin_alerting.notify.apprise_process import service
from tocsin_alerting.notify.channel import ChannelDeps, describe_outcome
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.notify.rehearsal import Rehearsed, rehearsed
from tocsin_alerting.notify.secret import Secret
from tocsin_alerting.settings import FilePath, Interval, RefusedKey

log = logging.getLogger(__name__)

_COMMAND = [sys.executable, "-P", "-m", "tocsin_alerting.notify.apprise_process"]
_READY_SECONDS = 120  # apprise is large, and a machine may be busy
_READ_SECONDS = 5  # in which the process has read a message, unless all of it hangs
_KILLED_SECONDS = 0.2


class AppriseSettings(ReceiverSection):
    """The URL holds the service's secret, so it comes from `url_file` or `url_env`."""

    type: Literal["apprise"]
    url: RefusedKey = None
    url_file: FilePath | None = None
    url_env: str | None = None
    timeout: Interval = 20_000
    send_resolved: bool = True

    @model_validator(mode="after")
    def _one_url(self) -> "AppriseSettings":
        if (self.url_file is None) == (self.url_env is None):
            raise ValueError("give exactly one of url_file and url_env")
        return self


class Apprise:
    """Sends by a process of its own, and by a new one when a service keeps too many messages."""

    def __init__(self, name: str, settings: AppriseSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 4
        self.send_resolved = settings.send_resolved
        self._limit_s = settings.timeout / 1000
        self._templates = deps.templates
        self._secret = deps.vault.secret(settings.url_file, settings.url_env) or Secret("")
        service(self._secret.value)
        self._process: _AppriseProcess | None = None
        self._retired = set[_AppriseProcess]()

    def __repr__(self) -> str:
        return f"Apprise({self.name})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        dialogue = transcript if transcript is not None else []
        dialogue.append("> handed to apprise")
        title, body = (
            self._templates.subject(notification),
            self._templates.text(notification, now_ms),
        )
        result = await self._hand_over(title, body)
        dialogue.append(describe_outcome(result))
        return result

    async def _hand_over(self, title: str, body: str) -> Outcome:
        if rehearsed(lambda: Rehearsed("apprise", body, {"title": title}), [self._secret.value]):
            return Delivered()
        try:
            process = self._running_process()
        except OSError as error:
            return RetryAt(f"failed to start apprise: {error.strerror}")
        try:
            async with asyncio.timeout(self._limit_s):
                read_within_s = min(_READ_SECONDS, self._limit_s / 2)
                taken = await process.send(title, body, read_within_s)
        except TimeoutError:
            self._retire(process)
            return RetryAt(f"apprise did not finish within {self._limit_s:g} s")
        except OSError:
            return RetryAt("apprise exited before it sent the message")
        failed = RetryAt("apprise failed to send the message and gave no reason")
        return Delivered(detail="handed over") if taken else failed

    def _running_process(self) -> "_AppriseProcess":
        if self._process is None or self._process.has_ended:
            # as many as are sent at once with P0 and P1, and those that are kept meanwhile
            self._process = _AppriseProcess(self._secret.value, 3 * self.at_once)
        return self._process

    def _retire(self, process: "_AppriseProcess") -> None:
        """A new one takes the next message; what else this one has in hand ends within its time."""
        if process is self._process and process.unread >= self.at_once:
            extra = {"receiver": self.name, "kept": process.unread}
            log.warning("apprise hangs; starting a new process", extra=extra)
            self._process = None
            self._retired.add(process)
            asyncio.get_running_loop().call_later(self._limit_s, self._end, process)

    def _end(self, process: "_AppriseProcess") -> None:
        self._retired.discard(process)
        process.end()

    def begin(self) -> None:
        try:
            self._running_process()
        except OSError as error:
            log.warning("failed to start apprise, retrying with the first message: %s", error)

    async def close(self) -> None:
        for process in (*self._retired, *filter(None, [self._process])):
            self._end(process)
        self._process = None


@dataclass(slots=True)
class _PendingMessage:
    """A message: whether the process has read it, and whether apprise has taken it."""

    read: asyncio.Event
    taken: asyncio.Future[bool]


class _AppriseProcess:
    """One process of apprise. `unread` is how many messages it has not answered in time."""

    def __init__(self, url: str, threads: int) -> None:
        self.has_ended, self.unread = False, 0
        self._connected: asyncio.Task[asyncio.StreamWriter] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._pending: dict[int, _PendingMessage] = {}
        self._number = 0
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._child = subprocess.Popen(
                    [*_COMMAND, str(threads), str(os.getpid())],
                    start_new_session=True,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # their lines hold URLs, which are passwords
                )
        except OSError:
            self._socket.close()
            raise
        self._socket.sendall(json.dumps(url).encode() + b"\n")

    async def send(self, title: str, body: str, read_within_s: float) -> bool:
        """Whether apprise took it. Raises OSError when the process ends, or all of it hangs."""
        if self._connected is None:
            self._connected = asyncio.create_task(self._connect())
        writer = await asyncio.shield(self._connected)
        if self.has_ended:  # while others waited for it
            raise ConnectionResetError
        self._number += 1
        number, asked = self._number, _PendingMessage(asyncio.Event(), asyncio.Future())
        self._pending[number] = asked
        writer.write(json.dumps({"number": number, "title": title, "body": body}).encode() + b"\n")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(read_within_s):
                    await asked.read.wait()
            if not asked.read.is_set():
                self.end()
            return await asked.taken
        except asyncio.CancelledError:
            self.unread += 1
            asked.taken.cancel()
            raise

    async def _connect(self) -> asyncio.StreamWriter:
        try:
            answers, writer = await asyncio.open_unix_connection(sock=self._socket)
        except OSError:
            self._socket.close()
            self.end()
            raise
        self._writer = writer
        if self.has_ended:  # meanwhile
            writer.close()
        try:
            async with asyncio.timeout(_READY_SECONDS):
                ready = await answers.readline()
        except (OSError, TimeoutError):
            ready = b""
        if not ready:
            self.end()
            raise ConnectionResetError
        self._reading = asyncio.create_task(self._read(answers))
        return writer

    async def _read(self, answers: asyncio.StreamReader) -> None:
        try:
            async for line in answers:
                self._answered(**json.loads(line))
        except OSError:
            pass
        finally:
            self.end()

    def _answered(self, number: int, taken: bool | None = None) -> None:
        asked = self._pending[number]
        asked.read.set()
        if taken is None:
            return
        del self._pending[number]
        if asked.taken.done():
            self.unread -= 1
        else:
            asked.taken.set_result(taken)

    def end(self) -> None:
        """At once, whatever it has in hand, and with the processes that its services began."""
        if self.has_ended:
            return
        self.has_ended = True
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_KILLED_SECONDS)
        for asked in self._pending.values():
            asked.read.set()  # nobody waits for that any more
            if not asked.taken.done():
                asked.taken.set_exception(ConnectionResetError())
        if self._writer is not None:
            self._writer.close()
        elif self._connected is None:
            self._socket.close()
