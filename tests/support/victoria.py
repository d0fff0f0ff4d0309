"""The real VictoriaMetrics on loopback."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.prometheus import Prometheus, ready


@contextmanager
def running_victoria(directory: Path, port: int) -> Iterator[Prometheus]:
    """With its data in `directory`; skips the test where there is none."""
    binary = shutil.which("victoria-metrics")
    if binary is None:
        pytest.skip("victoria-metrics is not installed")
    flags = (f"-storageDataPath={directory / 'vm'}", f"-httpListenAddr=127.0.0.1:{port}")
    quick_end = ("-http.maxGracefulShutdownDuration=100ms",)
    process = subprocess.Popen(
        [binary, *flags, "-retentionPeriod=1", "-search.disableCache", *quick_end],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield ready(Prometheus(f"http://127.0.0.1:{port}"), process)
    finally:
        process.terminate()
        process.wait(20)
