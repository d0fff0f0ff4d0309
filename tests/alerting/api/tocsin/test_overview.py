"""`/api/v1/overview`: one verdict, which is green only where there is data."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from support.alert_events import alert, clears, fires, unknown
from support.api_client import api_client
from support.dispatcher_setup import Floor
from support.policies import MINUTE, SECOND, config
from support.rule_deps import surroundings
from support.rule_texts import alerting, group
from tocsin_alerting.api.prometheus.targets import ActiveTarget
from tocsin_alerting.api.tocsin.overview import AgentState, routes
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.outbox_message import RetryAt
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.state import GroupState, RuleHealth
from tocsin_exporter.snapshot import Source


def _target(at: Floor, job: str = "node", **changes: Any) -> ActiveTarget:
    source = Source(job, "machine")
    read = ActiveTarget(source, "http://x", 5.0, 1.0, at.now, 0.1, True, "")
    return replace(read, **changes)


def _groups(at: Floor) -> Sequence[GroupState]:
    groups = Groups(surroundings({}), 5000)
    groups.load([RuleFile("r.yml", (group(alerting("up == 0", "Slow")),))], at.now)
    groups.all[0].evaluated_ms = at.now
    return groups.all


class Seen:
    """What the overview sees: all is well unless a test changes it."""

    def __init__(self, at: Floor) -> None:
        self.at = at
        self.targets = [_target(at)]
        self.groups = _groups(at)
        self.engines: list[bool | None] = [True]
        self.expects_rules = True

    async def ask(self, language: str = "en") -> dict[str, Any]:
        state = AgentState(
            dispatcher=self.at.dispatcher,
            groups=lambda: self.groups,
            targets=lambda: self.targets,
            engines=lambda: self.engines,
            receivers=["chat", "mail", "phone"],
            now_ms=lambda: self.at.now,
            expects_rules=self.expects_rules,
        )
        async with api_client(routes(state)) as api:
            answer = await api.get("/api/v1/overview", params={"language": language})
        return dict(answer.json()["data"])


async def seen() -> Seen:
    at = await Floor(config()).open()
    return Seen(at)


async def test_all_is_well_in_both_languages() -> None:
    one = await seen()
    data = await one.ask()
    assert data["verdict"] == "ok" and data["findings"] == []
    good = "All is well: no incident is open; 1 sources are read, 1 rules are evaluated"
    assert data["sentence"] == good
    assert (await one.ask("zh"))["sentence"].startswith("正常：没有未结束的事件")
    assert data["worst"] == [] and data["last_ended"] is None and data["open"] == 0


@pytest.mark.parametrize("lost", ["no source", "silent", "failed", "no rules", "late"])
async def test_without_data_nobody_knows_and_nothing_is_green(lost: str) -> None:
    one = await seen()
    long_ago = one.at.now - MINUTE
    match lost:
        case "no source":
            one.targets = []
        case "silent":
            one.targets = [_target(one.at, last_ms=long_ago)]
        case "failed":
            one.targets = [_target(one.at, ok=False), _target(one.at, ok=None, last_ms=None)]
        case "no rules":
            one.groups = []
        case "late":
            one.groups[0].evaluated_ms = long_ago
    data = await one.ask()
    assert data["verdict"] == "unknown"
    assert data["sentence"].startswith("Unknown: no ")


async def test_a_group_whose_first_slot_has_not_come_is_not_late() -> None:
    """One of five minutes has it five minutes after the start."""
    one = await seen()
    (before,) = one.groups
    one.groups = [before, replace(before, evaluated_ms=None)]
    assert (await one.ask())["findings"] == []
    one.groups[1].loaded_ms = one.at.now - MINUTE
    assert "rule groups that are late" in (await one.ask())["sentence"]


async def test_the_worst_comes_first_and_says_who_has_it() -> None:
    one = await seen()
    at = one.at
    for severity in ("P2", "P0", "P1", "P1"):
        number = len(at.dispatcher.working.incidents)
        slow = replace(alert("Slow", severity, target=str(number)), active_at_ms=at.now)
        await at.hear(fires(slow, at.now))
    data = await one.ask()
    assert data["verdict"] == "bad"
    assert data["sentence"] == (
        "Not well: #2 P0 Slow target=1, for 0s, nobody has acknowledged; 3 more open"
    )
    assert [worst["number"] for worst in data["worst"]] == [2, 3, 4]
    assert data["severities"] == {"P0": 1, "P1": 2, "P2": 1} and data["unanswered"] == 4
    assert data["worst"][0]["next"]["what"] == "slo_breach"
    await at.act(Verb.ACK, 2, "li")
    assert "acknowledged by li" in (await one.ask())["sentence"]
    assert (await one.ask("zh"))["sentence"].startswith("有异常：#2 P0 ")


async def test_what_is_mild_or_silent_needs_attention() -> None:
    one = await seen()
    at = one.at
    slow = alert("Slow", "P2", target="a")
    await at.hear(fires(slow, at.now))
    assert (await one.ask())["verdict"] == "attention"
    await at.advance(30 * SECOND)
    await at.hear(clears(slow, at.now))
    one.targets = [_target(at), _target(at, "gpu", last_ms=at.now - MINUTE)]
    one.groups[0].evaluated_ms = at.now
    data = await one.ask()
    assert data["verdict"] == "attention" and "1 silent source(s)" in data["sentence"]
    assert data["sources"]["silent"][0]["job"] == "gpu"
    assert data["last_ended"]["number"] == 1


async def test_what_is_not_here_is_not_silent() -> None:
    """A machine without a GPU is well."""
    one = await seen()
    absent = _target(one.at, "dcgm", last_ms=None, ok=None, absent=True)
    one.targets = [_target(one.at), absent]
    data = await one.ask()
    assert (data["verdict"], data["sources"]["read"], data["sources"]["silent"]) == ("ok", 1, [])
    assert data["sources"]["absent"] == [{"job": "dcgm", "instance": "machine"}]
    one.targets = [absent]
    assert (await one.ask())["sentence"] == "Unknown: no source is read"


async def test_a_pager_that_has_no_rules_on_purpose_says_so() -> None:
    one = await seen()
    one.groups, one.expects_rules = [], False
    data = await one.ask()
    assert data["verdict"] == "attention"
    assert data["sentence"].endswith(
        ": rule_files is empty: only alerts that others send page anybody"
    )
    assert "rule_files 为空" in (await one.ask("zh"))["sentence"]


async def test_it_lasts_since_its_condition_and_nobody_can_tell() -> None:
    one = await seen()
    at = one.at
    slow = replace(alert("Slow", "P0"), active_at_ms=at.now - MINUTE)
    await at.hear(fires(slow, at.now))
    await at.advance(12 * SECOND)
    assert "Slow, for 1m12s, nobody has" in (await one.ask())["sentence"]
    await at.hear(unknown(slow, at.now))
    data = await one.ask()
    assert "Slow, for 1m12s, state unknown, nobody has acknowledged" in data["sentence"]
    assert "已持续 1m12s，状态未知，无人确认" in (await one.ask("zh"))["sentence"]


async def test_a_rule_that_fails_and_no_engine_are_said() -> None:
    one = await seen()
    one.groups[0].rules[0].health = RuleHealth.ERR
    one.engines = []
    data = await one.ask()
    assert data["verdict"] == "attention"
    assert data["findings"] == ["rules that fail: Slow", "no inference engine is watched"]


async def test_receivers_that_fail_are_bad_when_all_of_them_do() -> None:
    one = await seen()
    at = one.at
    at.answers["phone"] = lambda sent: RetryAt("503")
    await at.hear(fires(alert("Slow", "P0", target="a"), at.now))
    await at.act(Verb.ESCALATE, step=2)
    rows = {row["receiver"]: row for row in (await one.ask())["receivers"]}
    assert (rows["phone"]["error"], rows["phone"]["waiting"] > 0) == ("503", True)
    assert rows["chat"]["error"] == "" == rows["mail"]["error"]


async def test_a_journal_that_is_down_is_bad() -> None:
    one = await seen()
    one.at.dispatcher.writer.mark_down("disk full", one.at.now)
    data = await one.ask()
    assert data["verdict"] == "bad" and "journal" in data["sentence"]
    assert data["journal"] == {"up": False, "error": "disk full"}
