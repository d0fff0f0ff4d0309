"""A running agent reloads: by SIGHUP, by POST, by itself; what is under way goes on."""

import asyncio
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import AgentProcess
from support.story import until
from support.webhook_sink import WebhookSink

RULES = """\
groups:
- name: story
  rules:
  - {{alert: Fires, expr: vector(1), labels: {{severity: P0}}, annotations: {{summary: "{said}"}}}}
  - {{alert: Waits, expr: {waits}, for: 14s, labels: {{severity: P0}}}}
"""
ADDED = "groups: [{name: g, rules: [{alert: Added, expr: vector(1), labels: {severity: P0}}]}]\n"
BROKEN = "groups:\n- name: story\n  rules:\n  - {alert: Fires, expr: vector(1}\n"
CONFIG = """\
collect: {{host: 1s, engines: 0s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: ["rules/*.yml"]
worker: {{enabled: false}}
{more}
receivers: {{first: {{type: webhook, url: "{first}"}}, {later}: {{type: webhook, url: "{second}"}}}}
policies:
  P0:
    group: {{wait: 0s}}
    steps:
    - {{notify: [{{receiver: first}}], escalate_after: 2s}}
    - {{notify: [{{receiver: {later}}}], escalate_after: 1h}}
"""


class Box:
    """The files of the agent, and what is asked of it."""

    def __init__(self, folder: Path, first: str, second: str) -> None:
        self.folder, self.hooks = folder, {"first": first, "second": second}
        (folder / "rules").mkdir()
        self.rules()
        self.config()
        self.agent = AgentProcess(folder, "--config.file=tocsin.yml")

    def rules(self, said: str = "as it was", waits: str = "vector(1)") -> None:
        (self.folder / "rules" / "a.yml").write_text(RULES.format(said=said, waits=waits))

    def config(self, later: str = "second", more: str = "") -> None:
        text = CONFIG.format(**self.hooks, later=later, more=more)
        (self.folder / "tocsin.yml").write_text(text)

    def post(self) -> tuple[int, str]:
        """As `curl -X POST`."""
        request = urllib.request.Request(f"{self.agent.url}/-/reload", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def alert(self, name: str) -> dict[str, Any]:
        known = self.agent.get("/api/v1/alerts")["alerts"]
        return next((one for one in known if one["labels"]["alertname"] == name), {})

    def reload(self) -> Any:
        return self.agent.status()["reload"]

    def metric(self) -> bool:
        return "\ntocsin_config_last_reload_successful 1\n" in self.agent.text("/metrics")

    def incidents(self) -> dict[str, tuple[int, str]]:
        found = self.agent.get("/api/v1/incidents?state=all")["incidents"]
        return {one["title"].split()[0]: (one["number"], one["state"]) for one in found}


async def test_what_is_under_way_goes_on(tmp_path: Path) -> None:
    async with WebhookSink() as first, WebhookSink() as second:
        box = Box(tmp_path, first.url, second.url)
        try:
            await asyncio.to_thread(box.agent.start)
            await until(lambda: len(first.requests) >= 1, 20)
            waits_since = box.alert("Waits")["activeAt"]
            await _a_broken_file_keeps_what_runs(box)
            await _changed_files_are_read_when_they_are_still(box, waits_since)
            await until(lambda: _told(first.requests) == ["Fires", "Added", "Waits"], 20)
            await _a_page_goes_to_the_new_receiver(box, lambda: _told(second.requests))
            assert _told(second.requests)
            await _what_somebody_is_paged_for_is_not_removed_unasked(box)
        finally:
            box.agent.kill()


def _told(requests: Any) -> list[str]:
    bodies = (request.json() for request in requests)
    return list(dict.fromkeys(body["groupLabels"]["alertname"] for body in bodies))


async def _a_broken_file_keeps_what_runs(box: Box) -> None:
    assert box.metric()
    (box.folder / "rules" / "a.yml").write_text(BROKEN)
    status, text = await asyncio.to_thread(box.post)
    assert status == 500
    assert text.startswith("failed to reload config: ") and "a.yml:4:" in text
    done = await asyncio.to_thread(box.agent.alertctl, "reload")
    assert done.returncode == 1 and "a.yml:4:" in done.stderr
    assert not box.reload()["successful"] and not box.metric()
    runtime = box.agent.get("/api/v1/status/runtimeinfo")
    assert runtime["reloadConfigSuccess"] is False
    findings = box.agent.get("/api/v1/overview")["findings"]
    assert any("not reloaded" in finding for finding in findings), findings
    assert box.alert("Fires")["state"] == "firing"


async def _changed_files_are_read_when_they_are_still(box: Box, waits_since: str) -> None:
    """A file that a glob finds, and rules that are otherwise the same: they keep their state."""
    box.rules("as it is", "vector(2)")
    (box.folder / "rules" / "b.yml").write_text(ADDED)
    await until(lambda: bool(box.alert("Added")), 30)
    assert box.reload()["successful"]
    assert box.alert("Waits")["activeAt"] == waits_since
    assert box.alert("Fires")["annotations"]["summary"] in ("as it was", "as it is")
    await until(lambda: box.alert("Waits")["state"] == "firing", 30)
    assert box.alert("Fires")["annotations"]["summary"] == "as it is"
    assert box.incidents()["Fires"] == (1, "TRIGGERED")


async def _a_page_goes_to_the_new_receiver(box: Box, told: Callable[[], list[str]]) -> None:
    """`second` is gone, its address is now that of `later`: who was paged by it is told so."""
    box.config(later="later", more="time_zone: Europe/Berlin\nstorage: {retention: 1d}")
    done = await asyncio.to_thread(box.agent.alertctl, "reload")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["reloaded", "time_zone needs a restart"]
    shown = await asyncio.to_thread(box.agent.alertctl, "status")
    assert "configuration: time_zone as before until a restart" in shown.stdout
    assert box.agent.status()["receivers"] == ["first", "later"]
    assert "later" in box.agent.get("/api/v1/status/config")["yaml"]
    await until(lambda: set(told()) == {"Fires", "Waits", "Added"}, 30)
    for name in ("Fires", "Waits", "Added"):
        number, state = box.incidents()[name]
        history = box.agent.get(f"/api/v1/incidents/{number}")["history"]
        assert state == "TRIGGERED"
        assert "no longer configured" not in str(history)


async def _what_somebody_is_paged_for_is_not_removed_unasked(box: Box) -> None:
    (box.folder / "rules" / "b.yml").write_text("groups: []\n")
    await until(lambda: bool(box.reload()["held"]), 30)
    assert '"Added", of which an incident is open' in box.reload()["held"]
    await until(lambda: "b.yml has no rule any more" in box.agent.said(), 10)
    assert box.alert("Added")["state"] == "firing"
    assert box.agent.process is not None
    box.agent.process.send_signal(signal.SIGHUP)
    await until(lambda: not box.alert("Added"), 30)
    await until(lambda: box.incidents()["Added"][1] == "RESOLVED", 30)
    assert not box.reload()["held"] and box.incidents()["Fires"] == (1, "TRIGGERED")


async def test_a_start_with_a_broken_rule_file_pages_by_its_last_good_copy(tmp_path: Path) -> None:
    """Without a copy what its rules said is unknown and not over, until it can be read again."""
    async with WebhookSink() as first:
        box = Box(tmp_path, first.url, first.url)
        rules = tmp_path / "rules" / "a.yml"
        (tmp_path / "rules" / "b.yml").write_text(ADDED)
        try:
            await asyncio.to_thread(box.agent.start)
            await until(lambda: "Fires" in _told(first.requests), 30)
            box.agent.kill()
            rules.write_text(BROKEN)
            await asyncio.to_thread(box.agent.start)
            await until(lambda: box.alert("Fires").get("state") == "firing", 30)
            assert "its last good copy runs" in box.agent.said() and "a.yml:4:" in box.agent.said()
            assert not box.metric() and "a.yml:4:" in box.reload()["error"]
            box.agent.kill()
            for copy in (tmp_path / "data" / "rule-copies").iterdir():
                copy.unlink()
            strict = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--strict")
            with pytest.raises(AssertionError, match="a.yml:4:"):
                await asyncio.to_thread(strict.start)
            assert strict.process is not None and strict.process.returncode == 1
            await asyncio.to_thread(box.agent.start)
            assert "its rules are missing" in box.agent.said()
            path = f"/api/v1/incidents/{box.incidents()['Fires'][0]}"
            incident = box.agent.get(path)
            assert (incident["state"], incident["source"]) == ("TRIGGERED", "unknown")
            box.rules()
            await until(lambda: bool(box.alert("Fires")), 30)
            await until(lambda: box.agent.get(path)["source"] == "firing", 30)
            assert box.reload()["successful"] and box.metric()
            events = [line["event"] for line in box.agent.get(path)["history"]]
            assert "resolved" not in events and "unwatched" not in events
        finally:
            box.agent.kill()


async def test_a_start_with_a_broken_configuration_pages_by_its_last_good_copy(
    tmp_path: Path,
) -> None:
    """systemd starts it again after a bad edit; what is repaired is read by itself."""
    async with WebhookSink() as first:
        box = Box(tmp_path, first.url, first.url)
        try:
            await asyncio.to_thread(box.agent.start)
            await until(lambda: "Fires" in _told(first.requests), 30)
            box.agent.kill()
            (copy,) = (tmp_path / "data" / "config-copy").iterdir()
            assert copy.stat().st_mode & 0o777 == 0o600
            good = (tmp_path / "tocsin.yml").read_text()
            (tmp_path / "tocsin.yml").write_text(good.replace("receivers:", "recievers:"))
            await asyncio.to_thread(box.agent.start)
            await until(lambda: box.alert("Fires").get("state") == "firing", 30)
            assert "its last good copy runs" in box.agent.said()
            assert not box.metric() and 'did you mean "receivers"' in box.reload()["error"]
            assert box.incidents()["Fires"] == (1, "TRIGGERED")
            assert copy.read_text() == good
            (tmp_path / "tocsin.yml").write_text(good + "reopen_within: 7m\n")
            await until(lambda: box.reload()["successful"], 30)
            await until(lambda: "reopen_within: 7m" in copy.read_text(), 10)
            await until(box.metric, 10)  # a reading of the page is used for a moment
            assert box.incidents()["Fires"] == (1, "TRIGGERED")
        finally:
            box.agent.kill()
