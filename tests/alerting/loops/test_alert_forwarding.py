"""Alerts of rules at a real Alertmanager: what lives never ends there, what ends does."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from support.alertmanager import running_alertmanager
from support.rule_deps import surroundings
from support.rule_texts import MINUTE, alerting, group
from support.scripted_engine import Rows, row
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.loops.alert_forwarding import AlertForwarder, AlertResender, OutgoingAlert
from tocsin_alerting.loops.remote_client import RemoteClient
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_exporter.clock import Clock
from tocsin_exporter.engine_access import EngineAccess

M = [row(1.0, __name__="m", instance="e:1"), row(1.0, __name__="m", instance="e:2")]
RULE = alerting(
    "m > 0", "Down", severity="P0", annotations={"runbook_url": "http://127.0.0.1:4911/r"}
)
SLOW = alerting("m > 0", "Slow", for_ms=10 * MINUTE)


class Rules:
    """Two rules, evaluated when a test says; `rows` is what `m > 0` gives, an error it raises."""

    def __init__(self, interval_ms: int = MINUTE) -> None:
        self.rows: Rows | Exception = M
        self.groups = Groups(surroundings({"m > 0": self._answer}), interval_ms)
        self.groups.load([RuleFile("f.yml", (group(RULE, SLOW),))], 0)

    def _answer(self, t_ms: int) -> Rows:
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows

    async def at(self, now_ms: int) -> None:
        await self.groups.evaluate(self.groups.all[0], now_ms)


def _due(resender: AlertResender, rules: Rules, minute: float) -> list[tuple[str, int | None]]:
    now_ms = round(minute * MINUTE)
    found = _all(resender, rules, now_ms / 1000, now_ms)
    return [(dict(one.alert.labels)["instance"], one.ended_ms) for one in found]


def _all(resender: AlertResender, rules: Rules, now_s: float, now_ms: int) -> list[OutgoingAlert]:
    return [one for one in resender.due(rules.groups.all[0], now_s, now_ms) if one is not None]


async def test_what_fires_is_sent_at_once_and_each_resend_delay_and_its_end_for_15_minutes() -> (
    None
):
    rules, resender = Rules(MINUTE // 2), AlertResender(MINUTE)
    await rules.at(0)
    assert _due(resender, rules, 0) == [("e:1", None), ("e:2", None)]  # and not Slow, which waits
    assert _due(resender, rules, 0.9) == []
    assert _due(resender, rules, 1) == [("e:1", None), ("e:2", None)]
    rules.rows = M[:1]
    await rules.at(MINUTE + 1000)
    assert _due(resender, rules, 1.5) == [("e:2", MINUTE + 1000)]
    assert _due(resender, rules, 2) == [("e:1", None)]
    assert _due(resender, rules, 2.5) == [("e:2", MINUTE + 1000)]
    assert ("e:2", MINUTE + 1000) in _due(resender, rules, 16.4)
    assert _due(resender, rules, 17.4) == [("e:1", None)]
    rules.rows = M
    await rules.at(19 * MINUTE)
    assert ("e:2", None) in _due(resender, rules, 19)


async def test_an_end_is_not_sent_again_once_the_alert_waits_anew() -> None:
    """The compliance suite of Prometheus takes each further one for an alert too much."""
    rules, resender = Rules(), AlertResender(MINUTE)
    for minute in range(1, 12):
        await rules.at(minute * MINUTE)

    def slow(minute: int) -> list[int | None]:
        found = _all(resender, rules, minute * 60.0, minute * MINUTE)
        return [one.ended_ms for one in found if one.alert.name == "Slow"]

    assert slow(11) == [None, None]
    rules.rows = []
    await rules.at(12 * MINUTE)
    assert slow(12) == [12 * MINUTE] * 2
    assert slow(13) == [12 * MINUTE] * 2
    rules.rows = M[:1]
    await rules.at(14 * MINUTE)
    assert slow(14) == [12 * MINUTE]  # of the one that did not come back
    for minute in range(15, 25):
        await rules.at(minute * MINUTE)
    assert slow(24) == [None, 12 * MINUTE]


async def test_what_is_unknown_is_sent_on_and_what_was_given_up_is_left_to_end() -> None:
    rules, resender = Rules(), AlertResender(MINUTE)
    await rules.at(0)
    _due(resender, rules, 0)
    rules.rows = ValueError("the engine is away")
    for minute in range(1, 24 * 60, 60):
        await rules.at(minute * MINUTE)
        assert _due(resender, rules, minute) == [("e:1", None), ("e:2", None)]
    await rules.at(26 * 60 * MINUTE)
    assert _due(resender, rules, 26 * 60) == []


async def test_ten_thousand_alerts_are_looked_at_in_slices() -> None:
    rules, resender = Rules(), AlertResender(MINUTE)
    rules.rows = [row(1.0, __name__="m", instance=f"e:{number}") for number in range(1200)]
    await rules.at(0)
    found = list(resender.due(rules.groups.all[0], 0, 0))
    assert (found.count(None), len(found)) == (2 + 2, 1204)  # what stands, and what was sent


async def test_an_alert_lasts_four_times_the_longer_of_interval_and_resend_delay() -> None:
    for interval_ms, delay_ms, lasts_ms in ((MINUTE, 1000, 4 * MINUTE), (1000, MINUTE, 4 * MINUTE)):
        rules = Rules(interval_ms)
        await rules.at(0)
        due = _all(AlertResender(delay_ms), rules, 0, 0)
        assert {one.lasts_ms for one in due} == {lasts_ms}
    assert _all(AlertResender(delay_ms), rules, 0, 0)  # a new one knows nothing


def _forwarder(url: str, delay_ms: int, now_ms: Any, **labels: str) -> AlertForwarder:
    client = RemoteClient(EngineAccess.of(url))
    return AlertForwarder(client, 5.0, delay_ms, labels, "http://bell.example:4911/", now_ms)


def _listed(url: str) -> Mapping[str, Any]:
    with urlopen(f"{url}/api/v2/alerts?active=true") as answer:
        return {one["labels"]["instance"]: one for one in json.load(answer)}


async def _until(url: str, names: set[str]) -> Mapping[str, Any]:
    async with asyncio.timeout(20):
        while (found := await asyncio.to_thread(_listed, url)).keys() != names:
            await asyncio.sleep(0.05)
    return found


async def test_a_real_alertmanager_never_ends_what_lives_while_its_rule_fails(
    tmp_path: Path,
) -> None:
    clock, rules = Clock(), Rules(200)
    with running_alertmanager(tmp_path) as url:
        forwarder = _forwarder(url, 200, clock.now_ms, cluster="a", severity="not this")
        sending = asyncio.ensure_future(forwarder.run())

        async def evaluated() -> None:
            await rules.at(clock.now_ms())
            forwarder.put(_all(forwarder.resender, rules, clock.monotonic(), clock.now_ms()))

        await evaluated()
        found = (await _until(url, {"e:1", "e:2"}))["e:1"]
        assert found["labels"] == {
            "alertname": "Down", "cluster": "a", "instance": "e:1", "severity": "P0"
        }  # fmt: skip
        assert found["annotations"] == {"runbook_url": "http://bell.example:4911/r"}
        link = "http://bell.example:4911/graph?g0.expr=m+%3E+0&g0.tab=1"
        assert found["generatorURL"] == link
        rules.rows = ValueError("the engine is away")
        began = clock.monotonic()
        while clock.monotonic() < began + 2.5:  # three times as long as one of them lasts
            await evaluated()
            listed = await asyncio.to_thread(_listed, url)
            assert listed.keys() == {"e:1", "e:2"}
            assert {one["status"]["state"] for one in listed.values()} == {"active"}
            await asyncio.sleep(0.1)
        rules.rows = M[1:]
        await evaluated()
        await _until(url, {"e:2"})
        assert forwarder.counts.errors == 0
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        await forwarder.client.close()


async def test_what_waits_for_one_that_is_away_is_its_newest_word() -> None:
    rules = Rules()
    await rules.at(0)
    (first, second) = _all(AlertResender(MINUTE), rules, 0, 0)
    answers = map(Answer, (503, 503, 200, 400))
    async with WebhookSink(*answers) as sink:
        forwarder = _forwarder(sink.url.rstrip("/"), MINUTE, lambda: 100 * MINUTE)
        forwarder.put([first, second])
        assert not await forwarder.send_batch()
        forwarder.put([replace(first, ended_ms=5000)])
        assert not await forwarder.send_batch()
        assert await forwarder.send_batch()
        assert await forwarder.send_batch()  # nothing is left
        bodies = [one.json() for one in sink.requests]
        assert [len(body) for body in bodies] == [2, 2, 2]
        last = {one["labels"]["instance"]: one["endsAt"] for one in bodies[-1]}
        assert last == {"e:2": "1970-01-01T01:44:00.000Z", "e:1": "1970-01-01T00:00:05.000Z"}
        forwarder.put([OutgoingAlert(first.alert, "m", MINUTE)])
        assert await forwarder.send_batch()  # refused for good
        assert (forwarder.counts.sent, forwarder.counts.dropped, forwarder.waiting) == (2, 1, 0)
        await forwarder.client.close()


async def test_what_comes_while_its_alert_is_being_sent_is_sent_as_well() -> None:
    rules, release = Rules(), asyncio.Event()
    await rules.at(0)
    (first, _) = _all(AlertResender(MINUTE), rules, 0, 0)

    async def late(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(Answer().encoded())

    async with WebhookSink(late) as sink:
        forwarder = _forwarder(sink.url, MINUTE, lambda: 100 * MINUTE)
        forwarder.put([first])
        sending = asyncio.ensure_future(forwarder.send_batch())
        await sink.wait_for(1)
        forwarder.put([replace(first, ended_ms=5000)])
        release.set()
        assert await sending
        assert await forwarder.send_batch()
        ends = [one["endsAt"] for request in sink.requests for one in request.json()]
        assert ends == ["1970-01-01T01:44:00.000Z", "1970-01-01T00:00:05.000Z"]
        await forwarder.client.close()
