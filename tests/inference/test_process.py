"""The worker as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from support.other_user import open_to_others
from tocsin_inference.__main__ import main

pytest.importorskip("support.worker_server")  # all of it, for another user may not read the library
WORKER = [sys.executable, "-m", "tocsin_inference"]

TWICE = """
import uvicorn
from tocsin_inference.server import Server

class Idle:
    def close(self):
        print("ending", flush=True)

server = Server(uvicorn.Config(""), Idle())
server.finish(0)
server.finish(0)
print("it waits still")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_healthy(port: int) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
                assert reply.status == 200
                return
        except (URLError, ConnectionError):
            assert time.monotonic() < deadline, "the worker did not start"
            time.sleep(0.1)


@dataclass(frozen=True)
class Ending:
    """Of a worker that was told to end while it answered: the rest of the answer, and its log;
    and what those got whose bodies were still on their way.

    `start_seconds` says how fast this machine is now: a start does much and waits for nothing.
    """

    port: int
    rest: bytes
    unread: list[bytes]
    code: int
    seconds: float
    start_seconds: float
    log: list[str]


@pytest.fixture(scope="module")
def ending(tiny_path: Path) -> Ending:
    """By SIGTERM, during a generation, while other clients send their bodies slowly."""
    port = free_port()
    flags = ["--model-path", str(tiny_path), "--port", str(port), "--threads", "1"]
    launched = time.monotonic()
    with started(*WORKER, "serve", *flags) as process:
        wait_until_healthy(port)
        start_seconds = time.monotonic() - launched
        body = {"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "stream": True}
        request = Request(
            f"http://127.0.0.1:{port}/v1/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urlopen(request, timeout=120) as reply:
            assert reply.readline().startswith(b"data: ")
            slow = [half_sent(port) for _ in range(20)]
            wait_until_healthy(port)  # whoever came before has been taken
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest = reply.read()
        log = process.communicate(timeout=120)[1].decode().splitlines()
        seconds = time.monotonic() - began
        unread = [one.makefile("rb").read() for one in slow]
        for one in slow:
            one.close()
        return Ending(port, rest, unread, process.returncode, seconds, start_seconds, log)


def half_sent(port: int) -> socket.socket:
    """A client in the middle of a large body."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 8000000\r\n\r\n{"
    )
    return client


def test_sigterm_ends_it_in_time_during_a_generation(ending: Ending) -> None:
    assert ending.code == 0
    assert ending.seconds < max(4, ending.start_seconds)
    assert b'"code":"engine_stopped"' in ending.rest
    assert ending.rest.endswith(b"data: [DONE]\n\n")


def test_sigterm_tells_those_whose_bodies_have_not_come_in_one_line_of_the_log(
    ending: Ending,
) -> None:
    assert len(ending.unread) == 20
    for answer in ending.unread:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ") and b"retry-after: 5" in head.lower()
        assert json.loads(body)["error"]["code"] == "engine_stopped"
    assert [line for line in ending.log if "Traceback" in line] == []
    assert len([line for line in ending.log if "level=ERROR" in line]) <= 1


def test_every_line_of_its_log_is_logfmt(ending: Ending) -> None:
    assert any(f"http://127.0.0.1:{ending.port}" in line for line in ending.log)
    assert [line for line in ending.log if not line.startswith("time=")] == []


def test_it_dies_with_its_parent(tiny_path: Path) -> None:
    port = free_port()
    launch = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([*sys.argv[1:], '--parent-pid', str(os.getpid())])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    flags = ["--model-path", str(tiny_path), "--port", str(port), "--threads", "1"]
    with started(sys.executable, "-c", launch, *WORKER, "serve", *flags) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_until_healthy(port)
        # When memory is out, the kernel ends the guest first.
        assert int(Path(f"/proc/{child}/oom_score_adj").read_text()) == 500
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 60
        while Path(f"/proc/{child}/stat").exists():
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state == "Z":
                break
            assert time.monotonic() < deadline, "the worker outlived its parent"
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("argv", "env", "code", "message"),
    [
        ([], {"PORT": "x"}, 2, "PORT='x': must be a number"),
        (
            ["--port", "0", "--model-path", "/nowhere"],
            {},
            1,
            "MODEL_PATH=/nowhere: neither a directory",
        ),
        (["--port", "0", "--model-path", "/"], {}, 1, "no config.json"),
    ],
)
def test_what_prevents_a_start_is_said_without_a_traceback(
    argv: list[str],
    env: dict[str, str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if "--parent-pid" in argv:  # the request to the kernel would hold for the test's own process
        done = subprocess.run([*WORKER, *argv], capture_output=True, text=True)
        assert (done.returncode, message in done.stderr) == (
            code,
            False if not done.stderr else True,
        )
        return
    assert main(argv) == code
    assert message in capsys.readouterr().err


def test_another_parent_is_refused() -> None:
    done = subprocess.run(
        [*WORKER, "--parent-pid", "1"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2 and "--parent-pid 1: the parent is" in done.stderr


def test_a_taken_port_is_named(tiny_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["--model-path", str(tiny_path), "--port", port]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to open everything."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.getuid() != 0, reason="whoever is not root cannot become another user")
@pytest.mark.parametrize(
    ("shut", "said"),
    [
        ("model/model.safetensors", "cannot read {}: Permission denied; "),
        ("model/tokenizer.json", "cannot read {}: Permission denied; "),
        ("model", "cannot read {}/config.json: Permission denied; "),
        ("tiny.gguf", "cannot read {}: Permission denied; "),
        ("cache", "cannot write {}/"),
    ],
)
def test_what_its_user_may_not_open_is_named(
    shut: str, said: str, tiny_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    open_to_others(tmp_path)
    shutil.copytree(tiny_path, tmp_path / "model")
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    (tmp_path / "cache").mkdir()
    (tmp_path / shut).chmod(0)
    model = {"cache": [], "tiny.gguf": ["--model-path", str(tmp_path / shut)]}
    given = model.get(shut, ["--model-path", str(tmp_path / "model")])
    with as_nobody():
        code = main(["--port", "0", "--cache-dir", str(tmp_path / "cache"), *given])
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("tocsin worker: ")]
    assert code == 1 and said.format(tmp_path / shut) in line and "Permission denied; " in line


@pytest.mark.parametrize(
    "command", [WORKER, [str(Path(sys.executable).parent / "tocsin"), "worker"]]
)
def test_no_file_of_the_current_directory_runs_in_place_of_a_library(
    command: list[str], tmp_path: Path
) -> None:
    for name in ("argparse", "logging", "h2", "uvicorn", "tocsin_exporter"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the current directory')")
    help_ = [*command, "--help"]
    done = subprocess.run(help_, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "--model-path" in done.stdout, done.stderr


def test_the_second_signal_ends_it_at_once_and_not_as_if_all_were_well() -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, b"ending\n")
