"""Probes of the agent: on its schedule, as a Prometheus holds them, and by role on `/probe`."""

import asyncio
from pathlib import Path

import pytest

from support.api_client import api_client
from tocsin_alerting.agent_probes import AgentProbes
from tocsin_alerting.config.probe_modules import load_modules
from tocsin_alerting.config.probing import ProbesSection
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.clock import Clock
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.snapshot import Snapshot, Source, values_of

MODULES = load_modules(None)
NOBODY = "127.0.0.1:1"


class Agent:
    """The part of one that probes."""

    def __init__(self) -> None:
        self.clock, self.store = Clock(), Store()
        self.taken: list[Snapshot] = []
        self.manager = ScrapeManager((), self.clock, [self.store.append, self.taken.append])
        self.probes = AgentProbes(self.manager, self.store, self.clock)

    def configure(self, *targets: dict[str, object]) -> None:
        section = ProbesSection.model_validate({"interval": "1s", "targets": list(targets)})
        self.probes.configure(section, MODULES)

    @property
    def sources(self) -> set[Source]:
        return set(self.manager.sources)


async def test_a_probe_that_fails_is_up_and_no_success() -> None:
    agent = Agent()
    agent.configure({"module": "tcp_connect", "targets": [NOBODY]})
    running = asyncio.create_task(agent.manager.run())
    async with asyncio.timeout(10):
        while not agent.taken:
            await asyncio.sleep(0.01)
    running.cancel()
    snapshot = agent.taken[0]
    assert snapshot.source == Source("blackbox", NOBODY) and snapshot.ok and snapshot.report
    assert values_of(snapshot, "probe_success") == [0.0]
    assert values_of(snapshot, "probe_timeout_seconds") == [0.5]
    agent.probes.close(wait=5)


async def test_a_change_adds_and_removes_and_leaves_the_rest_alone() -> None:
    agent = Agent()
    agent.configure({"module": "tcp_connect", "targets": [NOBODY, "127.0.0.1:2"]})
    before = {s.target.source: s for s in agent.manager.scrapers}
    agent.configure(
        {"module": "tcp_connect", "targets": [NOBODY]},
        {"module": "icmp", "targets": ["127.0.0.1:2"]},
        {"module": "icmp", "targets": ["127.0.0.1"], "job": "ping"},
    )
    after = {s.target.source: s for s in agent.manager.scrapers}
    kept, changed = Source("blackbox", NOBODY), Source("blackbox", "127.0.0.1:2")
    assert after[kept] is before[kept] and after[changed] is not before[changed]
    assert agent.sources == {kept, changed, Source("ping", "127.0.0.1")}
    agent.configure()
    assert agent.sources == set()


@pytest.mark.parametrize(
    ("who", "target", "told"),
    [("", NOBODY, 200), ("reader", NOBODY, 200), ("reader", "127.0.0.1:2", 403),
     ("li", "127.0.0.1:2", 200), ("", "127.0.0.1:2", 401)],
)  # fmt: skip
async def test_who_may_choose_a_target(who: str, target: str, told: int) -> None:
    agent = Agent()
    agent.configure({"module": "tcp_connect", "targets": [NOBODY]})
    headers = {"authorization": f"Bearer {who}"} if who else {}
    params = {"target": target, "module": "tcp_connect"}
    tokens = {"reader": "read", "li": "respond"}
    async with api_client([agent.probes.route()], "10.0.0.7", **tokens) as client:
        answer = await client.get("/probe", params=params, headers=headers)
    assert answer.status_code == told
    agent.probes.close(wait=5)


def test_the_page_names_the_modules_that_come_with_us() -> None:
    page = (Path(__file__).parents[2] / "docs" / "probes.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in MODULES)
