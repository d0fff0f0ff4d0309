"""A running agent and exporter with exporter-toolkit's web configuration, for their clients."""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import bcrypt
import httpx2
import pytest

from support.agent_process import BIN, AgentProcess
from support.web_pki import Pki

CONFIG = """
collect: {gpu: 0s, processes: 0s, host: 1s}
engines: [{url: "http://127.0.0.1:9"}]
receivers: {desk: {type: log}}
web: {roles: {grafana: read}}
"""
TLS = "tls_server_config: {cert_file: tls/server.pem, key_file: tls/server.key}\n"


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


class Site:
    """A folder with certificates and a web configuration, and a client who believes them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pki = folder, Pki()
        (folder / "tls").mkdir()
        self.renew()
        self.users(ops="one", grafana="two")
        (folder / "t.yml").write_text(CONFIG)
        (folder / "ca.pem").write_bytes(self.pki.authority)
        self.tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))

    def renew(self) -> None:
        pair = self.pki.pair("localhost", "127.0.0.1")
        (self.folder / "tls" / "server.pem").write_bytes(pair.certificate)
        (self.folder / "tls" / "server.key").write_bytes(pair.key)

    def users(self, head: str = TLS, **users: str) -> None:
        rows = [f"  {name}: {hashed(password)}\n" for name, password in users.items()]
        (self.folder / "web.yml").write_text(f"{head}basic_auth_users:\n{''.join(rows)}")

    def status(self, url: str, *auth: str) -> int:
        given = (auth[0], auth[1]) if auth else None
        with httpx2.Client(verify=self.tls, trust_env=False, auth=given) as client:
            return int(client.get(url).status_code)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fingerprint(port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw) as tls:
        return tls.getpeercert(binary_form=True) or b""


def test_an_agent_with_tls_and_users(site: Site) -> None:
    arguments = ("--config.file", "t.yml", "--web.config.file", "web.yml")
    with AgentProcess(site.folder, *arguments, tls=site.tls) as agent:
        incidents, metrics = f"{agent.url}/api/v1/incidents", f"{agent.url}/metrics"
        assert site.status(f"{agent.url}/-/healthy") == 200
        assert [site.status(url) for url in (incidents, metrics, agent.url)] == [401] * 3
        assert site.status(metrics, "ops", "one") == site.status(incidents, "ops", "one") == 200
        assert site.status(incidents, "ops", "two") == 401
        posted = httpx2.post(
            f"{agent.url}/api/v1/silences",
            json={},
            auth=("grafana", "two"),
            verify=site.tls,
            trust_env=False,
        )
        assert posted.status_code == 403 and "grafana" in posted.text
        plain = httpx2.get(f"http://127.0.0.1:{agent.port}/metrics", trust_env=False)
        assert plain.status_code == 400 and "HTTPS server" in plain.text
        local = subprocess.run(
            [str(BIN / "alertctl"), "health"],
            cwd=site.folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("ALERTCTL")},
            capture_output=True,
            text=True,
        )
        assert local.returncode == 0, "the Unix socket has no TLS and needs no password"
        until(lambda: "https, basic auth for 2 users, also for /metrics" in agent.said())
        before = fingerprint(agent.port)
        site.renew()
        until(lambda: fingerprint(agent.port) != before)
        site.users(mei="three")
        until(lambda: site.status(incidents, "mei", "three") == 200)
        assert site.status(incidents, "ops", "one") == 401
        (site.folder / "web.yml").write_text("basic_auth_user: {}\n")
        until(lambda: "web.yml:1:1: unknown key" in agent.said())
        assert site.status(incidents, "mei", "three") == 200
        said = agent.said()
        assert "$2b$" not in said and "PRIVATE" not in said
        assert "TLS handshake failed" not in said, "nobody but clients of ours has asked"


def test_a_heartbeat_needs_its_token_alone_beside_users(site: Site) -> None:
    """By curl, as a cron job sends it."""
    token = "job-5ecre7-0123456789"
    (site.folder / "job.token").write_text(f"{token}\n")
    expected = "heartbeats: {expected: {job: {every: 1h, token_file: job.token}}}\n"
    (site.folder / "t.yml").write_text(CONFIG + expected)
    arguments = ("--config.file", "t.yml", "--web.config.file", "web.yml")
    with AgentProcess(site.folder, *arguments, tls=site.tls) as agent:
        beat = f"{agent.url}/api/v1/heartbeat/job"

        def answer(url: str, *more: str) -> str:
            command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(site.folder / "ca.pem")]
            command += ["-o", os.devnull, "-w", "%{http_code}", *more, url]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        bearer = ("-H", f"Authorization: Bearer {token}")
        assert answer(beat, "-X", "POST", *bearer) == "200"
        assert answer(f"{agent.url}/api/v1/heartbeat/other", "-X", "POST", *bearer) == "403"
        assert answer(beat, "-X", "POST", "-H", f"Authorization: Bearer {token}x") == "401"
        assert answer(beat, "-X", "POST", "-u", "ops:one") == "401", "a user is no heartbeat"
        assert answer(beat, "-X", "POST") == "401"
        assert answer(f"{agent.url}/api/v1/incidents", *bearer) in ("401", "403")
        assert answer(f"{agent.url}/metrics", *bearer) in ("401", "403")


def test_a_file_that_is_wrong_is_said_with_its_place_and_nothing_starts(site: Site) -> None:
    (site.folder / "web.yml").write_text("tls_server_config: {cert_fil: x}\n")
    for command in ("up", "exporter"):
        done = subprocess.run(
            [str(BIN / "tocsin"), command, "--web.config.file=web.yml"],
            cwd=site.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert 'web.yml:1:21: unknown key "tls_server_config.cert_fil"; did you mean' in done.stderr
        done = subprocess.run(
            [str(BIN / "tocsin"), command, "--web.config.file=none.yml"],
            cwd=site.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2 and "--web.config.file none.yml: no such file" in done.stderr
