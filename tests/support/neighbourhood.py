"""A pager amid hostile neighbours, all real: an agent, and an engine, a webhook and a mail server
that answer whatever bytes they are given.

Each trial runs while a fault is raised, whose P0 has to arrive, and within bounds of memory, answer
time and blocked loop. Everything runs in threads, so that fuzzers may be plain functions.
"""

import http.client
import json
import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.agent_process import AgentProcess
from support.remote_write import write_request

PAGE_SECONDS = 10.0  # 3 s on a machine that does nothing else
ANSWER_SECONDS = 10.0
BLOCKED = 3  # times of a second, in a trial: a machine under tests is a busy one
GROWTH_MIB = 200.0
TOKEN = "only-for-friends"
PART = b"\x1e"  # between what a mail server says to one line and to the next
SOUND_ENGINE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b'# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name="m"} 0\n'
)
SOUND_HOOK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
SOUND_MAIL = PART.join([b"220 here\r\n", *[b"250 fine\r\n"] * 3, b"354 go on\r\n", b"250 sent\r\n"])
SECRET_HEADERS = {"Authorization": f"Bearer {TOKEN}"}
WRITE_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
RULES = """\
groups:
- name: faults
  rules:
  - {alert: Fault, expr: trial_fault > 0, labels: {severity: P0}}
"""
CONFIG = """\
collect: {{host: 1s, engines: 500ms, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [{rules}]
engines: [{{url: "http://127.0.0.1:{engine}"}}]
web: {{token_file: token}}
group: {{by: [alertname, trial]}}
receivers:
  pager: {{type: webhook, url: "http://127.0.0.1:{pager}/"}}
  odd-hook: {{type: webhook, url: "http://127.0.0.1:{hook}/", timeout: 2s}}
  odd-mail: {{type: email, smarthost: "127.0.0.1:{mail}", tls: none, timeout: 2s,
    from: a@example.com, to: [b@example.com]}}
policies:
  P0:
    group: {{wait: 0s}}
    steps: [{{notify: [{{receiver: pager}}, {{receiver: odd-hook}}, {{receiver: odd-mail}}]}}]
"""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        return


class Neighbour:
    """A server on a free port; `answer` is what it says, and `asked` counts who came."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.asked = answer, 0
        self.bodies: list[tuple[float, bytes]] = []
        neighbour = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 5

            def handle(self) -> None:
                neighbour.serve(self)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def serve(self, client: socketserver.StreamRequestHandler) -> None:
        """An HTTP server's part."""
        said = self.answer
        length = 0
        while (line := client.rfile.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.bodies.append((time.monotonic(), client.rfile.read(length)))
        self.asked += 1
        client.wfile.write(said)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class MailServer(Neighbour):
    def serve(self, client: socketserver.StreamRequestHandler) -> None:
        first, *others = self.answer.split(PART)
        self.asked += 1
        client.wfile.write(first)
        in_text = False
        for line in iter(client.rfile.readline, b""):
            if in_text and line.rstrip() != b".":
                continue
            said = others.pop(0) if others else b"250 fine\r\n"
            in_text = said.startswith(b"354")
            client.wfile.write(said)


class Neighbourhood:
    """Everything started in `folder`; use it as a context manager."""

    def __init__(self, folder: Path, rules: str = RULES, *options: str) -> None:
        self.engine = Neighbour(SOUND_ENGINE)
        self.hook, self.pager = Neighbour(SOUND_HOOK), Neighbour(SOUND_HOOK)
        self.mail = MailServer(SOUND_MAIL)
        self._faults = 0
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        (folder / "rules.yml").write_text(rules)
        ports = {name: getattr(self, name).port for name in ("engine", "pager", "hook", "mail")}
        (folder / "tocsin.yml").write_text(CONFIG.format(rules="rules.yml", **ports))
        flags = ("--config.file", "tocsin.yml", "--storage.path", "data", "--no-worker")
        self.agent = AgentProcess(folder, *flags, *options)

    def __enter__(self) -> "Neighbourhood":
        self.agent.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.kill()
        for one in (self.engine, self.hook, self.pager, self.mail):
            one.close()

    @property
    def alive(self) -> bool:
        return self.agent.process is not None and self.agent.process.poll() is None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        within: float = 60,
    ) -> tuple[int, bytes]:
        """Status and body; the token comes along unless `headers` are given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=within)
        try:
            connection.request(method, path, body, SECRET_HEADERS if headers is None else headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def write(self, body: bytes, sender: str = "trial/1") -> int:
        headers = {**WRITE_HEADERS, **SECRET_HEADERS, "User-Agent": sender}
        return self.ask("POST", "/api/v1/write", body, headers)[0]

    def metric(self, name: str) -> float:
        page = self.ask("GET", "/metrics")[1].decode()
        values = re.findall(rf"(?m)^{name}(?:\{{.*\}})? (\S+)$", page)
        assert values, f"no {name}"
        return sum(map(float, values))

    def data(self, path: str) -> Any:
        return json.loads(self.ask("GET", path)[1])["data"]

    def resident_mib(self) -> float:
        assert self.agent.process is not None
        status = Path(f"/proc/{self.agent.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def page_seconds(
        self, within: float = PAGE_SECONDS, at_ms: int | None = None, source: str = "trials"
    ) -> float:
        """Raises a fault, and gives the seconds until its page arrived. `at_ms` is the agent's time
        where it has one of its own; `source` is a sender and source of samples of its own."""
        self._faults += 1
        trial = f"trial-{self._faults}-{time.time_ns()}"
        labels = (
            ("__name__", "trial_fault"),
            ("instance", "trials"),
            ("job", "x"),
            ("trial", trial),
        )
        began = time.monotonic()
        body = write_request([(labels, [(at_ms or time.time_ns() // 10**6, 1.0)])])
        while (
            status := self.write(body, f"{source}/1")
        ) == 503:  # a sender's part: again, a moment later
            assert time.monotonic() - began < within, "no fault can be written"
            time.sleep(0.1)
        assert status in (200, 204), status
        answered = time.monotonic() - began
        assert answered < within, f"the fault's write was answered after {answered:.1f} s"
        while time.monotonic() - began < within:
            for at, page in list(self.pager.bodies):
                if trial.encode() in page:
                    return at - began
            time.sleep(0.02)
        raise AssertionError(f"no page within {within:g} s; {self.agent.said()[-3000:]}")

    @contextmanager
    def watched(self, growth_mib: float = GROWTH_MIB) -> Iterator[None]:
        """Bounds on what happens within: memory, answers, blocked loop, lines of tracebacks."""
        before, blocked = self.resident_mib(), self.metric("tocsin_loop_blocked_total")
        said = len(self.agent.said())
        seen: dict[str, float] = {"mib": before, "seconds": 0.0}
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.1) and self.alive:
                began = time.monotonic()
                self.ask("GET", "/-/healthy")
                seen["seconds"] = max(seen["seconds"], time.monotonic() - began)
                seen["mib"] = max(seen["mib"], self.resident_mib())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join(60)
        assert self.alive, self.agent.said()[-3000:]
        assert seen["mib"] - before < growth_mib, f"grew from {before:.0f} to {seen['mib']:.0f} MiB"
        assert seen["seconds"] < ANSWER_SECONDS, f"an answer took {seen['seconds']:.1f} s"
        assert self.metric("tocsin_loop_lag_seconds") < ANSWER_SECONDS
        assert self.metric("tocsin_loop_blocked_total") - blocked <= BLOCKED
        assert "Traceback" not in self.agent.said()[said:], self.agent.said()[said:][:3000]

    def pages_during(self, trial: Callable[[], object], growth_mib: float = GROWTH_MIB) -> None:
        """Runs `trial` in a thread of its own, raises a fault meanwhile, and holds the bounds."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                trial()
            except BaseException as error:
                failures.append(error)

        with self.watched(growth_mib):
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            time.sleep(0.3)
            self.page_seconds()
            thread.join(60)
            assert not thread.is_alive(), "the trial takes too long"
        if failures:
            raise failures[0]
