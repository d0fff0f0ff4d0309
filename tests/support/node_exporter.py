"""The real node_exporter on loopback, with the collectors and exclusions that are ours."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tocsin_exporter.collector_settings import (
    DISKS_EXCLUDED,
    ENABLED,
    FILESYSTEMS_EXCLUDED,
    MOUNTS_EXCLUDED,
)

START_S = 20.0


@contextmanager
def running_node_exporter(collectors: Iterable[str] = tuple(ENABLED), *flags: str) -> Iterator[str]:
    """Its address, with these collectors alone; skips the test where there is none."""
    binary = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if binary is None:
        pytest.skip("node_exporter is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [
            binary,
            f"--web.listen-address={address}",
            "--web.disable-exporter-metrics",
            "--collector.disable-defaults",
            *(f"--collector.{name}" for name in collectors),
            *flags,
            f"--collector.diskstats.device-exclude={DISKS_EXCLUDED}",
            f"--collector.filesystem.mount-points-exclude={MOUNTS_EXCLUDED}",
            f"--collector.filesystem.fs-types-exclude={FILESYSTEMS_EXCLUDED}",
            "--collector.netdev.device-exclude=^$",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(address)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def page(address: str) -> str:
    with urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _wait(address: str) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            page(address)
            return
        except URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
