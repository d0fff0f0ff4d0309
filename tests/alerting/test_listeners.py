"""What is wrong about an address, a socket of systemd or a path is said before anything starts."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from support.agent_process import free_port
from tocsin_alerting.listeners import CannotStart, WrongUsage, check_telemetry_path, take_over

TOCSIN = Path(sys.executable).with_name("tocsin")


def test_addresses_are_those_that_were_given() -> None:
    assert take_over({}, False, ["127.0.0.1:1", ":2"]) == ([], ["127.0.0.1:1", ":2"])
    with pytest.raises(WrongUsage, match="--web.listen-address: .* is not"):
        take_over({}, False, ["4911"])


def test_sockets_of_systemd_and_addresses_exclude_each_other() -> None:
    with pytest.raises(WrongUsage, match="leave --web.listen-address out"):
        take_over({}, True, ["127.0.0.1:1"])
    with pytest.raises(CannotStart, match="--web.systemd-socket: systemd has passed no sockets"):
        take_over({}, True, [])


@pytest.mark.parametrize("path", ["/metrics", "/a/b.c", "/node-metrics"])
def test_a_path_for_the_metrics(path: str) -> None:
    check_telemetry_path(path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("metrics", "no path like /metrics"),
        ("/", "no path like /metrics"),
        ("/a{b}", "no path like /metrics"),
        ("/api/metrics", "another page"),
        ("/-/healthy", "another page"),
        ("/federate", "another page"),
    ],
)
def test_a_path_that_cannot_be_it(path: str, why: str) -> None:
    with pytest.raises(WrongUsage, match=why):
        check_telemetry_path(path)


def answered(url: str) -> str:
    until = time.monotonic() + 30
    while True:
        try:
            with urlopen(url, timeout=20) as page:
                return str(page.read().decode())
        except ConnectionRefusedError:
            assert time.monotonic() < until
        except URLError as error:
            assert isinstance(error.reason, ConnectionRefusedError) and time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("part", ["up", "exporter"])
def test_a_socket_of_systemd_and_another_path(tmp_path: Path, part: str) -> None:
    """The first connection starts us, and is answered: none is refused while we start."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd is not installed")
    url = f"http://127.0.0.1:{(port := free_port())}"
    flags = ["--web.systemd-socket", "--web.telemetry-path=/own"]
    flags += ["--no-worker", "--engine.port=1"] if part == "up" else []
    kept = [f"--setenv={name}={os.environ[name]}" for name in ("PATH", "HOME")]
    command = [activate, f"--listen=127.0.0.1:{port}", *kept, str(TOCSIN), part, *flags]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as process,
    ):
        try:
            assert "\ntocsin_build_info{" in answered(f"{url}/own")
            assert 'href="/own"' in answered(f"{url}/")
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"{url}/metrics", timeout=10)
        finally:
            process.terminate()
    assert process.returncode == 0, (tmp_path / "log").read_text()
