"""What is watched and whether a worker is started: never memory taken from a service we protect."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from tocsin_alerting.box import discovery, ports, worker
from tocsin_alerting.box.discovery import LOOPBACK, Engine, Origin, Owners, Stranger
from tocsin_alerting.incidents.rows import EngineRow
from tocsin_exporter.engine_access import EngineAccess, place
from tocsin_exporter.listen import joined


@dataclass(frozen=True, slots=True)
class Plan:
    """`engines` are watched; with `start_worker` ours is started, else `why_not` says why.

    `ports` are where engines were looked for, `reserved` the targets that are no engine's: the
    demo's port. `silent` are targets of engines that are expected and do not answer; `moved` says
    of a remembered target which engine it is now. `owners` are the users whose engines are found by
    themselves, None for everybody's; `strangers` are those of others, which are not read.
    """

    engines: tuple[Engine, ...]
    start_worker: bool = False
    why_not: str = ""
    ports: tuple[int, ...] = ()
    reserved: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    moved: tuple[tuple[str, Engine], ...] = ()
    owners: Owners = None
    strangers: tuple[Stranger, ...] = ()


async def make(
    named: Sequence[EngineAccess],
    worker_wanted: bool,
    host: str,
    port: int,
    usual: Sequence[int],
    troubled: Collection[str] = (),
    remembered: Sequence[EngineRow] = (),
    owners: Owners = None,
) -> Plan:
    """Engines that were named; else those that run here or did; else a worker on host:port.

    `host` and `port` are where our worker would listen, `usual` the ports where engines do. What
    answers on `port` is a demo, maybe another agent's, that leaves when it likes: it is no engine
    unless `usual` has that port too.
    `remembered` are those of earlier runs, and `troubled` targets of alerts that fired when the
    agent ended: one that is silent now is down, not gone, so it is watched, and no worker takes its
    memory. Our own among the latter is watched from the start, because people were told that it is
    down.
    """
    if named:
        return Plan(tuple(Engine(one, "an engine", Origin.CONFIGURED) for one in named))
    own = joined(host, port)
    reserved = () if port in usual else tuple({place(own), f"{LOOPBACK}:{port}"})
    rows = {row.target: row for row in remembered if place(row.target) not in reserved}
    here = [discovery.here(one, owners) for one in usual]
    known = {access.target for access in here}
    there = [EngineAccess.of(row.url) for row in rows.values() if row.target not in known]
    told = _told_otherwise(known, {*troubled} - rows.keys())
    others = [discovery.owned(one, owners) for one in (*there, *told)]
    found = _once(await discovery.ask([*here, *others]), {*rows, *troubled})
    answering = {place(engine.target) for engine in found}
    moved = await moves(
        [row for row in rows.values() if place(row.target) not in answering],
        [engine for engine in found if engine.target not in rows],
    )
    settled = {*answering, *map(place, moved)}
    lost = [row for row in rows.values() if place(row.target) not in settled]
    if lost:
        places = await discovery.elsewhere({*known, *answering, *reserved, own}, owners)
        further = await moves(lost, await discovery.ask(places))
        found, moved = [*found, *further.values()], moved | further
    heard = {*answering, *reserved, place(own)}
    expected = {*rows, *troubled} - moved.keys()
    silent = sorted(target for target in expected if place(target) not in heard)
    engines = (*found, *(_silent(target, rows.get(target), owners) for target in silent))
    strangers = await discovery.strangers([*here, *others])
    looked = Plan(engines, ports=tuple(usual), reserved=reserved)
    looked = replace(looked, owners=owners, strangers=strangers)
    if engines:
        return replace(looked, silent=tuple(silent), moved=tuple(moved.items()))
    why_not = _obstacle(worker_wanted, host, port)
    was_down = place(own) in map(place, troubled)
    waited_for = (demo(f"http://{own}"),) if was_down and not why_not else ()
    return replace(looked, engines=waited_for, start_worker=not why_not, why_not=why_not)


async def moves(silent: Iterable[EngineRow], new: Iterable[Engine]) -> dict[str, Engine]:
    """Which silent engine is which new one: the same model on another port of the same host, and
    nobody listens on the old one."""
    moved: dict[str, Engine] = {}
    left = list(new)
    for row in silent:
        others = (one for one in left if one.kind != discovery.OURS or row.kind == discovery.OURS)
        same = (one for one in others if row.model and one.model == row.model)
        engine = next((one for one in same if _host(one.target) == _host(row.target)), None)
        if engine is not None and await discovery.vacant(EngineAccess.of(row.url)):
            moved[row.target] = engine
            left.remove(engine)
    return moved


def _told_otherwise(known: Collection[str], troubled: Iterable[str]) -> list[EngineAccess]:
    """Engines of `known` by the names that alerts have for them, which end under that name only."""
    places = set(map(place, known))
    names = (one for one in troubled if one not in known and place(one) in places)
    return [EngineAccess.of(f"http://{name}") for name in names]


def _once(found: Sequence[Engine], expected: Collection[str]) -> list[Engine]:
    """One of each place: by the name that people were told, if there is one."""
    chosen: dict[str, Engine] = {}
    for engine in found:
        first = chosen.setdefault(place(engine.target), engine)
        if engine.target in expected and first.target not in expected:
            chosen[place(engine.target)] = engine
    return list(chosen.values())


def demo(url: str) -> Engine:
    """Our own worker; whoever else has taken its port is not it."""
    ours = discovery.owned(EngineAccess.of(url), ports.trusted_users(frozenset(), {}))
    return Engine(ours, "a demo worker", Origin.DEMO)


def _host(target: str) -> str:
    return place(target).partition("/")[0].rpartition(":")[0]


def _silent(target: str, row: EngineRow | None, owners: Owners) -> Engine:
    url, kind, model = (row.url, row.kind, row.model) if row else (f"http://{target}", "", "")
    said = f"{kind or 'an engine'} that was here"
    access = replace(discovery.owned(EngineAccess.of(url), owners), expected=True)
    return Engine(access, said, Origin.REMEMBERED, model)


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
