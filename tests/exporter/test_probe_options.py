"""`/probe` of `tocsin exporter`: its modules, and for whom it probes."""

import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from tocsin_alerting.config.probe_modules import load_modules
from tocsin_exporter.clock import Clock
from tocsin_exporter.exporter import ExporterOptions, build
from tocsin_exporter.loop_watchdog import LoopWatchdog
from tocsin_exporter.web_config import LiveWebConfig, WebConfig

NOBODY = {"target": "127.0.0.1:1", "module": "tcp_connect"}
LI = "$2b$04$abcdefghijklmnopqrstuuIB2gh8x4NgVgLYCMCGJxkVvUPVfWBQe"  # of no password at all


async def told(address: str, headers: dict[str, str], web: LiveWebConfig | None = None) -> int:
    clock = Clock()
    options = ExporterOptions(probe_modules=load_modules(None), web=web or LiveWebConfig())
    _, app = build(options, clock, LoopWatchdog(lambda: None, clock.monotonic))
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4911") as client:
        return (await client.get("/probe", params=NOBODY, headers=headers)).status_code


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [("127.0.0.1", {}, 200), ("10.0.0.7", {}, 403),
     ("127.0.0.1", {"x-forwarded-for": "10.0.0.7"}, 403)],
)  # fmt: skip
async def test_it_probes_for_this_machine(
    address: str, headers: dict[str, str], status: int
) -> None:
    assert await told(address, headers) == status


async def test_where_there_are_users_all_need_to_be_one() -> None:
    web = LiveWebConfig(lambda: WebConfig(users={"li": LI}))
    assert await told("127.0.0.1", {}, web) == 401


def test_a_file_of_modules_that_is_wrong_keeps_it_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "blackbox.yml"
    file.write_text("modules: {m: {prober: htp}}\n")
    program = "from tocsin_alerting.cli.tocsin import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "exporter", "--probe.config.file", file],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"{file}:1:23: modules.m.prober: must be" in ended.stderr
