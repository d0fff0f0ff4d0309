"""What an agent scrapes over a restart: a target that was removed meanwhile is no dead one."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from support.broken_server import broken_server
from support.story import until
from support.wired_agent import wired_agent
from tocsin_alerting.app import App
from tocsin_alerting.incidents.incident import Condition
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
