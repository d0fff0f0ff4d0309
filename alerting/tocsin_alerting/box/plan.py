"""What is watched and whether a worker is started: never memory taken from a service we protect."""

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin_alerting.box import discovery, ports, worker


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
    urls: Sequence[str], worker_wanted: bool, host: str, port: int, usual: Sequence[int]
) -> Plan:
    """Engines that were named; else those that run here; else a worker on host:port.

    `host` and `port` are where our worker would listen, `usual` the ports where engines do.
    """
    if urls:
        return Plan(tuple(discovery.Engine(url, "an engine") for url in urls))
    where = tuple(dict.fromkeys((port, *usual)))
    found = await discovery.engines(where)
    if found:
        return Plan(tuple(found))
    why_not = _obstacle(worker_wanted, host, port)
    return Plan((), start_worker=not why_not, why_not=why_not, ports=where)


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
