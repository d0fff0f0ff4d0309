"""Rules on real engines elsewhere that stop and come back; alerts and samples that go elsewhere."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from support.agent_process import free_port
from support.dispatcher_setup import Floor
from support.policies import MINUTE, P0, P1, SECOND, config
from support.prometheus import Prometheus, running_prometheus
from support.remote_write import remote_write
from support.rule_deps import MemoryJournal, Written, surroundings
from support.rule_texts import alerting, group, recording
from support.victoria import running_victoria
from tocsin_alerting.agent_elsewhere import Datasources
from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.elsewhere import datasource_of, stray_entries
from tocsin_alerting.incidents.incident import Condition, Incident
from tocsin_alerting.incidents.journal.memory import MemoryJournal as Incidents
from tocsin_alerting.rules.alert import AlertState
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.meta_alerts import MetaAlertSwitch
from tocsin_alerting.rules.rule import RuleFile, RuleGroup
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.rules.state import GroupState
from tocsin_exporter.catalogue import STAGES
from tocsin_exporter.snapshot import Labels, labels

Start = Callable[[Path, int], AbstractContextManager[Prometheus]]
ENDS = 40  # the minute from which on `m` is 0
RULES = group(
    recording("m:sum", "sum(m)"),
    alerting("sum by (instance) (rate(m_total[5m])) > 0 and m == 1", "Down", 2 * MINUTE,
             severity="P0", target="a"),
    alerting("m == 1", "Waits", 20 * MINUTE, severity="P3", uid="g/Waits/1"),
)  # fmt: skip
LOCAL = group(alerting("m > 0", "Local", severity="P2"), name="local", file="own.yml")


def _prometheus(folder: Path, port: int) -> AbstractContextManager[Prometheus]:
    return running_prometheus(folder, "--web.enable-remote-write-receiver", port=port)


ENGINES: dict[str, Start] = {"prometheus": _prometheus, "victoria": running_victoria}


class World:
    """One agent's rules on an engine at `port`, in time of its own: `minute` is where it is."""

    def __init__(self, port: int, base_ms: int, rules: RuleGroup = RULES) -> None:
        self.base_ms, self.port, self.rules = base_ms, port, rules
        self.journal, self.written = MemoryJournal(), Written()
        settings = config(policies={"P0": P0, "P1": P1})
        self.floor = Floor(settings, Incidents())
        self.floor.now = base_ms
        self._begin()

    def _begin(self) -> None:
        section = {"url": f"http://127.0.0.1:{self.port}", "offset": "30s"}
        others = [{"files": ["own.yml"], "url": "embedded"}]
        about = Config.model_validate({"datasource": section, "group_datasources": others})
        own = surroundings({"m > 0": lambda at: []}, write=self.written)
        now_ms = lambda: self.floor.now  # noqa: E731
        self.sources = Datasources(
            about, now_ms, lambda: self.floor.now / 1000, lambda: self.floor.dispatcher
        )
        self.groups = Groups(own, MINUTE, self.sources.deps_of(own))

    async def start(self) -> "World":
        self.floor.dispatcher.stores.watched = self.sources.addresses
        await self.floor.open()
        await self._load()
        return self

    async def _load(self) -> None:
        self.groups.remember(await self.journal.load())
        self.groups.load([RuleFile("f.yml", (self.rules,)), RuleFile("own.yml", (LOCAL,))], 0)

    async def restart(self) -> None:
        """As after `kill -9`."""
        await self.sources.close()
        self._begin()
        await self.floor.restart()
        self.floor.dispatcher.stores.watched = self.sources.addresses
        await self._load()

    async def run(self, minutes: int) -> None:
        """Minute by minute, with a look at the engines every 20 s."""
        for _ in range(minutes):
            for progress in self.groups.all:
                await self._evaluate(progress)
            for _ in range(3):
                await self.sources.look()
                await self.floor.deliver()
                await self.floor.advance(20 * SECOND)

    async def _evaluate(self, progress: GroupState) -> None:
        events = await self.groups.evaluate(progress, self.floor.now)
        await self.floor.hear(*events)
        await self.groups.persist(progress, self.journal)

    def incident(self, name: str) -> Incident:
        known = self.floor.dispatcher.working.incidents.values()
        (one,) = (one for one in known if next(iter(one.members.values())).alert.name == name)
        return one

    def told(self) -> list[tuple[str, str]]:
        """Alert name and reason of each message, at each addressee once."""
        by_number = {n: _name(one) for n, one in self.floor.dispatcher.working.incidents.items()}
        heard = [(by_number[one.incident], one.reason.value) for _, one in self.floor.arrived]
        return list(dict.fromkeys(heard))


def _name(one: Incident) -> str:
    return next(iter(one.members.values())).alert.name


def _feed(engine: Prometheus, base_ms: int) -> None:
    """Samples of 15 s from 10 min before `base_ms` to an hour after."""
    times = range(base_ms - 10 * MINUTE, base_ms + 60 * MINUTE, 15 * SECOND)
    of: Callable[[str], Labels] = lambda name: labels(__name__=name, instance="e:1")  # noqa: E731
    down = [(at, float(at < base_ms + ENDS * MINUTE)) for at in times]
    total = [(at, at / 1000) for at in times]
    remote_write(engine.url, [(of("m"), down), (of("m_total"), total)])
    _await_shown(engine, times[-1])


def _await_shown(engine: Prometheus, at_ms: int) -> None:
    deadline = time.monotonic() + 20
    while not engine.get("query", query="m", time=str(at_ms / 1000))["data"]["result"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)  # VictoriaMetrics shows what it has taken after a second


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


async def test_an_engine_that_is_silent_is_as_bad_as_it_is_said_to_be_or_nothing_at_all() -> None:
    world = World(free_port(), round(time.time()) // 60 * MINUTE)
    stores = world.floor.dispatcher.stores
    stores.switch = MetaAlertSwitch(False, Severity.P3)
    await world.start()
    await world.run(3)
    assert not world.floor.dispatcher.working.incidents
    stores.switch = MetaAlertSwitch(True, Severity.P3)
    await world.run(1)
    assert world.incident("StoreUnreachable").severity is Severity.P3
    stores.switch = MetaAlertSwitch(False, Severity.P3)
    await stores.settle(world.floor.now)
    assert not world.incident("StoreUnreachable").is_open
    await world.sources.close()


@pytest.mark.parametrize("kind", ENGINES)
async def test_ten_minutes_without_the_engine_resolve_nothing_and_are_one_page(
    kind: str, tmp_path: Path, stack: ExitStack
) -> None:
    base_ms = round(time.time()) // 60 * MINUTE - 2 * 60 * MINUTE
    port, start = free_port(), ENGINES[kind]
    world = World(port, base_ms)
    with start(tmp_path, port) as engine:
        _feed(engine, base_ms)
        await world.start()
        await world.run(5)
        fired = world.incident("Down")
        assert fired.opened_at_ms == base_ms + 2 * MINUTE  # `for` is exact
        assert world.told() == [("Down", "opened")]
    world.floor.arrived.clear()
    await world.run(5)
    assert world.incident("Down").source is Condition.UNKNOWN
    await world.restart()
    await world.run(5)
    pages = [one for one in world.told() if one[1] == "opened"]
    assert pages == [("StoreUnreachable", "opened")]
    silent = world.incident("StoreUnreachable")
    assert silent.severity == "P1"
    assert silent.opened_at_ms == base_ms + 6 * MINUTE  # a minute after the first failure
    assert world.incident("Down").is_open
    assert world.groups.all[0].rules[0].unreachable
    assert [rule.failures for rule in world.groups.all[0].rules] == [0, 0, 0]
    world.floor.arrived.clear()
    with start(tmp_path, port):
        await world.run(2)
        assert world.incident("Down").source is Condition.FIRING
        assert ("StoreUnreachable", "resolved") in world.told()
        assert ("Down", "resolved") not in world.told()
        await world.run(ENDS - 17 + 1)
        await world.restart()  # which makes no gap in the engine's samples: a clear is proven
        await world.run(2)
        assert ("Down", "resolved") in world.told()
        # It was watched over all the time, and waited on through outage and kill.
        waited = [one.fired_at_ms for one in world.groups.all[0].rules[2].alerts.values()]
        assert waited == [base_ms + 20 * MINUTE]
    recorded = [at for source, at, held in world.written.calls if labels(__name__="m:sum") in held]
    assert recorded[:2] == [base_ms - 30 * SECOND, base_ms + 30 * SECOND]
    await world.sources.close()


@pytest.mark.parametrize("kind", ENGINES)
async def test_an_engine_that_read_nothing_while_it_was_away_ends_nothing_when_it_is_back(
    kind: str, tmp_path: Path, stack: ExitStack
) -> None:
    """Its first answers are empty: its samples are older than five minutes, and it has to look
    first. One of two alerts ended meanwhile, and is over when a new sample says so."""
    base_ms = round(time.time()) // 60 * MINUTE - 2 * 60 * MINUTE
    port, start = free_port(), ENGINES[kind]
    rules = group(
        alerting("m == 1", "Down", severity="P0"),
        alerting("m == 1", "Waits", 25 * MINUTE, severity="P0", uid="g/Waits/1"),
        alerting("rate(m_total[2m]) > 0", "Grows", severity="P0", uid="g/Grows/1"),
        alerting("increase(m_total[20m]) > 500", "Long", severity="P1", uid="g/Long/1"),
    )
    world = World(port, base_ms, rules)
    of: Callable[[str, str], Labels] = lambda n, i: labels(__name__=n, instance=i)  # noqa: E731
    span = range(base_ms - 30 * MINUTE, base_ms + 40 * MINUTE, 15 * SECOND)
    times = [at for at in span if not base_ms + 4 * MINUTE < at < base_ms + 17 * MINUTE]
    stays, ends = of("m", "stays"), of("m", "ends")
    with start(tmp_path, port) as engine:
        over_ms = base_ms + 10 * MINUTE
        remote_write(engine.url, [
            (stays, [(at, 1.0) for at in times]),
            (ends, [(at, float(at < over_ms)) for at in times]),
            (of("m_total", "stays"), [(at, at / 1000) for at in times]),
        ])  # fmt: skip
        _await_shown(engine, times[-1])
        await world.start()
        await world.run(4)
        opened = {"Down", "Grows", "Long"}
        assert {name for name, why in world.told() if why == "opened"} == opened
    await world.run(11)
    with start(tmp_path, port):
        await world.run(2)  # it looks again only after that
        assert [one for one in world.told() if one[1] == "resolved"] == [
            ("StoreUnreachable", "resolved")
        ]
        assert world.incident("Down").is_open
        assert world.incident("Grows").is_open
        await world.run(3)
        down, waits, grows, long = world.groups.all[0].rules
        alerts = {dict(one.labels)["instance"]: one for one in down.alerts.values()}
        assert alerts["stays"].state is AlertState.FIRING
        assert alerts["stays"].fired_at_ms == base_ms
        assert alerts["ends"].state is AlertState.INACTIVE
        (waiting,) = waits.alerts.values()
        assert (waiting.state, waiting.active_at_ms) == (AlertState.PENDING, base_ms)
        assert [one.fired_at_ms for one in grows.alerts.values()] == [base_ms]
        assert not down.unknown_alerts and not grows.unknown_alerts
        await world.run(6)
        assert [one.fired_at_ms for one in waits.alerts.values()] == [base_ms + 25 * MINUTE]
        # Its range holds little but the outage by now, and says 480; VictoriaMetrics's also counts
        # from the sample before it.
        assert world.incident("Long").is_open
        assert bool(long.unknown_alerts) is (kind == "prometheus")
        await world.run(12)
        assert not long.unknown_alerts
    assert world.told().count(("Down", "opened")) == 1
    await world.sources.close()


async def test_entries_that_ask_an_address_as_the_same_are_one_engine_with_one_set_of_metrics() -> (
    None
):
    url = f"http://127.0.0.1:{free_port()}"
    about = Config.model_validate({"group_datasources": [
        {"groups": ["a"], "url": url, "headers": {"X-Scope-OrgID": "a"}},
        {"groups": ["b"], "url": url, "offset": "0s"},
        {"groups": ["c"], "url": url, "offset": "1m"},
    ]})  # fmt: skip
    floor = Floor(config(policies={"P0": P0, "P1": P1}), Incidents())
    await floor.open()
    now = lambda: floor.now  # noqa: E731
    sources = Datasources(about, now, lambda: floor.now / 1000, lambda: floor.dispatcher)
    await sources.look()
    samples = list(sources.samples(STAGES))
    assert len({(one.family.name, one.labels) for one in samples}) == len(samples) == 4
    failed = [one.value for one in samples if dict(one.labels).get("outcome") == "failed"]
    assert failed == [2.0]  # two who ask, of three entries
    await sources.close()


async def _one_tenant_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A query API that refuses whoever names a tenant."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
    status = b"403 Forbidden" if b"x-scope-orgid" in head.lower() else b"200 OK"
    writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n" % (status, len(body)))
    writer.write(b"Connection: close\r\n\r\n" + body)
    await writer.drain()
    writer.close()


async def test_a_tenant_that_is_answered_does_not_end_the_incident_of_one_that_is_not() -> None:
    server = await asyncio.start_server(_one_tenant_alone, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    entries = [
        {"groups": ["a"], "url": url, "headers": {"X-Scope-OrgID": "a"}},
        {"groups": ["b"], "url": url},
    ]
    about = Config.model_validate({"group_datasources": entries})
    floor, own = Floor(config(policies={"P0": P0, "P1": P1}), Incidents()), surroundings({})
    await floor.open()
    now = lambda: floor.now  # noqa: E731
    sources = Datasources(about, now, lambda: floor.now / 1000, lambda: floor.dispatcher)
    answered = sources.deps_of(own)(group(name="b")).engine
    for _ in range(5):
        await sources.look()
        await answered.instant("vector(1)", floor.now)
        await floor.advance(30 * SECOND)
    (incident,) = floor.dispatcher.working.incidents.values()
    assert (_name(incident), incident.is_open) == ("StoreUnreachable", True)
    await sources.close()
    server.close()


def test_the_first_entry_that_is_for_a_group_says_where_it_is_evaluated() -> None:
    about = Config.model_validate(
        {
            "datasource": {"url": "http://all"},
            "group_datasources": [
                {"files": ["bundled"], "url": "embedded"},
                {"groups": ["gpu-*"], "files": ["rules/*.yml"], "url": "http://gpus"},
                {"groups": ["gpu-x", "slo"], "url": "http://slo"},
                {"groups": ["slos"], "url": "http://none"},
            ],
        }
    )
    ours = str(bundled("rules") / "gpu.yml")

    def url(name: str, file: str) -> str | None:
        of = (about.datasource, about.group_datasources)
        found = datasource_of(group(name=name, file=file), *of)
        return found.url if found else None

    assert url("gpu-x", ours) is None
    assert url("gpu-x", "/etc/rules/gpu.yml") == "http://slo"  # `rules/*.yml` is a whole path
    assert url("gpu-x", "rules/gpu.yml") == "http://gpus"
    assert url("slo", "any.yml") == "http://slo"
    assert url("other", "any.yml") == "http://all"
    assert list(stray_entries(about.group_datasources, [group(name="slo", file=ours)])) == [
        "group_datasources[1] is for no rule group: no groups gpu-* of files rules/*.yml",
        'group_datasources[3] is for no rule group: no groups slos of files *; did you mean "slo"?',
    ]
