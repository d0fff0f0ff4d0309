"""The process that runs the commands of one receiver: `python -m` this, a socket as its standard
input.

A large agent should not fork for each message, a command on a file system that hangs must not hold
it up, and what a command leaves behind has to end with it. So each message gets a small process of
its own here, the keeper: orphans of a command become its children, it ends them all, and it ends
when this process does, which ends when the agent closes its end or is killed.

Each line is a message: `{"number": 1, "command": ["..."], "env": {}, "stdin": "...",
"limit_s": 10}`, answered by `{"number": 1, "status": 0, "stdout": "...", "stderr": "..."}`.
`status` is negative for a signal; with `"late": true` the time limit ended it, with `"error"` it
never ran.
"""

import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_TAIL_BYTES = 4096
_GRACE_S = 0.5  # between SIGTERM and SIGKILL
_ENDED_WITHIN_S = 2.0  # what cannot be killed by then, a device holds
_CHUNK = 65536


def _adopt_orphans() -> None:
    """Also those of a command that makes itself a daemon."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _nothing(_number: int, _frame: object) -> None:
    """A handler: unlike an ignored signal, a command does not inherit it."""


def descendants(root: int) -> list[int]:
    """The processes below `root`, by what /proc says now."""
    below: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
            below.setdefault(parent, []).append(int(name))
    found, waiting = list[int](), [root]
    while waiting:
        children = below.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _has_children() -> bool:
    """Reaps those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _end_descendants() -> None:
    """All of them, also those that fork meanwhile; what a device holds stays."""
    until = time.monotonic() + _ENDED_WITHIN_S
    while _has_children() and time.monotonic() < until:
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


class _Tail:
    """The last bytes of what a command writes."""

    def __init__(self, fd: int) -> None:
        self.fd, self.kept = fd, b""
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Whether there may be more."""
        try:
            chunk = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.kept = (self.kept + chunk)[-_TAIL_BYTES:]
        return bool(chunk)

    def drain(self) -> None:
        """What is there without waiting; little of it, for somebody may still write."""
        for _ in range(4):
            if not self.read():
                return

    def text(self) -> str:
        return self.kept.decode(errors="replace")


class _Command:
    """One command while it runs, watched by its keeper. `life` is readable when nobody waits for
    the result any more."""

    def __init__(self, job: Mapping[str, Any], life: int) -> None:
        self.late = False
        self._until = time.monotonic() + job["limit_s"]
        self._killed_at: float | None = None
        self._input, self._life = memoryview(job["stdin"].encode()), life
        self._wake, wakes = socket.socketpair()
        for end in (self._wake, wakes):
            end.setblocking(False)
        self._wakes = wakes
        signal.set_wakeup_fd(wakes.fileno())
        signal.signal(signal.SIGCHLD, _nothing)
        self.process = subprocess.Popen(
            job["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=job["env"],
            cwd="/",
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self._stdin = self.process.stdin.fileno()
        os.set_blocking(self._stdin, False)
        self.tails = tuple(_Tail(p.fileno()) for p in (self.process.stdout, self.process.stderr))

    def run(self) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ, self._woken)
            selector.register(self._life, selectors.EVENT_READ, self._abandoned)
            selector.register(self._stdin, selectors.EVENT_WRITE, self._write)
            for tail in self.tails:
                selector.register(tail.fd, selectors.EVENT_READ, tail.read)
            while self.process.poll() is None:
                for key, _ in selector.select(self._wait_s()):
                    if not key.data():
                        selector.unregister(key.fileobj)
                        if key.fd == self._stdin:
                            self._close_stdin()
                self._enforce_limit()
        for tail in self.tails:
            tail.drain()
        stdout, stderr = (tail.text() for tail in self.tails)
        ended = {"status": self.process.returncode, "stdout": stdout, "stderr": stderr}
        return {**ended, "late": True} if self.late else ended

    def _close_stdin(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()

    def _wait_s(self) -> float:
        return max(0.0, (self._killed_at or self._until) - time.monotonic())

    def _enforce_limit(self) -> None:
        now = time.monotonic()
        if self._killed_at is None and now >= self._until:
            self.late, self._killed_at = True, now + _GRACE_S
            self._signal_group(signal.SIGTERM)
        elif self._killed_at is not None and now >= self._killed_at:
            self._killed_at = now + _GRACE_S
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        with suppress(OSError):
            os.killpg(self.process.pid, number)

    def _woken(self) -> bool:
        with suppress(BlockingIOError):
            self._wake.recv(_CHUNK)
        return True

    def _abandoned(self) -> bool:
        self._until = 0.0
        return False

    def _write(self) -> bool:
        """Whether there is more to write; a command need not read what it gets."""
        try:
            written = os.write(self._stdin, self._input[:_CHUNK])
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._input = self._input[written:]
        return bool(self._input)


def _keep(job: Mapping[str, Any], life: int) -> dict[str, Any]:
    """In the keeper: run it, and leave nothing behind."""
    try:
        return _Command(job, life).run()
    except OSError as error:
        return {"error": error.strerror or type(error).__name__, "errno": error.errno}
    except ValueError:
        return {"error": "an argument or a variable holds a NUL"}
    finally:
        signal.set_wakeup_fd(-1)
        _end_descendants()


@dataclass(slots=True)
class _Keeper:
    number: int
    pid: int
    life: int
    report: int
    text: bytes = b""


class _KeeperPool:
    """Hands each message to a keeper, and its report to the agent. No threads: it forks."""

    def __init__(self, connection: socket.socket, most: int) -> None:
        self._connection, self._most = connection, most
        self._keepers: dict[int, _Keeper] = {}
        self._selector = selectors.DefaultSelector()
        self._unread = b""
        connection.setblocking(True)

    def serve(self) -> None:
        """Until the agent has gone; its commands end with it."""
        self._selector.register(self._connection, selectors.EVENT_READ, self._receive)
        going = True
        while going:
            for key, _ in self._selector.select():
                going = key.data() and going
        for keeper in self._keepers.values():
            os.close(keeper.life)
        for keeper in self._keepers.values():
            with suppress(OSError):
                os.waitpid(keeper.pid, 0)
        _end_descendants()

    def _receive(self) -> bool:
        try:
            chunk = self._connection.recv(_CHUNK)
        except OSError:
            return False
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            self._begin(json.loads(line))
        return bool(chunk)

    def _begin(self, job: Mapping[str, Any]) -> None:
        if len(self._keepers) >= self._most:
            return self._say(job["number"], {"error": "too many commands hang"})
        descriptors = list[int]()
        try:
            descriptors += os.pipe()
            descriptors += os.pipe()
            pid = os.fork()
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            return self._say(job["number"], {"error": f"cannot fork: {error.strerror}"})
        waits, life, report, reports = descriptors
        if pid == 0:
            self._be_keeper(job, waits, reports)
        os.close(waits)
        os.close(reports)
        keeper = _Keeper(job["number"], pid, life, report)
        self._keepers[pid] = keeper
        self._selector.register(report, selectors.EVENT_READ, lambda: self._collect(keeper))

    def _be_keeper(self, job: Mapping[str, Any], waits: int, reports: int) -> None:
        """Never returns. Keeps no end of another keeper's pipes: they would not end for that one.
        The report is there only when nothing of the command is left."""
        try:
            _adopt_orphans()
            for fd in _open_descriptors():
                if fd not in (0, 1, 2, waits, reports):
                    with suppress(OSError):
                        os.close(fd)
            text = json.dumps(_keep(job, waits)).encode()
            while text:
                text = text[os.write(reports, text) :]
        finally:
            os._exit(0)

    def _collect(self, keeper: _Keeper) -> bool:
        if chunk := os.read(keeper.report, _CHUNK):
            keeper.text += chunk
            return True
        self._selector.unregister(keeper.report)
        os.close(keeper.report)
        os.close(keeper.life)
        with suppress(OSError):
            os.waitpid(keeper.pid, 0)
        del self._keepers[keeper.pid]
        try:
            said = json.loads(keeper.text)
        except ValueError:  # it was killed: its command is ours now
            said = {"error": "the process that watched the command was killed"}
            self._end_strays()
        self._say(keeper.number, said)
        return True

    def _end_strays(self) -> None:
        """What a killed keeper left. Those below another keeper are that one's to end."""
        kept = {pid for keeper in self._keepers for pid in (keeper, *descendants(keeper))}
        for pid in descendants(os.getpid()):
            if pid not in kept:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(OSError):
                    os.waitpid(pid, 0)

    def _say(self, number: int, said: Mapping[str, Any]) -> None:
        with suppress(OSError):
            self._connection.sendall(json.dumps({"number": number, **said}).encode() + b"\n")


def _open_descriptors() -> Iterator[int]:
    yield from map(int, os.listdir("/proc/self/fd"))


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the agent ends it, after its last messages
        signal.signal(number, _nothing)
    _adopt_orphans()
    connection = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        _KeeperPool(connection, int(sys.argv[1])).serve()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
