"""Counts of a backtest beside counts by hand, and the bundled packs on a box that is well or ill.

`scripts/simulated_week.py` prints what the long form looks at.
"""

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.command_line import alertctl
from support.simulated_week import SimulatedBox, faults
from support.week_replay import PACKS, fired_after, known_to

BEGIN, EVERY = 1_700_438_400, 60  # Monday, 00:00 UTC
CONFIG = """
group: {by: [alertname, fault]}
receivers: {hook: {type: webhook, url: "http://127.0.0.1:9"}}
policies:
  P1: {group: {wait: 0s}, steps: [{notify: [{receiver: hook}]}]}
  P2: {group: {wait: 0s}, steps: [{notify: [{receiver: hook}]}]}
storm: {incidents: 1000}
"""
RULES = """
groups:
- name: hand
  interval: 1m
  rules:
  - {alert: Broken, expr: broken == 1, labels: {severity: P1}}
  - {alert: Odd, expr: odd == 1, for: 2m, labels: {severity: P2}}
"""
# (metric, fault, begin and end in minutes of the day, whether it was real)
HISTORY = [
    ("broken", "a", 60, 90, True),
    ("broken", "a", 100, 101, False),  # over within two minutes, and within 30 of the one before
    ("broken", "a", 300, 330, True),
    ("broken", "b", 300, 301, False),
    ("odd", "c", 600, 602, False),  # shorter than `for`: it does not fire
    ("odd", "c", 660, 700, True),
    ("odd", "c", 720, 725, False),  # 22 minutes after the end of the one before
]


def test_counts_are_those_by_hand(tmp_path: Path) -> None:
    """One page an incident, when it opens; a reopened one (within 15 minutes) is the same."""
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    lines = []
    for metric, fault in dict.fromkeys((m, f) for m, f, *_ in HISTORY):
        spans = [(b, e) for m, f, b, e, _ in HISTORY if (m, f) == (metric, fault)]
        for minute in range(1440):
            value = int(any(b <= minute < e for b, e in spans))
            lines.append(f'{metric}{{fault="{fault}"}} {value} {BEGIN + 60 * minute}\n')
    (tmp_path / "day.om").write_text("".join(lines))
    with (tmp_path / "labels.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", "alertname"])
        for metric, _, begin, end, real in HISTORY:
            if real:
                name = {"broken": "Broken", "odd": "Odd"}[metric]
                writer.writerow([BEGIN + 60 * begin, BEGIN + 60 * end, name])
        writer.writerow([BEGIN + 60_000, BEGIN + 60_600, "Broken"])  # that nobody found
    ended = alertctl(
        "backtest", str(tmp_path / "rules.yml"), "--config.file", str(tmp_path / "tocsin.yml"),
        "--samples", str(tmp_path / "day.om"), "--labels", str(tmp_path / "labels.csv"),
        "--start", str(BEGIN), "--end", str(BEGIN + 86_340), "-o", "json", "--ack-after", "1s",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    shown = json.loads(ended.out)
    broken, odd = shown["rules"]
    assert (broken["fired"], broken["short"], broken["flaps"]) == (4, 2, 1)
    assert (odd["fired"], odd["short"], odd["flaps"]) == (2, 0, 1)
    assert broken["firing_seconds"] == 60 * (30 + 1 + 30 + 1)
    assert odd["firing_seconds"] == 60 * (38 + 3)  # the first two minutes each wait
    # The firing of `b` lies in the labelled time of Broken, so it counts as real.
    assert (broken["true_alarms"], broken["false_alarms"]) == (3, 1)
    assert (odd["true_alarms"], odd["false_alarms"]) == (1, 1)
    assert (broken["found"], broken["to_find"]) == (2, 3)
    assert (odd["found"], odd["to_find"]) == (1, 1)
    assert broken["precision"] == 0.75 and broken["recall"] == round(2 / 3, 4)
    assert broken["noise"] == round(0.5 * 2 / 4 + 0.3 * 1 / 4 + 0.2 * 1 / 4, 4)
    hours = Counter(
        (severity, datetime.fromtimestamp(BEGIN + 60 * minute, UTC).astimezone().hour)
        for severity, minute in EXPECTED_PAGES
    )
    told = Counter(
        {(s, hour): n for s, row in shown["hours"].items() for hour, n in enumerate(row) if n}
    )
    assert told == hours
    assert shown["pages"] == len(EXPECTED_PAGES)


# `a` opens at 60, again at 100 (in reopen_within of 90) and at 300; `b` at 300; `c` at 662 and 722.
EXPECTED_PAGES = [
    ("P1", 60), ("P1", 100), ("P1", 300), ("P1", 300), ("P2", 662), ("P2", 722),
]  # fmt: skip
ENGINE_FAULTS = ("engine_dead", "stalled", "errors", "slow_first_token", "cache_full")


def test_a_day_without_a_fault_is_silent_and_each_fault_is_told() -> None:
    pack, wrong = PACKS["vllm"], faults(1, ENGINE_FAULTS)
    still = pack.replay(SimulatedBox(1, EVERY), (), EVERY)
    assert [report.rule for report in still.reports if report.fired] == []
    assert not still.log.pages and not any(report.failures for report in still.reports)
    ill = pack.replay(SimulatedBox(1, EVERY, wrong), wrong, EVERY)
    after = {fault.what: fired_after(ill, fault) for fault in wrong if known_to(ill, fault)}
    assert len(after) == len(ENGINE_FAULTS)
    assert [what for what, seconds in after.items() if seconds is None or seconds > 900] == []


@pytest.mark.long
@pytest.mark.parametrize("name", PACKS)
def test_a_week_of_each_pack(name: str) -> None:
    wrong = faults(7)
    still = PACKS[name].replay(SimulatedBox(7, EVERY), (), EVERY)
    assert [page for page in still.log.pages if page.severity in ("P0", "P1", "P2")] == []
    assert all((report.noise or 0) < 0.05 for report in still.reports)
    ill = PACKS[name].replay(SimulatedBox(7, EVERY, wrong), wrong, EVERY)
    missed = [
        fault.what for fault in wrong if known_to(ill, fault) and fired_after(ill, fault) is None
    ]
    assert missed == []
