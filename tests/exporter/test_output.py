"""Output that never waits, in real processes: readers that stop, full disks, closed files."""

import ctypes
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from support.full_pipe import full_pipe
from tocsin_exporter.output import OutputWriter

BEGIN = """\
import json, logging, os, signal, subprocess, sys, time
from tocsin_exporter import output
output.install()
logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
"""
LINE = 100  # bytes


def program(body: str) -> list[str]:
    return [sys.executable, "-c", BEGIN + body]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stopped_reader_stops_nobody_and_what_is_lost_is_counted(
    stream: str, tmp_path: Path
) -> None:
    body = f"""\
for number in range(50_000):
    print("x" * {LINE - 1}, file=sys.{stream})
open("dropped", "w").write(json.dumps(output.dropped()))
"""
    with full_pipe() as (_, entry):
        done = subprocess.run(program(body), cwd=tmp_path, stdout=entry, stderr=entry, timeout=30)
    assert done.returncode == 0
    dropped = json.loads((tmp_path / "dropped").read_text())
    assert 50_000 - (1 << 20) / LINE - 700 < dropped["full"] < 50_000
    assert dropped["failed"] == 0


def test_what_python_does_not_know_of_does_not_stop_it_either(tmp_path: Path) -> None:
    """What a library in C and a child process write goes the same way."""
    body = """\
for number in range(3000):
    try:
        os.write(2, b"y" * 1000)
    except BlockingIOError:
        pass
subprocess.run([sys.executable, "-c", "print('child')"], check=True, timeout=20)
open("ended", "w").write("yes")
"""
    with full_pipe() as (_, entry):
        child = program(body.replace("subprocess.run", "# "))
        subprocess.run(child, cwd=tmp_path, stdout=entry, stderr=entry, timeout=30, check=True)
    assert (tmp_path / "ended").exists()


def test_a_child_of_ours_goes_through_our_pipe_and_is_not_stopped(tmp_path: Path) -> None:
    inner = BEGIN + "for n in range(30_000): print('z' * 99)\n"
    inner += "open('ended', 'w').write(json.dumps(output.dropped()))"
    body = f"subprocess.run([sys.executable, '-c', {inner!r}], check=True, timeout=30)"
    with full_pipe() as (_, entry):
        done = subprocess.run(program(body), cwd=tmp_path, stdout=entry, stderr=entry, timeout=40)
    assert done.returncode == 0
    assert json.loads((tmp_path / "ended").read_text())["full"] > 15_000


def test_everything_arrives_whole_and_in_order_where_somebody_reads() -> None:
    body = """\
for number in range(20_000):
    print(number, file=(sys.stdout, sys.stderr)[number % 2])
    number % 500 or time.sleep(0.005)
"""
    done = subprocess.run(
        program(body),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        check=True,
    )
    assert done.stdout.decode().split() == [str(number) for number in range(20_000)]


def test_a_reader_that_goes_on_is_told_what_it_missed() -> None:
    body = """\
for number in range(30_000):
    print("x" * 99, file=sys.stderr)
sys.stdin.read(1)
time.sleep(0.5)
print("and on", file=sys.stderr)
"""
    with full_pipe() as (taken, entry):
        process = subprocess.Popen(program(body), stdin=subprocess.PIPE, stdout=entry, stderr=entry)
        os.close(entry)
        assert process.stdin is not None
        time.sleep(1)
        process.stdin.write(b"\n")
        process.stdin.close()
        said = b""
        while chunk := os.read(taken, 1 << 16):
            said += chunk
        process.wait(10)
        os.dup2(taken, entry)  # for the end of the pipe's context
    lost = re.findall(rb"WARNING log lines dropped: nobody read them", said)
    assert len(lost) == 1
    assert b"and on" in said.splitlines()


@pytest.mark.parametrize(
    "write", ["print('x' * 9999, file=sys.stderr)", "sys.stderr.write('x' * 9999 + '\\n')"]
)
def test_a_line_that_found_half_of_its_room_does_not_swallow_the_next(
    write: str, tmp_path: Path
) -> None:
    body = f"""\
for number in range(300):
    {write}
open("flooded", "w").close()
sys.stdin.read(1)
time.sleep(0.5)
print("and on", file=sys.stderr)
"""
    with full_pipe() as (taken, entry):
        fcntl.fcntl(entry, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.read(taken, 1 << 20)
        process = subprocess.Popen(
            program(body), stdin=subprocess.PIPE, stdout=entry, stderr=entry, cwd=tmp_path
        )
        assert process.stdin is not None
        while not (tmp_path / "flooded").exists():
            time.sleep(0.05)
        process.stdin.write(b"\n")
        process.stdin.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), entry)
        said = b""
        while chunk := os.read(taken, 1 << 16):
            said += chunk
        process.wait(10)
    lines = said.splitlines()
    assert b"and on" in lines
    assert max(map(len, lines)) == 9999
    assert [line for line in lines if line.startswith(b"WARNING log lines dropped")]


@pytest.mark.parametrize("redirection", [">/dev/full 2>&1", ">/dev/full", "| true", ">&- 2>&-"])
def test_output_that_takes_nothing_is_no_reason_to_end(redirection: str, tmp_path: Path) -> None:
    body = """\
import tempfile
time.sleep(0.3)
mine = open("mine", "wb")
for number in range(2000):
    print("line")
    logging.warning("line")
os.write(1, b"stray")
output.flush()
assert mine.fileno() > 2
open("ended", "w").write(json.dumps(output.dropped()))
"""
    (tmp_path / "program.py").write_text(BEGIN + body)
    line = f"{{ {sys.executable} program.py; echo $? >code; }} {redirection}"
    subprocess.run(["bash", "-c", line], cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=30)
    assert (tmp_path / "code").read_text() == "0\n"
    assert (tmp_path / "mine").read_bytes() == b""
    dropped = json.loads((tmp_path / "ended").read_text())
    assert dropped["full"] == 0
    assert bool(dropped["failed"]) == ("-" not in redirection)


def waiting(log: Path) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    body = """\
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
    return running(program(body), log)


@contextmanager
def running(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        until_logged(log, "ready")
        yield process
    finally:
        process.kill()
        process.wait()


def until_logged(log: Path, words: str) -> None:
    deadline = time.monotonic() + 20
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGHUP, "WARNING SIGHUP ignored"),
        (signal.SIGUSR2, "WARNING SIGUSR2 ignored"),
        (signal.SIGUSR1, "most recent call first"),
    ],
)
def test_a_signal_is_answered_in_the_log_and_survived(
    number: signal.Signals, words: str, tmp_path: Path
) -> None:
    with waiting(tmp_path / "log") as process:
        for _ in range(3):
            process.send_signal(number)
            until_logged(tmp_path / "log", words)
        assert process.poll() is None


def test_a_terminal_cannot_stop_it(tmp_path: Path) -> None:
    """`stty tostop` sends SIGTTOU to a background job that writes."""
    with waiting(tmp_path / "log") as process:
        for number in (signal.SIGTTOU, signal.SIGTTIN, signal.SIGPIPE):
            process.send_signal(number)
        time.sleep(0.2)
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state in "SR"


def test_stacks_of_a_process_whose_reader_has_stopped_do_not_stop_it() -> None:
    body = """\
for number in range(20_000):
    print("x" * 99, file=sys.stderr)
for number in range(5):
    os.kill(os.getpid(), signal.SIGUSR1)
"""
    with full_pipe() as (_, entry):
        done = subprocess.run(program(body), stdout=entry, stderr=entry, timeout=30)
    assert done.returncode == 0


BUSY = """\
import threading
def dive(depth):
    return depth and dive(depth - 1)
def busy():
    while True:
        dive(50)
for _ in range(8):
    threading.Thread(target=busy, daemon=True, name="diver").start()
"""
HUNG = "print('ready', flush=True); time.sleep(600)"  # in C: no handler runs in this thread
STARTED_EARLIER = """\
import signal, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


def test_stacks_of_busy_threads_are_shown_with_their_names_and_do_not_end_it(
    tmp_path: Path,
) -> None:
    with running(program(BUSY + HUNG), tmp_path / "log") as process:
        for _ in range(40):
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.01)
        until_logged(tmp_path / "log", "Thread MainThread (most recent call first):")
        until_logged(tmp_path / "log", "Thread diver (most recent call first):")
        until_logged(tmp_path / "log", " in dive")
        assert process.poll() is None


def test_a_thread_that_does_not_block_the_signal_is_no_reason_to_end(tmp_path: Path) -> None:
    """A library's, started before: the signal may reach it."""
    command = program("print('ready', flush=True)\nwhile True:\n    time.sleep(0.01)")
    command[-1] = STARTED_EARLIER + command[-1]
    with running(command, tmp_path / "log") as process:
        threads = sorted(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
        assert threads[0] == process.pid
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.tgkill(process.pid, threads[1], signal.SIGUSR1) == 0
        until_logged(tmp_path / "log", "Thread MainThread (most recent call first):")
        assert process.poll() is None


def test_stacks_are_of_bounded_size(tmp_path: Path) -> None:
    body = BUSY.replace("range(8)", "range(100)").replace("dive(50)", "dive(900)")
    body = body.replace("return depth and", "depth or time.sleep(600);") + HUNG
    with running(program(body), tmp_path / "log") as process:
        before = len((tmp_path / "log").read_bytes())
        process.send_signal(signal.SIGUSR1)
        until_logged(tmp_path / "log", "Thread MainThread (most recent call first):")
        assert len((tmp_path / "log").read_bytes()) - before <= (1 << 16) + 1


def test_a_crash_is_in_the_log_although_nothing_carries_it(tmp_path: Path) -> None:
    body = "import faulthandler; faulthandler._sigsegv()"
    with (tmp_path / "log").open("wb") as log:
        done = subprocess.run(program(body), stdout=log, stderr=log, timeout=30)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in (tmp_path / "log").read_text()
    with full_pipe() as (_, entry):
        done = subprocess.run(program(body), stdout=entry, stderr=entry, timeout=30)
    assert done.returncode == -signal.SIGSEGV


def test_the_last_words_are_out_before_the_end() -> None:
    done = subprocess.run(
        program("raise SystemExit('tocsin: the reason')"), capture_output=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (1, b"tocsin: the reason\n")
    done = subprocess.run(program("1 / 0"), capture_output=True, timeout=30)
    assert done.stderr.endswith(b"ZeroDivisionError: division by zero\n")


def test_the_end_of_a_line_that_found_no_room_is_made_up_for() -> None:
    with full_pipe() as (taken, entry):
        os.set_blocking(entry, False)
        ours = OutputWriter((entry,))
        ours.put(b"one\n")
        os.read(taken, 2 * 4096)
        ours.put(b"x" * 20_000 + b"\n")
        assert dict(ours.dropped) == {"full": 2, "failed": 0}
        os.read(taken, 1 << 20)
        ours.put(b"next\n")
        ours.put(b"and on\n")
        assert os.read(taken, 1 << 20) == b"\nnext\nand on\n"
        os.close(ours.target)
