"""What an agent scrapes over a restart: a target that was removed meanwhile is no dead one."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.broken_server import broken_server
from support.story import until
from support.wired_agent import wired_agent
from tocsin_alerting.agent_scrapes import ScrapeJobs, known_groups, state_of
from tocsin_alerting.app import App
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.reading import ReadConfig
from tocsin_alerting.incidents.incident import Condition
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.clock import Clock
from tocsin_exporter.scrape_job import TargetGroup
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.snapshot import Source, unread

CONFIG = """\
collect: {{host: 0s, gpu: 0s, processes: 0s, engines: 0s}}
evaluation_interval: 1m
rule_files: [rules.yml]
scrape_configs:
{jobs}
"""
RULES = """\
groups:
- name: g
  rules:
  - {alert: High, expr: m > 0, labels: {severity: P1}}
"""


def job(name: str, address: str) -> str:
    return (
        f'- {{job_name: {name}, scrape_interval: 1s, static_configs: [{{targets: ["{address}"]}}]}}'
    )


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nm{} 1\n")
    await writer.drain()


async def scrape(app: App, done: Callable[[], bool]) -> None:
    scraping = asyncio.create_task(app.agent.run())
    await until(done, 20)
    scraping.cancel()
    await asyncio.gather(scraping, return_exceptions=True)


async def evaluate(app: App, *minutes: int) -> None:
    for minute in minutes:
        for progress in app.groups.all:
            await app.rule_loop.evaluate(progress, app.started_ms + 60_000 * minute)


def conditions(app: App) -> dict[str, Condition]:
    """How the alert on each job is known to be."""
    incidents = app.dispatcher.working.incidents.values()
    members = (member for one in incidents for member in one.members.values())
    return {dict(one.alert.labels)["job"]: one.source for one in members}


@pytest.mark.parametrize("dies", [False, True])
async def test_what_was_removed_while_the_agent_was_away_is_no_longer_watched(
    tmp_path: Path, dies: bool
) -> None:
    """Also where it was dead by then: nobody is to wait a day for it."""
    (tmp_path / "rules.yml").write_text(RULES)
    async with broken_server(page) as port:
        jobs = [job("stays", f"127.0.0.1:{port}"), job("goes", f"localhost:{port}")]
        goes = Source("goes", f"localhost:{port}")
        with wired_agent(tmp_path, CONFIG.format(jobs="\n".join(jobs))) as app:
            await app.start()
            await scrape(app, lambda: app.agent.ready)
            await evaluate(app, 1)
            assert set(conditions(app).values()) == {Condition.FIRING}
            if dies:
                app.store.append(unread(goes, app.clock.now_ms() + 1000))
                await evaluate(app, 7)
                assert conditions(app)["goes"] is Condition.UNKNOWN
            await app.close()
        with wired_agent(tmp_path, CONFIG.format(jobs=jobs[0])) as app:
            await app.start()
            await scrape(app, lambda: app.agent.ready)
            await evaluate(app, 8, 9)
            assert conditions(app)["goes"] is Condition.UNWATCHED
            await app.close()


async def test_a_file_of_targets_that_is_broken_at_the_start_ends_no_watch(tmp_path: Path) -> None:
    """Nor does a name server that does not answer yet: what was found last is watched."""
    (tmp_path / "rules.yml").write_text(RULES)
    found = "- {job_name: j, scrape_interval: 1s, file_sd_configs: [{files: [found.json]}]}"
    (tmp_path / "found.json").write_text('[{"targets": ["127.0.0.1:9"]}]')
    for text in ("[", "[]"):
        with wired_agent(tmp_path, CONFIG.format(jobs=found)) as app:
            await app.start()
            following = asyncio.create_task(app.scrape_jobs.run())
            await until((tmp_path / "data" / "targets.json").exists, 20)
            following.cancel()
            scraped = {one.target.source for one in app.agent.scrapers}
            await app.close()
        assert Source("j", "127.0.0.1:9") in scraped
        (tmp_path / "found.json").write_text(text)


async def test_targets_are_written_down_once_the_disk_takes_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    data.write_text("in the way")
    config = Config.model_validate({"storage": {"path": str(data)}})
    clock, store = Clock(), Store()
    manager = ScrapeManager([], clock)
    jobs = ScrapeJobs(manager, store, clock, retry_seconds=0.001)
    await jobs.start(ReadConfig(config, ()))
    following = asyncio.create_task(jobs.run())
    await until(lambda: "failed to write state" in caplog.text, 20)
    data.unlink()
    await until((data / "targets.json").exists, 20)
    following.cancel()
    assert json.loads((data / "targets.json").read_text())["jobs"] == {}


class EndingStore(Store):
    """Remembers which sources ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[Source] = []

    def end_source(self, source: Source, at_ms: int) -> None:
        self.ended.append(source)
        super().end_source(source, at_ms)


def scraping(data: Path, job: dict[str, object]) -> ReadConfig:
    jobs = [{"job_name": "j", "scrape_interval": "1s", **job}]
    config = {"storage": {"path": str(data)}, "scrape_configs": jobs}
    return ReadConfig(Config.model_validate(config), ())


async def test_a_target_that_moves_from_the_configuration_to_a_file_does_not_end(
    tmp_path: Path,
) -> None:
    (tmp_path / "found.json").write_text('[{"targets": ["a:1"]}]')
    clock, store = Clock(), EndingStore()
    manager = ScrapeManager([], clock)
    jobs = ScrapeJobs(manager, store, clock)
    await jobs.start(scraping(tmp_path, {"static_configs": [{"targets": ["a:1", "b:1"]}]}))
    found: dict[str, object] = {"file_sd_configs": [{"files": [str(tmp_path / "found.json")]}]}
    await jobs.reload(scraping(tmp_path, found))
    assert [one.target.source for one in manager.scrapers] == [Source("j", "a:1")]
    assert store.ended == [Source("j", "b:1")]


async def test_files_of_targets_that_hang_hold_up_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, store = Clock(), Store()
    jobs = ScrapeJobs(ScrapeManager([], clock), store, clock, files_seconds=0.0)
    found: dict[str, object] = {"file_sd_configs": [{"files": [str(tmp_path / "found.json")]}]}
    await jobs.start(scraping(tmp_path, found))
    assert "files of targets do not answer" in caplog.text


@pytest.mark.parametrize("jobs", [None, [], {"j": 1}, {1: {}}])
def test_targets_that_cannot_be_read_back_are_none(jobs: object) -> None:
    assert known_groups({"jobs": jobs}) == known_groups({}) == {}


@pytest.mark.parametrize(
    "broken",
    [
        ["x"],
        "abc",
        None,
        [["n"], [], {}],
        ["n", "abc", {}],
        ["n", ["abc"], {}],
        ["n", [{"__address__": 5}], {}],
        ["n", [{"__address__": {}}], {}],
        ["n", [], None],
        ["n", [], [1]],
        ["n", [], {"__meta_filepath": 5}],
        ["n", [], {}, 1],
    ],
)
def test_a_group_that_is_none_costs_no_other_one_its_targets(broken: object) -> None:
    good = ["f:0", [{"__address__": "a:1"}], {"team": "x"}]
    group = TargetGroup("f:0", ({"__address__": "a:1"},), {"team": "x"})
    known = known_groups({"jobs": {"j": [broken, good], "k": [good], "l": broken}})
    assert (known["j"], known["k"], known.get("l", [])) == ([group], [group], [])


def test_targets_are_read_back_as_they_were() -> None:
    group = TargetGroup("f:0", ({"__address__": "a:1"},), {"team": "x"})
    state = json.loads(json.dumps(state_of({"j": [group]})))
    assert known_groups(state) == {"j": [group]}
