"""Fuzzers against live processes: what each says, to whom, and what must hold afterwards.

What breaks the rules is kept as a file in tests/hostile/cases/KIND/, which CI says again.
"""

import hashlib
import http.client
import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import FlakyFailure

from support.agent_process import free_port
from support.fuzz_bodies import STRATEGIES, Bytes, worker_requests
from support.neighbourhood import (
    ANSWER_SECONDS,
    SECRET_HEADERS,
    SOUND_ENGINE,
    SOUND_HOOK,
    SOUND_MAIL,
    Neighbourhood,
)
from support.tiny_model import write_tiny_model

CASES = Path(__file__).parents[1] / "hostile" / "cases"
LIMITS_OWN = (400, 401, 403, 404, 405, 408, 413, 414, 415, 422, 429, 431, 501, 503)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EXAMPLES = 40  # of a round, after which a fault is raised


class Broken(AssertionError):
    """Something that no neighbour may bring about."""


def raw_status(port: int, raw: bytes, patience: float = 0.3) -> int | None:
    """The status of the answer to these bytes; None where the connection just ended. After
    `patience` seconds without an answer we say that nothing more comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        with suppress(ConnectionError):
            connection.sendall(raw)
        answer = b""
        with suppress(OSError):
            answer = connection.recv(4096)
        connection.settimeout(40)
        with suppress(ConnectionError):
            if not answer:
                connection.shutdown(socket.SHUT_WR)
            while len(answer) < 13 and (piece := connection.recv(4096)):
                answer += piece
    return int(answer[9:12]) if answer[:5] == b"HTTP/" else None


def _judge(status: int | None, what: str) -> None:
    if status is not None and status >= 500 and status not in LIMITS_OWN:
        raise Broken(f"{what} was answered {status}")


def say_http(place: Neighbourhood, raw: bytes) -> None:
    _judge(raw_status(place.agent.port, raw), "a request")


def say_remote_write(place: Neighbourhood, body: bytes) -> None:
    _judge(place.write(body), "a remote write")


def say_promql(place: Neighbourhood, query: bytes) -> None:
    now = time.time()
    text = {"query": query.decode("utf-8", "replace"), "timeout": "2s"}
    times = {"start": str(now - 60), "end": str(now), "step": "5"}
    for path, form in (("query", text), ("query_range", {**text, **times})):
        body = urllib.parse.urlencode(form).encode()
        status, _ = place.ask("POST", f"/api/v1/{path}", body, {**FORM, **SECRET_HEADERS})
        _judge(status, "a query")


def say_engine_page(place: Neighbourhood, answer: bytes) -> None:
    """Until the agent has read it, or a few seconds have passed."""
    place.engine.answer = answer
    _until_asked(lambda: place.engine.asked)
    place.engine.answer = SOUND_ENGINE


def say_webhook(place: Neighbourhood, answer: bytes) -> None:
    place.hook.answer = answer
    place.page_seconds()
    place.hook.answer = SOUND_HOOK


def say_smtp(place: Neighbourhood, answer: bytes) -> None:
    place.mail.answer = answer
    place.page_seconds()
    place.mail.answer = SOUND_MAIL


def _until_asked(count: Callable[[], int], within: float = 5.0) -> None:
    before, began = count(), time.monotonic()
    while count() < before + 2 and time.monotonic() - began < within:
        time.sleep(0.02)


@dataclass(frozen=True)
class Fuzzer:
    says: Bytes
    say: Callable[[Neighbourhood, bytes], None]


SAYS: Mapping[str, Callable[[Neighbourhood, bytes], None]] = {
    "engine_page": say_engine_page,
    "remote_write": say_remote_write,
    "http": say_http,
    "promql": say_promql,
    "smtp": say_smtp,
    "webhook": say_webhook,
}
FUZZERS = {kind: Fuzzer(STRATEGIES[kind], say) for kind, say in SAYS.items()}


class WorkerNeighbourhood:
    """The worker as a process, with a tiny model; it pages nobody, so it must only answer."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        model = write_tiny_model(folder / "model")
        flags = ["--model-path", str(model), "--port", str(self.port), "--threads", "1"]
        command = [sys.executable, "-m", "tocsin_inference", "serve", *flags]
        with (folder / "worker.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while not self._healthy():
            assert time.monotonic() < deadline and self.process.poll() is None, "no worker"
            time.sleep(0.2)

    def _healthy(self) -> bool:
        with suppress(OSError):
            return raw_status(self.port, b"GET /health HTTP/1.0\r\n\r\n") == 200
        return False

    def document(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", "/openapi.json")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return found

    def says(self) -> Bytes:
        return worker_requests(self.document())

    def say(self, raw: bytes) -> None:
        _judge(raw_status(self.port, raw), "a request to the worker")

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def healthy_within(self, seconds: float) -> None:
        began = time.monotonic()
        if not self._healthy() or time.monotonic() - began > seconds:
            raise Broken("the worker does not answer in time")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Tally:
    """What a fuzzer did: examples, the longest wait for /-/healthy and for a page, in seconds, and
    by how much the process grew."""

    examples: int = 0
    answer_seconds: float = 0.0
    page_seconds: float = 0.0
    grown_mib: float = 0.0
    kept: list[str] = field(default_factory=list)


def generated(said: str) -> int:
    """How many test cases the summary of schemathesis counts; 0 where it has none."""
    counted = re.search(r"^\s*(\d+) generated\b", said, re.MULTILINE)
    return int(counted[1]) if counted else 0


def faults(kind: str, tally: Tally) -> list[str]:
    """What broke something, or that nothing ran that could have."""
    return tally.kept or ([] if tally.examples else [f"{kind}: no example ran"])


def keep(kind: str, content: bytes, cases: Path = CASES) -> Path:
    folder = cases / kind
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(content).hexdigest()[:12]
    path.write_bytes(content)
    return path


def examples_of(
    says: Bytes, say: Callable[[bytes], None], number: int, count: int, until: float = float("inf")
) -> bytes | None:
    """Says `count` examples, the same for the same `number`; the first that breaks something, as
    small as could be had, or None."""
    broken: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(says)
    def run(content: bytes) -> None:
        if time.monotonic() > until and not broken:
            return
        try:
            say(content)
        except Broken:
            broken.append(content)
            raise

    with suppress(Broken, FlakyFailure):
        run()
    return broken[-1] if broken else None


def fuzz(place: Neighbourhood, kind: str, seconds: float, number: int, growth_mib: float) -> Tally:
    """Rounds of one fuzzer until its time is over; after each a P0 has to page."""
    tally, fuzzer = Tally(), FUZZERS[kind]
    until, before = time.monotonic() + seconds, place.resident_mib()
    blocked = place.metric("tocsin_loop_blocked_total")

    def say(content: bytes) -> None:
        tally.examples += 1
        fuzzer.say(place, content)
        began = time.monotonic()
        status, _ = place.ask("GET", "/-/healthy")
        took = time.monotonic() - began
        tally.answer_seconds = max(tally.answer_seconds, took)
        if status != 200 or took > ANSWER_SECONDS:
            raise Broken(f"/-/healthy took {took:.1f} s")
        if not place.alive or "Traceback" in place.agent.said():
            raise Broken("a traceback, or an end")
        if place.resident_mib() - before > growth_mib:
            raise Broken(f"{place.resident_mib():.0f} MiB")

    while time.monotonic() < until:
        broken = examples_of(fuzzer.says, say, number, EXAMPLES, until)
        number += 1
        if broken is not None:
            tally.kept.append(str(keep(kind, broken)))
            break
        tally.page_seconds = max(tally.page_seconds, place.page_seconds())
        tally.grown_mib = place.resident_mib() - before
    if place.metric("tocsin_loop_blocked_total") > blocked:
        tally.kept.append(f"the loop was blocked, by rounds up to seed {number - 1}")
    return tally


def fuzz_worker(folder: Path, seconds: float, number: int, growth_mib: float) -> Tally:
    tally, worker = Tally(), WorkerNeighbourhood(folder)
    says, until, before = worker.says(), time.monotonic() + seconds, worker.resident_mib()

    def say(raw: bytes) -> None:
        tally.examples += 1
        worker.say(raw)
        began = time.monotonic()
        worker.healthy_within(ANSWER_SECONDS)
        tally.answer_seconds = max(tally.answer_seconds, time.monotonic() - began)
        if worker.resident_mib() - before > growth_mib:
            raise Broken(f"{worker.resident_mib():.0f} MiB")

    try:
        while time.monotonic() < until and not tally.kept:
            broken = examples_of(says, say, number, EXAMPLES, until)
            number += 1
            tally.grown_mib = worker.resident_mib() - before
            if broken is not None:
                tally.kept.append(str(keep("worker", broken)))
    finally:
        worker.close()
    return tally
