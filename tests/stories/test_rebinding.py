"""A page of a name that was rebound to the agent, and those who may call it as they do."""

import asyncio
import socket
import urllib.error
import urllib.request
from pathlib import Path

from support.agent_process import AgentProcess

CONFIG = """
collect: {gpu: 0s, processes: 0s}
external_url: https://bell.example/tocsin
engines: [{url: "http://127.0.0.1:9"}]
web: {allow_hosts: [agent], token_file: token}
"""
READS = ["/", "/api/v1/incidents", "/api/v1/query?query=up", "/api/v1/status/config", "/runbooks/x"]


def status(agent: AgentProcess, path: str, **headers: str) -> int:
    asked = urllib.request.Request(agent.url + path, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def raw(agent: AgentProcess, text: str) -> bytes:
    with socket.create_connection(("127.0.0.1", agent.port), 10) as connection:
        connection.sendall(text.encode())
        return connection.makefile("rb").readline()


def check(agent: AgentProcess) -> None:
    for path in READS:
        assert status(agent, path, Host="evil.example") == 403, path
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        assert status(agent, path, Host="evil.example") == 200, path
    ours = ["agent:4911", "AGENT.", "bell.example", "[::1]:4911", socket.gethostname()]
    for host in ours:
        assert status(agent, "/api/v1/query?query=up", Host=host) == 200, host
    right = {"Host": "evil.example", "Authorization": "Bearer hunter2"}
    assert status(agent, "/api/v1/incidents", **right) == 200
    wrong = {"Host": "evil.example", "Authorization": "Bearer hunter3"}
    assert status(agent, "/api/v1/incidents", **wrong) == 403
    assert b" 200 " in raw(agent, "GET /api/v1/incidents HTTP/1.0\r\n\r\n")
    assert b" 200 " not in raw(agent, "GET /api/v1/incidents HTTP/1.1\r\n\r\n")


async def test_reads_are_for_those_who_know_our_name(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    (tmp_path / "token").write_text("hunter2\n")
    (tmp_path / "token").chmod(0o600)
    agent = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker")
    await asyncio.to_thread(agent.start)
    try:
        await asyncio.to_thread(check, agent)
    finally:
        agent.kill()
