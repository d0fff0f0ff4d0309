"""`/api/v1/status/*`: what runs here, in the shapes that Grafana asks a Prometheus for."""

import os
import platform
import resource
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.time_format import rfc3339

_UNLIMITED = 2**63 - 1


class LastReload(Protocol):
    """How the last reload ended; `success_ms`: since when what runs is in force."""

    @property
    def successful(self) -> bool: ...

    @property
    def success_ms(self) -> int: ...


@dataclass(slots=True)
class RuntimeInfo:
    """What is known of this run: times are Unix milliseconds, `config` is YAML without secrets, and
    another one after a reload.

    `flags` are those of the command line with their effective values, `retention` how long and how
    much is kept. `about` gives what `/api/v1/status/tocsin` says; `broken` how many blocks and
    logs were damaged.
    """

    about: Callable[[], Mapping[str, Any]]
    now_ms: Callable[[], int]
    started_ms: int
    flags: Mapping[str, str]
    config: str
    retention: str
    broken: Callable[[], int]
    last_reload: Callable[[], LastReload] | None = None  # where there is none, as at the start


def routes(running: RuntimeInfo) -> list[Route]:
    answers: dict[str, Callable[[], dict[str, Any]]] = {
        "buildinfo": _build,
        "runtimeinfo": lambda: _runtime(running),
        "flags": lambda: dict(running.flags),
        "config": lambda: {"yaml": running.config},
        "tocsin": lambda: dict(running.about()),
    }
    return [_route(name, answer) for name, answer in answers.items()]


def _route(name: str, answer: Callable[[], dict[str, Any]]) -> Route:
    async def status(request: Request) -> Response:
        return success(answer())

    return get_route(f"/api/v1/status/{name}", status)


def _build() -> dict[str, str]:
    """Without `features`: Grafana takes whoever has that map for a Mimir."""
    built = {"revision": "", "branch": "", "buildUser": "", "buildDate": ""}
    python = f"python{platform.python_version()}"
    return {"version": version("tocsin"), "goVersion": python, **built}


def _runtime(running: RuntimeInfo) -> dict[str, Any]:
    """The fields of Prometheus 3, of the process as it is: threads for goroutines, the processors
    that it may use, the limit of its address space. GOGC and GODEBUG set nothing here."""
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    last = running.last_reload() if running.last_reload else None
    return {
        "startTime": rfc3339(running.started_ms),
        "CWD": os.getcwd(),
        "hostname": socket.gethostname(),
        "serverTime": rfc3339(running.now_ms()),
        "reloadConfigSuccess": last is None or last.successful,
        "lastConfigTime": rfc3339(last.success_ms if last else running.started_ms),
        "corruptionCount": running.broken(),
        "goroutineCount": threading.active_count(),
        "GOMAXPROCS": len(os.sched_getaffinity(0)),
        "GOMEMLIMIT": _UNLIMITED if memory == resource.RLIM_INFINITY else memory,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": running.retention,
    }
