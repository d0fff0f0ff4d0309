"""Logs, read by `tocsin exporter` that is killed while they are rotated."""

import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.agent_process import BIN, free_port
from support.tailing import append, numbered, rotated

LINES = 'tocsin_log_lines_total{level="unknown",source="app"}'
FILES = 'tocsin_log_files{source="app"}'


class Exporter:
    """In `folder`, which has its file `logs.yml`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Killed at the end."""
        command = [str(BIN / "tocsin"), "exporter", f"--web.listen-address=127.0.0.1:{self.port}",
                   "--logs.config=logs.yml", "--logs.positions=kept"]  # fmt: skip
        with (self.folder / "said").open("ab") as said:
            process = subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said)
        try:
            self.wait_for(FILES, 1)
            yield
        finally:
            process.kill()
            process.wait()

    def value(self, series: str) -> float:
        """-1 for none."""
        url = f"http://127.0.0.1:{self.port}/metrics?collect[]=logs"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = re.search(rf"(?m)^{re.escape(series)} (\S+)$", answer.read().decode())
        except OSError:
            return -1
        return float(found[1]) if found else -1

    def wait_for(self, series: str, value: float) -> None:
        end = time.monotonic() + 60
        while self.value(series) < value:
            assert time.monotonic() < end, (self.folder / "said").read_text()
            time.sleep(0.1)


def test_an_exporter_that_is_killed_counts_each_line_once(tmp_path: Path) -> None:
    log, exporter = tmp_path / "app.log", Exporter(tmp_path)
    log.touch()
    (tmp_path / "logs.yml").write_text(f"logs: [{{name: app, paths: ['{log}']}}]")
    for run in range(2):
        with exporter.running():
            append(log, *numbered(0, 100))
            rotated(log)
            append(log, *numbered(0, 100))
            exporter.wait_for(LINES, 350 * run + 200)
            append(log, *numbered(0, 50))
        append(log, *numbered(0, 100))
        rotated(log)
        append(log, "half", end="")
    with exporter.running():
        append(log, " and half")
        exporter.wait_for(LINES, 701)
        assert exporter.value(LINES) == 701
