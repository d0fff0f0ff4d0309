"""What runs beside a measurement, always on loopback and on free ports, and ended by its pid."""

import http.client
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary(name: str, package: str = "prometheus") -> str:
    """Its path; ends the measurement with what to install when there is none."""
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: apt-get install {package}")
    return found


@contextmanager
def running(command: Sequence[str], port: int, path: str, folder: Path) -> Iterator[int]:
    """Runs `command` in `folder` until the block ends; its pid, once `path` answers 200."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _wait(process, port, path, folder)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def agent(port: int, folder: Path, *arguments: str) -> Iterator[int]:
    """`tocsin up ARGUMENTS` in `folder`, with nothing but what the arguments say."""
    command = [str(Path(sys.executable).parent / "tocsin"), "up"]
    listen = f"--web.listen-address=127.0.0.1:{port}"
    with running([*command, listen, *arguments], port, "/-/ready", folder) as pid:
        yield pid


@contextmanager
def prometheus(port: int, folder: Path, config: str, *flags: str) -> Iterator[int]:
    """The real Prometheus with its data in `folder`/data; it receives remote write."""
    (folder / "prometheus.yml").write_text(config)
    command = [
        binary("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        *flags,
    ]
    with running(command, port, "/-/ready", folder) as pid:
        yield pid


@contextmanager
def victoria_metrics(port: int, folder: Path) -> Iterator[int]:
    """The real VictoriaMetrics with its data in `folder`/data, which keeps no answers."""
    command = [
        binary("victoria-metrics", "victoria-metrics"),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=2",
        "-search.disableCache",
        "-search.latencyOffset=0s",
    ]
    with running(command, port, "/health", folder) as pid:
        yield pid


def anonymous_mb(pid: int) -> float:
    """RssAnon of a process, in MB of 2**20 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _wait(process: subprocess.Popen[bytes], port: int, path: str, folder: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    said = (folder / "log").read_text(errors="replace")[-2000:]
    raise SystemExit(f"{process.args!r} was not ready within {START_SECONDS:g} s:\n{said}")
