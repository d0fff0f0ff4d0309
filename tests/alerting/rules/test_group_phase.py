"""A group that reads nothing of ours runs at the moments at which a Prometheus would run it."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from support.prometheus import Prometheus, running_prometheus
from support.rule_deps import SetSources, surroundings
from support.rule_texts import alerting, group
from support.scripted_engine import row
from tocsin_alerting.rules.group_phase import GroupPhases, phase_ms, phase_ns, xxhash64
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.unknown_alerts import RULES_JOB, SourceStatus
from tocsin_alerting.time_format import rfc3339_nano
from tocsin_exporter.snapshot import Source

INTERVALS = {"a": 1_000, "node": 2_000, "推理": 2_000, "a name that is longer than a stripe": 3_000}
OURS, THEIRS = Source("node", "box"), Source("node", "other")


def _evaluated(server: Prometheus) -> list[dict[str, Any]]:
    """All groups, once each has run."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with urlopen(f"{server.url}/api/v1/rules") as answer:
            groups = list(json.load(answer)["data"]["groups"])
        if len(groups) == len(INTERVALS) and all(g["lastEvaluation"][0] == "2" for g in groups):
            return groups
        time.sleep(0.1)
    raise AssertionError("Prometheus evaluated nothing")


def test_the_moments_are_those_of_a_real_prometheus(tmp_path: Path) -> None:
    rules = "".join(
        f"- {{name: {name}, interval: {ms}ms, rules: [{{alert: A, expr: vector(1), for: 1h}}]}}\n"
        for name, ms in INTERVALS.items()
    )
    file = tmp_path / "rules.yml"
    file.write_text(f"groups:\n{rules}")
    exact = []
    with running_prometheus(tmp_path, config=f"rule_files: [{file}]\n") as server:
        for found in _evaluated(server):
            interval_ms = INTERVALS[found["name"]]
            ran_ms = 1000 * datetime.fromisoformat(found["lastEvaluation"]).timestamp()
            expected = phase_ms(str(file), found["name"], interval_ms, 2)
            late_ms = (ran_ms - expected) % interval_ms  # it says when it began, not its slot
            assert late_ms < 150, found["name"]
            (alert,) = found["rules"][0]["alerts"]
            second, _, fraction = alert["activeAt"].rstrip("Z").partition(".")
            whole_s = round(datetime.fromisoformat(second + "+00:00").timestamp())
            active_ns = whole_s * 1_000_000_000 + int(fraction.ljust(9, "0"))
            slot_ns = phase_ns(str(file), found["name"], interval_ms, 2)
            off_ns = (active_ns - slot_ns) % (interval_ms * 1_000_000)
            assert off_ns < 150_000_000, found["name"]  # on a busy machine it may be a little off
            exact.append(off_ns == 0)
            assert rfc3339_nano(active_ns) == alert["activeAt"]
    assert any(exact)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_the_hash_is_xxhash(text: bytes, digest: int) -> None:
    assert xxhash64(text) == digest


def test_prometheus_3_hashes_the_length_before_each_text() -> None:
    encoded = b"\x04file\x01f\x04name\x01g"
    assert phase_ms("f", "g", 60_000) == xxhash64(encoded) % 60_000_000_000 // 1_000_000
    long = "x" * 300
    encoded = b"\x04file\xff\x2c\x01\x00" + long.encode() + b"\x04name\x01g"
    assert phase_ms(long, "g", 60_000) == xxhash64(encoded) % 60_000_000_000 // 1_000_000


async def test_a_group_that_reads_what_we_scrape_runs_with_the_scrapes() -> None:
    sources = SetSources({THEIRS: SourceStatus.ALIVE})
    script = {"m > 0": lambda _: [row(1.0, instance="a")]}
    deps = surroundings(script, sources=sources)
    groups = Groups(deps, 60_000, phase_of=GroupPhases(lambda: [OURS]).of)
    groups.load([RuleFile("f.yml", (group(alerting()),))], 0)
    (progress,) = groups.all
    sources.unready = {rule.rule.query for rule in progress.rules}
    await groups.evaluate(progress, 0)
    apart = phase_ms("f.yml", "g", 60_000)
    assert groups.next_due(1)[0] == apart, "nothing of ours is known that it reads"
    sources.unready = set()
    await groups.evaluate(progress, 60_000)
    assert groups.next_due(60_001)[0] in (60_000 + apart, 120_000 + apart)
    assert groups.slot(progress, 10**12) % 60_000 == apart
    sources.healths = {OURS: SourceStatus.ALIVE}
    await groups.evaluate(progress, 120_000 + apart)
    assert groups.slot(progress, 10**12) % 60_000 == 0
    sources.healths = {OURS: SourceStatus.DEAD}
    await groups.evaluate(progress, 240_000)
    assert groups.slot(progress, 10**12) % 60_000 == 0, "it reads it, though it is silent now"


@pytest.mark.parametrize(
    ("found", "apart"),
    [
        ({THEIRS}, True),
        ({THEIRS, Source(RULES_JOB, "f.yml;g/b/1")}, True),
        ({OURS, THEIRS}, False),
        (set[Source](), True),
    ],
)
def test_the_first_moment_is_one_of_prometheus_too(found: set[Source], apart: bool) -> None:
    """The samples that there are say whose a group reads, those of the last run too; else an alert
    is active from another moment on than beside it."""
    phases = GroupPhases(lambda: [OURS], touched=lambda selector: frozenset(found))
    groups = Groups(surroundings({}), 60_000, phase_of=phases.of)
    groups.load([RuleFile("f.yml", (group(alerting()),))], 0)
    expected, (progress,) = phase_ms("f.yml", "g", 60_000) if apart else 0, groups.all
    slot_ms = groups.slot(progress, 10**12)
    assert slot_ms % 60_000 == expected
    exactly = phase_ns("f.yml", "g", 60_000) if apart else 0
    assert progress.nanoseconds(slot_ms) % 60_000_000_000 == exactly
    assert progress.nanoseconds(slot_ms + 1) == (slot_ms + 1) * 1_000_000, "it moved here"
