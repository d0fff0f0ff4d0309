"""Whoever is on the agent's machine and may use its socket needs no token; all others do."""

import asyncio
import os
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from support.agent_process import BIN, AgentProcess

CONFIG = """
collect: {gpu: 0s, processes: 0s}
engines: [{url: "http://127.0.0.1:9"}]
receivers: {desk: {type: log}}
web: {token_file: token}
"""
TEST = ("channels", "test", "desk")


def alertctl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ALERTCTL_")}
    command = [str(BIN / "alertctl"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def check(agent: AgentProcess, folder: Path) -> None:
    about = (folder / "data" / "agent.sock").stat()
    assert stat.S_ISSOCK(about.st_mode) and stat.S_IMODE(about.st_mode) == 0o660
    there = ("--url", agent.url)
    done = alertctl(folder, *TEST)
    assert (done.returncode, done.stderr) == (0, "")
    assert alertctl(folder, "health").returncode == 0
    refused = alertctl(folder, *there, *TEST)
    assert refused.returncode == 1 and "token" in refused.stderr
    assert alertctl(folder, *there, "--token-file", "token", *TEST).returncode == 0
    (folder / "token").rename(folder / "gone")
    assert alertctl(folder, *there, *TEST).returncode == 1
    assert alertctl(folder, *TEST).returncode == 0


def check_pages(agent: AgentProcess) -> None:
    """What another page may learn from us, and where a redirect leads."""
    for path, open_ in (("query?query=up", True), ("status/config", False), ("targets", False)):
        asked = urllib.request.Request(
            f"{agent.url}/api/v1/{path}", headers={"Origin": "http://evil.example"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert (answer.headers["access-control-allow-origin"] == "*") == open_, path

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    opener = urllib.request.build_opener(Stay)
    for host in ("localhost", "evil.example"):
        asked = urllib.request.Request(f"{agent.url}/metrics/", headers={"Host": host})
        try:
            opener.open(asked, timeout=10)
        except urllib.error.HTTPError as error:
            with error:
                expected = (307, "/metrics") if host == "localhost" else (403, None)
                assert (error.code, error.headers["location"]) == expected


async def test_the_socket_needs_no_token_and_the_port_does(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    (tmp_path / "token").write_text("hunter2\n")
    (tmp_path / "token").chmod(0o600)
    agent = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker")
    await asyncio.to_thread(agent.start)
    try:
        await asyncio.to_thread(check, agent, tmp_path)
        await asyncio.to_thread(check_pages, agent)
    finally:
        agent.kill()
