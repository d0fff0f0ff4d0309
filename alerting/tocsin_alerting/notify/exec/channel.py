"""A command of one's own: the way out for a modem, a provider, a pager that has no channel here.

It gets the webhook's body on its standard input, and says by its exit status how it ended.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from errno import E2BIG, EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOEXEC, ENOTDIR, EPERM
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps, describe_outcome
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.notify.rehearsal import Rehearsed, readable, rehearsed
from tocsin_alerting.notify.secret import MASK, masked
from tocsin_alerting.notify.webhook.body import webhook_body
from tocsin_alerting.settings import SECRET, FilePath, Interval, Words

log = logging.getLogger(__name__)

EX_TEMPFAIL = 75  # <sysexits.h>
_RUNNER = [sys.executable, "-P", "-m", "tocsin_alerting.notify.exec.runner"]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LATER_THAN_LIMIT_S = 5.0  # in which the runner ends what it began
_CLOSED_WITHIN_S, _POLL_S, _KILLED_SECONDS = 3.0, 0.01, 0.2
_TAIL_CHARACTERS = 1024
_MIN_SECRET_LENGTH = 4
# What is wrong with the program itself: nobody need wait for it.
_UNUSABLE = frozenset({ENOENT, EACCES, ENOEXEC, ENOTDIR, EPERM, EISDIR, ELOOP, ENAMETOOLONG, E2BIG})


def _usable_command(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command or not command[0]:
        raise ValueError("give the program and its arguments as a list")
    if any("\0" in word for word in command):
        raise ValueError("an argument holds a NUL")
    if "/" in command[0] and not os.path.isabs(command[0]):
        raise ValueError(f"{command[0]} is relative; give its whole path")
    return command


class ExecSettings(ReceiverSection):
    """`env` and `env_files` are all that a command has in its environment beside PATH and LANG."""

    type: Literal["exec"]
    command: Annotated[Words, AfterValidator(_usable_command)]
    env: Annotated[Mapping[str, str], SECRET] = {}
    env_files: Mapping[str, FilePath] = {}
    timeout: Interval = 30_000
    send_resolved: bool = True

    @model_validator(mode="after")
    def _usable_names(self) -> "ExecSettings":
        for name, value in (*self.env.items(), *((name, "") for name in self.env_files)):
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"{name!r} cannot be set in an environment; correct it")
        return self


class Exec:
    """Runs the command once a message, by a process of its own that forks for it."""

    def __init__(self, name: str, settings: ExecSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 4
        self.send_resolved = settings.send_resolved
        self._settings, self._deps = settings, deps
        files = {name: deps.vault.secret(file, None) for name, file in settings.env_files.items()}
        given = {**settings.env, **{name: secret.value for name, secret in files.items() if secret}}
        self._secrets = tuple(v for v in given.values() if len(v) >= _MIN_SECRET_LENGTH)
        self._environment = {
            "PATH": deps.vault.env.get("PATH") or _PATH,
            "LANG": deps.vault.env.get("LANG") or "C.UTF-8",
            **given,
        }
        self._runner: _Runner | None = None

    def __repr__(self) -> str:
        return f"Exec({self.name}, {self._masked(self._settings.command[0])})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        dialogue = transcript if transcript is not None else []
        dialogue.append(f"> run {self._masked(' '.join(self._settings.command))}")
        answer_url = self._deps.links.url(notification)
        stdin = self._stdin(notification, now_ms, answer_url)
        if rehearsed(lambda: self._shown(stdin), self._secrets):
            return Delivered()
        ended = await self._run(stdin)
        secrets = tuple(filter(None, (*self._secrets, answer_url.rpartition("/")[2])))
        for stream in ("stdout", "stderr"):
            dialogue += [f"< {stream}: {line}" for line in _tail(ended.get(stream, ""), secrets)]
        result = self._outcome(ended, secrets)
        dialogue.append(describe_outcome(result))
        return result

    def begin(self) -> None:
        try:
            self._running()
        except OSError as error:
            log.warning("failed to start exec, retrying with the first message: %s", error)

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.close()
            self._runner = None

    def _shown(self, stdin: str) -> Rehearsed:
        to = f"run {' '.join(self._settings.command)}"
        return Rehearsed(to, readable(stdin.encode()), self._environment)

    def _stdin(self, notification: Notification, now_ms: int, answer_url: str) -> str:
        """The webhook's body, and the texts: a script that sends an SMS needs no template."""
        message = webhook_body(notification, answer_url=answer_url)
        templates = self._deps.templates
        texts = {
            "subject": templates.subject(notification),
            "line": templates.line(notification),
            "text": templates.text(notification, now_ms),
        }
        return json.dumps({**message, "tocsin": {**message["tocsin"], **texts}}) + "\n"

    async def _run(self, stdin: str) -> Mapping[str, Any]:
        limit_s = self._settings.timeout / 1000
        job = {
            "command": self._settings.command,
            "env": self._environment,
            "stdin": stdin,
            "limit_s": limit_s,
        }
        try:
            async with asyncio.timeout(limit_s + _LATER_THAN_LIMIT_S):
                return await self._running().run(job)
        except TimeoutError:
            return {"late": True}
        except OSError as error:
            return {"error": error.strerror or "the process that runs it exited"}

    def _running(self) -> "_Runner":
        if self._runner is None or self._runner.has_ended:
            # as many as run at once with P0 and P1, and those that hang meanwhile
            self._runner = _Runner(3 * self.at_once)
        return self._runner

    def _outcome(self, ended: Mapping[str, Any], secrets: Sequence[str]) -> Outcome:
        if ended.get("late"):
            limit_s = self._settings.timeout / 1000
            return RetryAt(f"the command did not finish within {limit_s:g} s and was killed")
        if "error" in ended:
            text = f"failed to run the command: {ended['error']}"
            return Permanent(text) if ended.get("errno") in _UNUSABLE else RetryAt(text)
        if (status := ended["status"]) == 0:
            last = _last_line(ended["stdout"], secrets)
            return Delivered(detail=f"exit status 0{last and f': {last}'}")
        said = _last_line(ended["stderr"], secrets) or _last_line(ended["stdout"], secrets)
        text = f"{_status_words(status)}{said and f': {said}'}"
        is_temporary = status == EX_TEMPFAIL or status < 0
        return RetryAt(text) if is_temporary else Permanent(text)

    def _masked(self, text: str) -> str:
        return masked(text, self._secrets)


def _status_words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def _tail(text: str, secrets: Sequence[str]) -> Iterator[str]:
    """The lines in the last KiB. They are masked before the rest is cut off, so that no secret is
    cut in half; the runner may have done that with the first one."""
    for secret in secrets:
        half = (n for n in range(len(secret) - 1, 0, -1) if text.startswith(secret[-n:]))
        text = text[next(half, 0) :]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    lines = (masked(line, ()) for line in text[-_TAIL_CHARACTERS:].splitlines())
    yield from filter(None, lines)


def _last_line(text: str, secrets: Sequence[str]) -> str:
    return next(iter(reversed(list(_tail(text, secrets)))), "")


class _Runner:
    """The process that runs the commands, and what it was asked for."""

    def __init__(self, most: int) -> None:
        self.has_ended = self._is_closing = False
        self._number = 0
        self._connected: asyncio.Task[asyncio.StreamWriter] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._pending: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._child = subprocess.Popen(
                    [*_RUNNER, str(most)],
                    start_new_session=True,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except OSError:
            self._socket.close()
            raise

    async def run(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """How the command ended. Raises OSError when the process does."""
        if self._connected is None:
            self._connected = asyncio.create_task(self._connect())
        writer = await asyncio.shield(self._connected)
        if self.has_ended:  # while others waited for it
            raise ConnectionResetError
        self._number += 1
        number = self._number
        ended: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[number] = ended
        try:
            writer.write(json.dumps({**job, "number": number}).encode() + b"\n")
            return await ended
        finally:
            self._pending.pop(number, None)

    async def _connect(self) -> asyncio.StreamWriter:
        answers, writer = await asyncio.open_unix_connection(sock=self._socket)
        self._reading = asyncio.create_task(self._read(answers, writer))
        return writer

    async def _read(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for line in answers:
                said = json.loads(line)
                if (ended := self._pending.get(said["number"])) and not ended.done():
                    ended.set_result(said)
        except OSError:
            pass
        finally:
            self._lost()
            writer.close()
            if not self._is_closing:
                self._kill()

    def _kill(self) -> None:
        self._child.kill()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_KILLED_SECONDS)

    def _lost(self) -> None:
        self.has_ended = True
        for ended in self._pending.values():
            if not ended.done():
                ended.set_exception(ConnectionResetError())

    async def close(self) -> None:
        """It ends its commands when our end is closed; what is left after a while is killed."""
        self._is_closing = True
        self._lost()
        if self._connected is not None:
            with suppress(OSError):
                (await self._connected).close()
        else:
            self._socket.close()
        for _ in range(round(_CLOSED_WITHIN_S / _POLL_S)):
            if self._child.poll() is not None:
                return
            await asyncio.sleep(_POLL_S)
        self._kill()
