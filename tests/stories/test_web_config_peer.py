"""`tocsin exporter` and node_exporter with one web.config.file, which is changed while they serve:
some sixty requests, good and bad, are answered alike.

Not here, because they differ on purpose: RequireAnyClientCert, which we refuse (docs/access.md),
HTTP/2, which we do not serve, and paths and parameters other than node_exporter 1.5's.
"""

import base64
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import bcrypt
import pytest

from support.agent_process import BIN, free_port
from support.web_pki import Pki

NODE = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
SECURITY = (
    *("www-authenticate", "x-frame-options", "x-content-type-options", "x-xss-protection"),
    *("strict-transport-security", "content-security-policy"),
)


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def get(*headers: str, line: str = "GET /metrics HTTP/1.1", host: str = "Host: localhost") -> bytes:
    lines = [line, *([host] if host else []), *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


OPS = basic("ops", "one")
USERS = (
    f'basic_auth_users: {{ops: {hashed("one")}, empty: {hashed("")}, "üser": {hashed("pä:ss")}}}\n'
)
HEADERS = (
    "http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff, "
    'X-XSS-Protection: "1", Strict-Transport-Security: max-age=5, '
    "Content-Security-Policy: \"default-src 'self'\"}}\n"
)
NO_USER = get()
OF_USERS: dict[str, bytes] = {
    "nobody": get(),
    "right": get(OPS),
    "wrong password": get(basic("ops", "two")),
    "unknown user": get(basic("x", "one")),
    "no user": get(basic("", "one")),
    "empty password, right": get(basic("empty", "")),
    "empty password, wrong": get(basic("ops", "")),
    "UTF-8 and a colon": get(basic("üser", "pä:ss")),
    "other case of the user": get(basic("OPS", "one")),
    "73 bytes of password": get(basic("ops", "o" * 73)),
    "scheme in lower case": get(OPS.replace("Basic", "basic")),
    "scheme in upper case": get(OPS.replace("Basic", "BASIC")),
    "two spaces": get(OPS.replace("Basic ", "Basic  ")),
    "a tab": get(OPS.replace("Basic ", "Basic\t")),
    "no scheme": get(OPS.replace("Basic ", "")),
    "bearer": get("Authorization: Bearer one"),
    "no base64": get("Authorization: Basic !!!"),
    "base64 of URLs": get(OPS.replace("=", "_")),
    "without its padding": get(OPS.rstrip("=")),
    "no colon": get("Authorization: Basic " + base64.b64encode(b"ops").decode()),
    "blank": get("Authorization:"),
    "wrong, then right": get(basic("ops", "two"), OPS),
    "right, then wrong": get(OPS, basic("ops", "two")),
    "for a proxy": get(OPS.replace("Authorization", "Proxy-Authorization")),
    "in the URL": get(line="GET http://ops:one@localhost/metrics HTTP/1.1"),
    "absolute": get(OPS, line="GET http://localhost/metrics HTTP/1.1"),
    "HEAD, right": get(OPS, line="HEAD /metrics HTTP/1.1"),
    "HEAD, nobody": get(line="HEAD /metrics HTTP/1.1"),
    "POST, nobody": get("Content-Length: 0", line="POST /metrics HTTP/1.1"),
    "another page, nobody": get(line="GET / HTTP/1.1"),
    "no page, nobody": get(line="GET /nothing HTTP/1.1"),
    "HTTP/1.0 without a host": get(OPS, line="GET /metrics HTTP/1.0", host=""),
    "no host": get(OPS, host=""),
    "two hosts": get(OPS, "Host: b"),
    "a host with a space": get(OPS, host="Host: a b"),
    "no HTTP": b"xyz\r\n\r\n",
    "HTTP/2.0 in words": get(OPS, line="GET /metrics HTTP/2.0"),
    "a header without a colon": get(OPS, "no colon here"),
    "a length that is none": get(OPS, "Content-Length: x"),
    "a collector": get(OPS, line="GET /metrics?collect[]=loadavg HTTP/1.1"),
    "no collector": get(OPS, line="GET /metrics?collect[]=nothing HTTP/1.1"),
    "a deadline": get(OPS, "X-Prometheus-Scrape-Timeout-Seconds: 10"),
    "a deadline that is none": get(OPS, "X-Prometheus-Scrape-Timeout-Seconds: x"),
}


@dataclass(frozen=True)
class Client:
    """How one connects: `tls` false for plain HTTP; `certificate` is a file of the folder."""

    certificate: str = ""
    least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str = ""
    tls: bool = True

    def context(self, folder: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.minimum_version, context.maximum_version = self.least, self.most
        if self.certificate:
            context.load_cert_chain(folder / self.certificate, folder / f"{self.certificate}.key")
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        return context


PLAIN, ANY = Client(tls=False), Client()
OLD, NEW = Client(most=ssl.TLSVersion.TLSv1_2), Client(least=ssl.TLSVersion.TLSv1_3)
OF_AES128 = Client(most=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
OF_AES256 = Client(most=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
KNOWN, STRANGER = Client("known.pem"), Client("stranger.pem")
# What is added to `tls_server_config`, and who comes then.
OF_TLS: dict[str, tuple[Client, ...]] = {
    "": (PLAIN, ANY, OLD, NEW, KNOWN, OF_AES128, OF_AES256),
    "min_version: TLS13": (OLD, NEW),
    "max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]": (
        *(NEW, OF_AES128, OF_AES256),
    ),
    "client_auth_type: RequestClientCert": (ANY, STRANGER),
    "client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem": (ANY, KNOWN, STRANGER),
    "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem": (
        *(PLAIN, ANY, KNOWN, STRANGER),
    ),
}


class Peers:
    """Both exporters in `folder`, with its web.yml."""

    def __init__(self, folder: Path) -> None:
        assert NODE is not None
        self.folder = folder
        self.ports = free_port(), free_port()
        self.said = folder / "ours.log"
        self.written = 0
        ours, theirs = self.ports
        self.running = [
            self.start(ours, self.said, str(BIN / "tocsin"), "exporter", "--no-collector.gpu"),
            self.start(theirs, folder / "theirs.log", NODE),
        ]
        for port in self.ports:
            until(lambda port=port: listens(port))  # type: ignore[misc]

    def start(self, port: int, log: Path, *words: str) -> subprocess.Popen[bytes]:
        options = [f"--web.listen-address=127.0.0.1:{port}", "--web.config.file=web.yml"]
        with log.open("wb") as file:
            return subprocess.Popen([*words, *options], cwd=self.folder, stderr=file)

    def configure(self, text: str) -> None:
        """Until ours has read it; theirs reads it at each request."""
        (self.folder / "web.yml").write_text(text)
        self.written += 1
        again = "web configuration read again"
        until(lambda: self.said.read_text().count(again) >= self.written)

    def differences(self, name: str, request: bytes, client: Client) -> list[str]:
        ours, theirs = (self.answer(port, request, client) for port in self.ports)
        return [] if ours == theirs else [f"{name}: ours {ours}, node_exporter's {theirs}"]

    def answer(self, port: int, request: bytes, client: Client) -> tuple[object, ...]:
        """The status, the headers of a web configuration and its words; of a handshake that failed
        that alone."""
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as raw:
                if not client.tls:
                    return told(raw, request)
                context = client.context(self.folder)
                with context.wrap_socket(raw, server_hostname="localhost") as tls:
                    return (*told(tls, request), tls.version())
        except (ssl.SSLError, ConnectionError, HTTPException):
            return ("refused",)

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


def told(connection: socket.socket, request: bytes) -> tuple[object, ...]:
    connection.settimeout(10)
    connection.sendall(request)
    response = HTTPResponse(connection, method=request.split()[0].decode())
    response.begin()
    body = response.read()
    configured = [response.headers.get(name) for name in SECURITY]
    of_web_config = response.status == 401 or b"HTTP request to an HTTPS" in body
    return response.status, configured, body if of_web_config else b""


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    if NODE is None:
        pytest.skip("node_exporter is not installed")
    pki = Pki()
    (tmp_path / "ca.pem").write_bytes(pki.authority)
    for name, pair in {
        "server": pki.pair("localhost", "127.0.0.1"),
        "known": pki.pair("grafana.example", common_name="grafana"),
        "stranger": Pki().pair("grafana.example", common_name="grafana"),
    }.items():
        (tmp_path / f"{name}.pem").write_bytes(pair.certificate)
        (tmp_path / f"{name}.pem.key").write_bytes(pair.key)
    (tmp_path / "web.yml").write_text(tls_section(""))
    started = Peers(tmp_path)
    yield started
    started.close()


def tls_section(more: str) -> str:
    files = "cert_file: server.pem, key_file: server.pem.key"
    return f"tls_server_config: {{{', '.join(filter(None, (files, more)))}}}\n"


def test_sixty_requests_are_answered_alike(peers: Peers) -> None:
    differences, asked = [], 0
    for more, clients in OF_TLS.items():
        if more:
            peers.configure(tls_section(more))
        for client in clients:
            differences += peers.differences(f"{more} {client}", NO_USER, client)
            asked += 1
    peers.configure(tls_section("") + HEADERS + USERS)
    for name, request in OF_USERS.items():
        differences += peers.differences(name, request, ANY)
        asked += 1
    assert differences == [] and asked >= 60
    nobody = peers.answer(peers.ports[0], NO_USER, ANY)
    assert nobody[0] == 401 and "Basic" in str(nobody[1]) and "deny" in str(nobody[1])
    assert peers.answer(peers.ports[0], OF_USERS["right"], ANY)[0] == 200
    assert peers.answer(peers.ports[0], OF_USERS["in the URL"], ANY)[0] == 401
