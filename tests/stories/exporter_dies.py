"""The exporter is killed under a Prometheus that has our rules: it never looks well."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.agent_process import free_port
from support.dashboards import build_script
from support.prometheus import Prometheus, running_prometheus
from support.story import until

RULES = Path(__file__).parents[2] / "rules"
BIN = Path(sys.executable).parent
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yml"]
scrape_configs:
- job_name: our boxes
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


async def exporter_dies(folder: Path, together: asyncio.Barrier) -> list[str]:
    """With an engine down: a P0 fires at each moment, and no tile of the board is a number."""
    if shutil.which("prometheus") is None:
        await together.wait()
        pytest.skip("prometheus is not installed")
    port = free_port()
    rules = _sooner(folder / "rules")
    config = CONFIG.format(rules=rules, port=port)
    engine = f"http://127.0.0.1:{free_port()}"
    with _exporter(port, engine) as exporter, running_prometheus(folder, config=config) as server:
        await until(lambda: "InferenceEngineDown" in _firing(server), 60)
        await together.wait()
        assert await asyncio.to_thread(_tile, server, "Engines down") == ["1"]
        exporter.kill()
        killed = time.monotonic()
        await until(lambda: _silent_tile_and_p0(server), 10)
        while "TocsinDown" not in _firing(server):
            assert "InferenceEngineDown" in _firing(server)
            assert time.monotonic() - killed < 20
            await asyncio.sleep(0.2)
        assert await asyncio.to_thread(_tile, server, "Firing alerts") != ["0"]
        return sorted(_firing(server))


def _sooner(folder: Path) -> Path:
    """The bundled rules with a `for` of seconds instead of minutes."""
    folder.mkdir()
    for path in RULES.glob("*.yml"):
        (folder / path.name).write_text(path.read_text().replace("for: 1m\n", "for: 4s\n"))
    return folder


@contextmanager
def _exporter(port: int, engine: str) -> Iterator[subprocess.Popen[bytes]]:
    listen = f"--web.listen-address=127.0.0.1:{port}"
    command = [str(BIN / "tocsin"), "exporter", listen, "--engine.url", engine]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _firing(server: Prometheus) -> set[str]:
    """The names of the alerts of P0 that fire."""
    found = server.get("query", query='ALERTS{alertstate="firing", severity="P0"}')
    return {one["metric"]["alertname"] for one in found["data"]["result"]}


def _tile(server: Prometheus, title: str) -> list[str]:
    """What a panel of the board with one number shows: nothing, or a number."""
    build = build_script()
    panels = build.overview()["panels"]
    (query,) = (p["targets"][0]["expr"] for p in panels if p["title"] == title)
    found = server.get("query", query=build.substitute(query))
    return [one["value"][1] for one in found["data"]["result"]]


def _silent_tile_and_p0(server: Prometheus) -> bool:
    assert "InferenceEngineDown" in _firing(server)
    return _tile(server, "Engines down") == []
