"""A running agent, its socket and its port: who may do what, and under whose name."""

import asyncio
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import BIN, AgentProcess, free_port
from support.story import until

CONFIG = """
collect: {gpu: 0s, processes: 0s, host: 1s}
evaluation_interval: 1s
engines: [{url: "http://127.0.0.1:9"}]
receivers: {desk: {type: log}}
rule_files: [rules.yml]
"""
RULES = """
groups:
- name: g
  rules:
  - {alert: Always, expr: vector(1), labels: {severity: P2}, annotations: {summary: s}}
"""


def alertctl(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ALERTCTL_")} | more
    command = [str(BIN / "alertctl"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def ask(
    url: str, token: str = "", body: Mapping[str, str] | None = None, host: str = ""
) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    headers |= {"Content-Type": "application/json"} if data is not None else {}
    asked = urllib.request.Request(url, data, headers | ({"Host": host} if host else {}))
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def history(agent: AgentProcess, folder: Path) -> list[Any]:
    shown = alertctl(folder, "incidents", "1", "-o", "json")
    return list(json.loads(shown.stdout)["history"])


def actors(agent: AgentProcess, folder: Path) -> list[str]:
    return list(dict.fromkeys(e["actor"] for e in history(agent, folder) if e["actor"]))


def add(folder: Path, name: str, role: str) -> str:
    done = alertctl(folder, "token", "add", name, "--role", role)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check(agent: AgentProcess, folder: Path) -> None:
    there, ack = f"{agent.url}/api/v1/incidents", f"{agent.url}/api/v1/incidents/1/ack"
    assert ask(there)[0] == 200  # no token yet: this machine may
    read, respond, admin = (add(folder, f"t-{r}", r) for r in ("read", "respond", "admin"))
    assert stat_mode(folder) == 0o600
    assert ask(there)[0] == 401
    assert ask(f"{agent.url}/metrics")[0] == 200
    assert [ask(there, token)[0] for token in (read, respond, admin)] == [200] * 3
    status, text = ask(ack, read, {})
    assert (status, "has the role read" in text) == (403, True)
    assert ask(ack, respond, {"by": "wang"})[0] == 403
    assert ask(ack, respond, {"user": "wang"})[0] == 200
    assert ask(f"{agent.url}/api/v1/incidents/1/unack", admin, {"by": "wang"})[0] == 200
    done = alertctl(folder, "ack", "1", "--note", "mine")
    assert done.returncode == 0, done.stderr
    assert alertctl(folder, "resolve", "1", "--by", "zhao").returncode == 0
    me = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    assert actors(agent, folder) == ["t-respond", "wang", me, "zhao"]
    (folder / "respond").write_text(respond)
    remote = alertctl(folder, "--url", agent.url, "--token-file", "respond", "incidents")
    assert remote.returncode == 0, remote.stderr
    refused = alertctl(folder, "--url", agent.url, "--token-file", "respond", "token", "list")
    assert refused.returncode == 1 and "admin" in refused.stderr
    listed = alertctl(folder, "token", "list")
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [
        ["t-read", "read"],
        ["t-respond", "respond"],
        ["t-admin", "admin"],
    ]
    assert alertctl(folder, "token", "revoke", "t-respond").returncode == 0
    assert alertctl(folder, "token", "revoke", "t-respond").returncode == 1
    assert alertctl(folder, "--url", agent.url, "--token-file", "respond", "alerts").returncode == 1
    told = agent.log.read_text() + listed.stdout + refused.stderr + str(history(agent, folder))
    for token in (read, respond, admin):
        assert token not in told and token not in (folder / "data" / "tokens.json").read_text()


def stat_mode(folder: Path) -> int:
    return (folder / "data" / "tokens.json").stat().st_mode & 0o777


def check_damaged(agent: AgentProcess, folder: Path, token: str) -> None:
    """The file breaks while it runs: nobody is let in over TCP, and everybody by the socket."""
    there = f"{agent.url}/api/v1/incidents"
    assert ask(there, token)[0] == 200
    file = folder / "data" / "tokens.json"
    kept = file.read_text()
    file.write_text("{")
    assert soon(lambda: ask(there, token)[0] == 401) and ask(there)[0] == 401
    assert alertctl(folder, "incidents").returncode == 0
    file.write_text(kept)
    assert soon(lambda: ask(there, token)[0] == 200)


def soon(holds: Callable[[], bool]) -> bool:
    """Whether it becomes true; a file is read again after a tenth of a second."""
    return any(holds() for _ in range(1000))


def without_an_agent(folder: Path) -> str:
    done = alertctl(folder, "token", "add", "early", "--role", "read", "--storage.path", "data")
    assert done.returncode == 0, done.stderr
    nowhere = alertctl(folder, "token", "list", XDG_RUNTIME_DIR="")
    assert nowhere.returncode == 4 and "--storage.path" in nowhere.stderr
    listed = alertctl(folder, "token", "list", "--storage.path=data", "-o", "json")
    assert [row["name"] for row in json.loads(listed.stdout)["tokens"]] == ["early"]
    assert alertctl(folder, "token", "revoke", "none", "--storage.path=data").returncode == 1
    return done.stdout.strip()


async def test_the_socket_says_who_and_the_token_what(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    (tmp_path / "rules.yml").write_text(RULES)
    agent = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker")
    await asyncio.to_thread(agent.start)
    try:
        await asyncio.to_thread(agent.wait_for, "/api/v1/incidents/1", 60)
        await asyncio.to_thread(check, agent, tmp_path)
    finally:
        agent.kill()


async def test_tokens_are_made_without_an_agent_and_outlive_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "data").mkdir(mode=0o700)
    token = await asyncio.to_thread(without_an_agent, tmp_path)
    agent = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker")
    await asyncio.to_thread(agent.start)
    try:
        await asyncio.to_thread(check_damaged, agent, tmp_path, token)
    finally:
        agent.kill()
    assert token not in agent.log.read_text()


def outer_address() -> str:
    """Of this machine, as others see it; "" where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def check_outside(agent: AgentProcess, outside: str, reads: int) -> None:
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        assert ask(outside + path)[0] == 200, path
    for path in ("/", "/api/v1/query?query=up", "/api/v1/incidents", "/runbooks/HostCpuHigh"):
        assert ask(outside + path)[0] == reads, path
    assert ask(f"{outside}/api/v1/incidents/1/ack", body={})[0] == 403
    assert ask(f"{agent.url}/api/v1/incidents")[0] == 200


@pytest.mark.parametrize(("flag", "reads"), [((), 403), (("--web.open",), 200)])
async def test_other_machines_without_credentials(
    tmp_path: Path, flag: Sequence[str], reads: int
) -> None:
    if not (address := outer_address()):
        pytest.skip("this machine has no address but the loopback")
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    (tmp_path / "rules.yml").write_text(RULES)
    outside = f"0.0.0.0:{free_port()}"
    where = ("--config.file=tocsin.yml", "--no-worker", f"--web.listen-address={outside}")
    agent = AgentProcess(tmp_path, *where, *flag)
    await asyncio.to_thread(agent.start)
    try:
        url = f"http://{address}:{outside.rpartition(':')[2]}"
        await asyncio.to_thread(check_outside, agent, url, reads)
        agent.wait_for("/api/v1/incidents/1", 60)
        word = "OPEN: everybody who reaches" if flag else "CLOSED to other machines:"
        await until(lambda: f"  access   {word}" in agent.said(), 20)  # the banner
    finally:
        agent.kill()
    assert f"{word} {outside}" in agent.said()
