"""What is watched and whether a worker is started: never memory taken from a service we protect."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tocsin_alerting.box import discovery, ports, worker
from tocsin_exporter.engine_access import EngineAccess


@dataclass(frozen=True, slots=True)
class Plan:
    """`engines` are watched; with `start_worker` ours is started, else `why_not` says why.

    `ports` are where engines were looked for.
    """

    engines: tuple[discovery.Engine, ...]
    start_worker: bool = False
    why_not: str = ""
    ports: tuple[int, ...] = ()


async def make(
    named: Sequence[EngineAccess],
    worker_wanted: bool,
    host: str,
    port: int,
    usual: Sequence[int],
    troubled: Collection[str] = (),
) -> Plan:
    """Engines that were named; else those that run here; else a worker on host:port.

    `host` and `port` are where our worker would listen, `usual` the ports where engines do.
    `troubled` are targets (host:port) of alerts that fired when the agent ended: one that is silent
    now is down, not gone, so it is watched, and no worker takes its memory. Our own among them is
    watched from the start, because people were told that it is down.
    """
    if named:
        return Plan(tuple(discovery.Engine(access, "an engine") for access in named))
    where, own = tuple(dict.fromkeys((port, *usual))), f"{host}:{port}"
    found = await discovery.engines(where)
    known = {engine.access.target for engine in found}
    silent = [_silent(target) for target in sorted(set(troubled) - known - {own})]
    if found or silent:
        return Plan((*found, *silent), ports=where)
    why_not = _obstacle(worker_wanted, host, port)
    waited_for = (_silent(own),) if own in troubled and worker_wanted else ()
    return Plan(waited_for, start_worker=not why_not, why_not=why_not, ports=where)


def _silent(target: str) -> discovery.Engine:
    return discovery.Engine(EngineAccess.of(f"http://{target}"), "an engine that was in trouble")


def _obstacle(wanted: bool, host: str, port: int) -> str:
    if not wanted:
        return "none was asked for"
    if not worker.installed():
        return worker.NO_TORCH
    try:
        free = ports.is_free(host, port)
    except OSError as error:
        return f"it cannot listen on {host}: {error.strerror}"
    if not free:
        return f"port {port} is taken by {ports.owner(port)}; free it or set worker.port"
    return ""
