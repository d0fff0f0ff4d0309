"""An engine in a process of its own whose answers are meant to do harm.

Run as a program: `hostile_engine.py PORT MODE_FILE`; the file names one of `ANSWERS`.
"""

import gzip
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from types import TracebackType

PAGE = b'vllm:num_requests_running{engine="0",model_name="h"} 1.0\n'
NEW_SERIES = 50_000
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
_rounds = itertools.count()


def _whole(body: bytes, headers: bytes = b"") -> Iterator[bytes]:
    yield _OK + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _repeated(start: bytes, piece: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield piece


def _packed_thrice() -> Iterator[bytes]:
    body = gzip.compress(gzip.compress(gzip.compress(bytes(64 << 20), 1)))
    return _whole(body, b"Content-Encoding: gzip, gzip, gzip\r\n")


def _churn() -> Iterator[bytes]:
    number = next(_rounds)
    lines = (b'vllm:new{round="%d",i="%d"} 1\n' % (number, i) for i in range(NEW_SERIES))
    return _whole(PAGE + b"".join(lines))


def _million() -> Iterator[bytes]:
    return _whole(PAGE + b"".join(b'vllm:x{i="%d"} 1\n' % number for number in range(1_000_000)))


ANSWERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "plain": lambda: _whole(PAGE),
    "braces": lambda: _whole(PAGE + (b'vllm:x{a="' + b"}" * 400_000 + b"\n") * 20),
    "short braces": lambda: _whole(PAGE + (b'vllm:x{a="' + b'}"' * 15_000 + b"\n") * 200),
    "endless": lambda: _repeated(_OK + b"\r\n" + PAGE, PAGE * 1000),
    "packed thrice": _packed_thrice,
    "bomb": lambda: _whole(gzip.compress(bytes(128 << 20), 1), b"Content-Encoding: gzip\r\n"),
    "bytewise": lambda: _repeated(
        _OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nv\r\n" * 5000
    ),
    "blank lines": lambda: _whole(PAGE + b"\n" * (8_000_000)),
    "headers": lambda: _repeated(_OK, b"A: b\r\n" * 1000),
    "a web page": lambda: _whole(b"<html>" + b"<p>hello" * 100_000),
    "new series": _churn,
    "a million series": _million,
}


class _Answer(StreamRequestHandler):
    def handle(self) -> None:
        while (line := self.rfile.readline()) and line.strip():
            pass
        try:
            for piece in ANSWERS[Path(sys.argv[2]).read_text()]():
                self.wfile.write(piece)
        except OSError:  # whoever asked has had enough
            return


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class HostileEngine:
    """Such an engine on `port`; `turn` says how it answers from now on."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._file = folder / "mode"

    def turn(self, mode: str) -> None:
        assert mode in ANSWERS
        written = self._file.with_suffix(".new")
        written.write_text(mode)
        os.replace(written, self._file)

    def __enter__(self) -> "HostileEngine":
        self.turn("plain")
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.port), str(self._file)]
        )
        time.sleep(0.5)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    _Server(("127.0.0.1", int(sys.argv[1])), _Answer).serve_forever()
