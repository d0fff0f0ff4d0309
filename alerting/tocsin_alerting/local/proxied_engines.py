"""Engines behind a `tocsin proxy` on this machine: watched once, with what the proxy measured."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tocsin_alerting.local import discovery
from tocsin_alerting.local.discovery import LOOPBACK, PROBE_SECONDS, KnownEngine, Owners
from tocsin_exporter.engine_access import EngineAccess, place
from tocsin_exporter.proxy_identity import ProxyIdentity, proxy_at
from tocsin_exporter.tasks import task_group

log = logging.getLogger(__name__)

PROXY_PORT = 4913  # that of `tocsin proxy` where nobody names another


def usual_port(ports: Sequence[int]) -> int | None:
    """Where a proxy is looked for besides the `ports` of engines: nowhere if these were chosen."""
    return PROXY_PORT if tuple(ports) == discovery.USUAL_PORTS else None


async def behind_proxies(
    engines: Sequence[KnownEngine],
    owners: Owners,
    port: int | None,
    timeout_s: float = PROBE_SECONDS,
) -> list[KnownEngine]:
    """`engines`, where one that answers on a proxy's port is the engine behind it, and each that
    has a proxy knows it; then the engine behind the proxy on `port`, if it is none of these.

    A proxy is asked, and believed, if it belongs to one of `owners`, as an engine is.
    """
    asked = [engine.access for engine in engines]
    if port is not None:
        asked.append(discovery.local_engine(port, owners))
    async with task_group() as group:
        tasks = [group.create_task(_proxy_at(access, timeout_s)) for access in asked]
    proxies = {
        access.target: proxy
        for access, task in zip(asked, tasks, strict=True)
        if (proxy := task.result()) is not None
    }
    behind = {place(_upstream(proxy, owners).target): at for at, proxy in proxies.items()}
    found = [
        replace(engine, access=_upstream(proxies[engine.target], owners))
        if engine.target in proxies
        else engine
        for engine in engines
    ]
    there = {place(engine.target) for engine in found}
    upstreams = (_upstream(proxy, owners) for proxy in proxies.values())
    unseen = [access for access in upstreams if place(access.target) not in there]
    found += await discovery.probe(unseen, timeout_s)
    return [_with_proxy(engine, behind, proxies, owners) for engine in found]


def _with_proxy(
    engine: KnownEngine,
    behind: Mapping[str, str],
    proxies: Mapping[str, ProxyIdentity],
    owners: Owners,
) -> KnownEngine:
    at = behind.get(place(engine.target))
    if at is None:
        return engine
    page = discovery.with_owners(EngineAccess.of(proxies[at].metrics), owners)
    return replace(engine, access=replace(engine.access, proxy=page), behind=at)


def _upstream(proxy: ProxyIdentity, owners: Owners) -> EngineAccess:
    """The engine behind it, by the name that one on this machine has when it is found itself."""
    access = EngineAccess.of(proxy.upstream)
    where = place(access.target)
    if where.startswith(f"{LOOPBACK}:"):
        access = EngineAccess.of(f"{access.url.partition('://')[0]}://{where}")
    return discovery.with_owners(access, owners)


async def _proxy_at(access: EngineAccess, timeout_s: float) -> ProxyIdentity | None:
    try:
        return await proxy_at(access, timeout_s)
    except Exception:  # why: a fault with one port costs neither other engines nor the start
        log.exception("failed to ask for a proxy", extra={"url": access.url})
        return None
