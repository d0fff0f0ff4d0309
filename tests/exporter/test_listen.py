import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tocsin_exporter.listen import bind, from_systemd, joined, parse


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        (":4911", "", 4911),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:9100", "::1", 9100),
        ("localhost:80", "localhost", 80),
    ],
)
def test_addresses(address: str, host: str, port: int) -> None:
    assert parse(address) == (host, port)


@pytest.mark.parametrize("address", ["4911", "host:", "host:x", "host:70000", "::1:80", "h:٣"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse(address)


def test_a_taken_address_is_an_error() -> None:
    with bind("127.0.0.1:0") as first:
        with pytest.raises(OSError):
            bind(f"127.0.0.1:{first.getsockname()[1]}")


def test_no_host_takes_ipv4_too() -> None:
    with bind(":0") as listening:
        with socket.create_connection(("127.0.0.1", listening.getsockname()[1]), 5) as client:
            accepted, peer = listening.accept()
            accepted.close()
            assert peer[1] == client.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("h", "h:80")]
)
def test_an_address_is_put_together_as_it_is_taken_apart(host: str, address: str) -> None:
    assert joined(host, 80) == address
    assert parse(address) == (host, 80)


def test_without_systemd_there_are_no_sockets_of_it() -> None:
    for environ in ({}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": "7"}):
        with pytest.raises(ValueError, match="systemd has passed no sockets"):
            from_systemd(environ, 7)


ACTIVATED = """
import os, sys
from tocsin_exporter.listen import from_systemd
try:
    taken = from_systemd(os.environ, os.getpid())
except ValueError as error:
    sys.exit(str(error))
left = sorted(name for name in os.environ if name.startswith("LISTEN_"))
print([(sock.getsockname()[1] > 0, sock.get_inheritable()) for sock in taken], left)
"""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (["--listen=127.0.0.1:{port}"], "[(True, False)] []\n"),
        (["--listen={folder}/socket"], "use ListenStream=HOST:PORT"),
    ],
)
def test_the_sockets_of_systemd(tmp_path: Path, kind: list[str], said: str) -> None:
    """systemd-socket-activate starts the program at the first connection."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd is not installed")
    with bind("127.0.0.1:0") as free:
        port = free.getsockname()[1]
    words = [word.format(port=port, folder=tmp_path) for word in kind]
    path = f"--setenv=PYTHONPATH={os.pathsep.join(sys.path)}"
    command = [activate, *words, path, sys.executable, "-c", ACTIVATED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        knock(words, port, tmp_path / "socket")
        assert said in process.communicate(timeout=20)[0].decode()


def knock(words: list[str], port: int, path: Path) -> None:
    family = socket.AF_UNIX if "socket" in words[0] else socket.AF_INET
    address = str(path) if family == socket.AF_UNIX else ("127.0.0.1", port)
    until = time.monotonic() + 20
    while True:
        with socket.socket(family) as client:
            try:
                client.connect(address)
                return
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
