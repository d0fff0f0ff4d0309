"""Standard output and error that never wait for whoever reads them.

Both become a pipe of 1 MiB whose ends do not block. A thread of its own carries what is in it to
where it went before: only that thread waits for a stopped terminal, a full disk or a slow journal.
What finds no room in the pipe is dropped and counted.
"""

import atexit
import faulthandler
import fcntl
import gc
import io
import logging
import os
import select
import signal
import stat
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from traceback import walk_stack
from types import FrameType

log = logging.getLogger(__name__)

FULL, FAILED = "full", "failed"  # reasons why lines are dropped
STDERR = 2
_PIPE_BYTES = 1 << 20  # what Linux grants without asking
_CHUNK_BYTES = 1 << 16
_GOODBYE_SECONDS = 1.0
_LOOK_SECONDS = 0.005
_MOST_FRAMES = 60  # of each thread, the innermost
_IGNORED = {  # signals that would end or stop the process, and what the log says instead
    signal.SIGHUP: "SIGHUP ignored; restart to load a new configuration",
    signal.SIGUSR2: "SIGUSR2 ignored",
}


class OutputWriter:
    """One file that is written to by a thread; `dropped` counts the lines that it never got."""

    def __init__(self, fds: Sequence[int]) -> None:
        self.dropped: Counter[str] = Counter({FULL: 0, FAILED: 0})
        self.target = fcntl.fcntl(fds[0], fcntl.F_DUPFD_CLOEXEC, 3)
        self._pipe: int | None = None
        self._entry = self.target
        self._idle = threading.Event()
        self._idle.set()
        self._reported = 0
        self._cut = False  # a line was begun and its end was lost: the next begins on a new one
        self._open = False  # what was written last does not end a line
        self._failing = False
        self._putting = threading.RLock()  # a signal's handler may write in the middle of a write
        if not _carried(self.target):
            self._pipe, self._entry = _pipe()
            for fd in fds:
                os.dup2(self._entry, fd)
            threading.Thread(target=self._carry, name=f"output-{fds[0]}", daemon=True).start()

    def put(self, data: bytes) -> None:
        """Take `data`, or count its lines as dropped. Never waits and never fails."""
        with self._putting:
            begun = b"\n" if self._cut else b""
            try:
                written = os.write(self._entry, begun + data) - len(begun)
            except OSError as error:
                reason = FULL if isinstance(error, BlockingIOError) else FAILED
                self.dropped[reason] += data.count(b"\n")
                self._cut = self._open
                return
            self._cut = written < len(data)
            self._open = data[:written][-1:] != b"\n"
            self.dropped[FULL] += data.count(b"\n", written)

    def flush(self, seconds: float) -> bool:
        """Whether all that was taken is out; waits for that no longer than `seconds`."""
        for _ in range(int(seconds / _LOOK_SECONDS)):
            if not self._size() and self._idle.is_set():
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def _size(self) -> int:
        if self._pipe is None:
            return 0
        return int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

    def _carry(self) -> None:
        assert self._pipe is not None
        readable = select.poll()
        readable.register(self._pipe, select.POLLIN)
        while True:
            readable.poll()
            self._idle.clear()
            chunk = os.read(self._pipe, _CHUNK_BYTES)
            self._deliver(chunk)
            self._idle.set()

    def _deliver(self, chunk: bytes) -> None:
        try:
            _write_all(self.target, chunk)
        except OSError as error:
            self.dropped[FAILED] += chunk.count(b"\n")
            if not self._failing:
                self._failing = True
                log.error("failed to write the log", extra={"error": error.strerror})
            return
        self._failing = False
        lost = self.dropped.total()
        if lost > self._reported and self._size() < _PIPE_BYTES // 2:
            extra = {"lines": lost - self._reported}
            self._reported = lost
            log.warning("log lines dropped: nobody read them", extra=extra)


class OutputStream(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` over a writer, which gets whole lines: `print` writes a
    line's end by itself."""

    def __init__(self, fd: int, writer: OutputWriter, encoding: str) -> None:
        self._fd, self._writer, self._encoding = fd, writer, encoding
        self._begun = ""
        self._writing = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def write(self, text: str) -> int:
        with self._writing:
            self._begun += text
            if "\n" in text or len(self._begun) > _CHUNK_BYTES:
                self.flush()
        return len(text)

    def flush(self) -> None:
        with self._writing:
            text, self._begun = self._begun, ""
        if text:
            self._writer.put(text.encode(self._encoding, "backslashreplace"))

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._writer.target)


_writers: list[OutputWriter] = []


def install() -> None:
    """Put the process behind outlets, and its signals with them. Once, before anything runs."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # in all threads that follow
    _open_standard_files()
    same = os.path.sameopenfile(1, STDERR)
    _writers[:] = (
        [OutputWriter((1, STDERR))] if same else [OutputWriter((1,)), OutputWriter((STDERR,))]
    )
    sys.stdout = OutputStream(1, _writers[0], getattr(sys.stdout, "encoding", None) or "utf-8")
    sys.stderr = OutputStream(
        STDERR, _writers[-1], getattr(sys.stderr, "encoding", None) or "utf-8"
    )
    atexit.register(_end)
    _handle_signals()


def flush() -> None:
    """At the end of the process: give what was written a second to get out."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for writer in _writers:
        writer.flush(_GOODBYE_SECONDS / len(_writers))


def _end() -> None:
    """The interpreter takes handlers away as it ends; what is ignored stays so."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    flush()


def dropped() -> Counter[str]:
    """Lines of output that were lost, by reason."""
    counts: Counter[str] = Counter({FULL: 0, FAILED: 0})
    for writer in _writers:
        counts.update(writer.dropped)
    return counts


def stack_of(name: str, thread: int) -> list[str]:
    """The calls that the thread of this identifier is in, the innermost first; [] without it."""
    frame = _frames().get(thread)
    return list(_stack(name, frame)) if frame is not None else []


def _open_standard_files() -> None:
    """A closed standard file is /dev/null: else the next file that is opened takes its place."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def _carried(fd: int) -> bool:
    """Whether it is such a pipe already: that of the process that started us, which carries it."""
    return stat.S_ISFIFO(os.fstat(fd).st_mode) and not os.get_blocking(fd)


def _pipe() -> tuple[int, int]:
    """Its two ends, of which the one for writing never waits."""
    taken, entry = os.pipe()
    os.set_blocking(entry, False)
    try:
        fcntl.fcntl(entry, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:  # this user has very many pipes: then it is smaller
        pass
    return taken, entry


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody else made it so: this thread may wait
            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()


def _handle_signals() -> None:
    """None that a terminal or an operator sends by the way ends us; SIGUSR1 shows all stacks.

    A terminal stops a background job that writes to it, if `stty tostop` is set: all threads.
    A thread of its own waits for SIGUSR1, so that a hung loop is shown too. The handler is for a
    thread that a library started earlier, which does not block the signal.
    """
    for stopping in (signal.SIGTTOU, signal.SIGTTIN):
        signal.signal(stopping, signal.SIG_IGN)
    for number in _IGNORED:
        signal.signal(number, _say)
    signal.signal(signal.SIGUSR1, lambda *_: _show_stacks())
    threading.Thread(target=_await_sigusr1, name="signals", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    faulthandler.enable(file=_crash_file(_writers[-1].target))


def _say(number: int, _frame: FrameType | None) -> None:
    log.warning(_IGNORED[signal.Signals(number)])


def _await_sigusr1() -> None:
    while True:
        signal.sigwait({signal.SIGUSR1})
        _show_stacks()


def _show_stacks() -> None:
    """All stacks, the main thread's first, in one write of bounded size.

    Not by `faulthandler`: it reads the frames of threads that run meanwhile, and crashes.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = [
        line
        for ident, frame in reversed(_frames().items())
        for line in _stack(names.get(ident, f"{ident}"), frame)
    ]
    text = "\n".join(lines).encode("utf-8", "backslashreplace")
    _writers[-1].put(text[:_CHUNK_BYTES] + b"\n")


def _frames() -> dict[int, FrameType]:
    """The innermost frame of each thread.

    Without a collection meanwhile: it could let a thread run that waits for the interpreter's
    lock on the list of threads, for ever.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if collecting:
            gc.enable()


def _stack(name: str, frame: FrameType) -> Iterator[str]:
    yield f"Thread {name} (most recent call first):"
    for inner, line in islice(walk_stack(frame), _MOST_FRAMES):
        yield f'  File "{inner.f_code.co_filename}", line {line} in {inner.f_code.co_qualname}'


def _crash_file(target: int) -> int:
    """Where a crash is told: nothing carries the pipe's content any more then.

    The same file, opened anew so as not to block; a socket is made so. Else the pipe.
    """
    if stat.S_ISSOCK(os.fstat(target).st_mode):
        os.set_blocking(target, False)
        return target
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{target}", flags)
    except OSError:
        return STDERR
