"""Which inference engines already run on this machine: asked on the ports that they use by default.

An engine is what answers as one: with the metrics of an engine we know, or with the OpenAI model
list. Any other web server on such a port is left alone.
"""

import asyncio
import logging
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TypeAlias
from urllib.parse import urlsplit

from tocsin_alerting.local import ports
from tocsin_exporter.engine_access import EngineAccess, place
from tocsin_exporter.identify import EngineIdentity, identify
from tocsin_exporter.snapshot import Snapshot, values_of
from tocsin_exporter.tasks import task_group
from tocsin_exporter.threads import in_thread

log = logging.getLogger(__name__)

# vLLM and our worker, SGLang, TGI, llama.cpp, Ollama, TensorRT-LLM (with vLLM's), LMDeploy.
USUAL_PORTS = (8000, 30000, 3000, 8080, 11434, 23333)
PROBE_SECONDS = 1.0
LOOPBACK = "127.0.0.1"
Owners: TypeAlias = frozenset[int] | None
OWN_WORKER = "Tocsin's worker"
_PROGRAM = re.compile(r"vllm|sglang|llama|text-generation|trtllm|tensorrt|triton|lmdeploy", re.I)
_ENGINE_NAMES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tgi": "TGI",
    "llamacpp": "llama.cpp",
    "trtllm": "TensorRT-LLM",
    "triton": "Triton",
    "tocsin": OWN_WORKER,
}
_UNKNOWN_ENGINE = "an OpenAI-compatible engine"


@dataclass(frozen=True, slots=True)
class UntrustedServer:
    """Somebody else's server where an engine may be: it is not read. `user` is its owner."""

    url: str
    user: str


class Origin(StrEnum):
    """Why an engine is watched."""

    CONFIGURED = "configured"
    FOUND = "found"
    REMEMBERED = "remembered"
    DEMO = "demo"


@dataclass(frozen=True, slots=True)
class KnownEngine:
    """`kind` is its name as its makers spell it; `model` what it serves, "" when unknown; `behind`
    the target of the proxy by which it was found."""

    access: EngineAccess
    kind: str
    origin: Origin = Origin.FOUND
    model: str = ""
    behind: str = ""

    @property
    def url(self) -> str:
        return self.access.url

    @property
    def target(self) -> str:
        return self.access.target


async def probe(
    asked: Sequence[EngineAccess], timeout_s: float = PROBE_SECONDS
) -> list[KnownEngine]:
    """Those of `asked` that answer as an engine does, and belong to somebody who may have one."""
    async with task_group() as group:
        tasks = [group.create_task(_identify(access, timeout_s)) for access in asked]
    return [
        KnownEngine(access, _ENGINE_NAMES.get(engine.kind, _UNKNOWN_ENGINE), model=engine.model)
        for access, task in zip(asked, tasks, strict=True)
        if (engine := task.result()) is not None
    ]


async def _identify(access: EngineAccess, timeout_s: float) -> EngineIdentity | None:
    try:
        return await identify(access, timeout_s)
    except Exception:  # why: a fault with one port costs neither other engines nor the start
        log.exception("engine probe failed", extra={"url": access.url})
        return None


def as_read(engine: KnownEngine, last: Snapshot | None) -> KnownEngine:
    """`engine` with the type and the model that its metrics named when they were last read."""
    kind, model = engine.kind, ""
    for series in last.series if last else ():
        labels = dict(series.labels)
        named = labels.get("engine_type") if series.name == "llm_engine_info" else None
        if named and engine.origin is not Origin.DEMO:
            kind = _ENGINE_NAMES.get(named, _UNKNOWN_ENGINE)
        model = model or labels.get("model_name", "")
    return replace(engine, kind=kind, model=model or engine.model)


def is_up(last: Snapshot | None) -> bool | None:
    """Whether the engine answered when it was last read; None before it was first read, and when
    it could not be asked."""
    values = values_of(last, "llm_engine_up") if last else []
    return any(values) if values else None


def local_engine(port: int, owners: Owners) -> EngineAccess:
    """An engine on this machine that nobody has named."""
    return replace(EngineAccess.of(f"http://{LOOPBACK}:{port}"), owners=owners)


def with_owners(access: EngineAccess, owners: Owners) -> EngineAccess:
    """`access` with the users one of whom must hold its port, if that is on this machine."""
    is_here = place(access.target).startswith(f"{LOOPBACK}:")
    return replace(access, owners=owners) if is_here else access


async def untrusted_servers(asked: Iterable[EngineAccess]) -> tuple[UntrustedServer, ...]:
    """Those of `asked` whose port is held by somebody who may not have an engine."""
    try:
        owned_by_others = [
            (access.url, min(users)) for access in asked if (users := await access.strangers())
        ]
        named = [
            (url, await in_thread(partial(ports.user_name, uid))) for url, uid in owned_by_others
        ]
    except Exception:  # why: what we lack for this costs neither the start nor the engines
        log.exception("failed to find the owners of ports, retrying")
        return ()
    return tuple(UntrustedServer(url, name) for url, name in named)


async def other_places(known: Collection[str], owners: Owners = None) -> list[EngineAccess]:
    """Where else on this machine an engine may be: what an engine's program listens on, `known`
    aside. Nobody else is asked: not every server takes a question well."""
    try:
        heard = await in_thread(partial(ports.listening_ports, _PROGRAM))
    except Exception:  # why: as above
        log.exception("failed to list listening addresses, retrying")
        return []
    places = (local_engine(port, owners) for port in heard)
    taken = set(map(place, known))
    return [access for access in places if place(access.target) not in taken]


async def is_vacant(access: EngineAccess, timeout_s: float = PROBE_SECONDS) -> bool:
    """Whether nobody listens there: an engine that hangs, or is slow to answer, still does."""
    parts = urlsplit(access.url)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError, RuntimeError):  # also: no thread to look a name up
        return False
    writer.close()
    return False
