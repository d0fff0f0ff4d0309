"""Counts and scores, against a week that was counted by hand."""

from collections import Counter
from datetime import UTC

import numpy as np
import pytest

from tocsin_alerting.backtest.alert_spans import AlertSpan, ConditionCells
from tocsin_alerting.backtest.history import History, PastSeries
from tocsin_alerting.backtest.paging import PagingLog, paging_log
from tocsin_alerting.backtest.replay import Replay, ReplaySettings, RuleReplay
from tocsin_alerting.backtest.report import (
    Judgement,
    LabelledIncident,
    RuleReport,
    missed_incidents,
    noise,
    real_incidents,
    reports,
)
from tocsin_alerting.backtest.run import Backtest
from tocsin_alerting.backtest.what_if import what_ifs
from tocsin_alerting.config.load import incident_config, load
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.rule_file import read

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
MONDAY_MS = 1_699_833_600_000  # 2023-11-13 00:00 UTC
WEEK_MS = 7 * 24 * HOUR_MS
RULES = """
groups:
- name: load
  interval: 1m
  rules:
  - {alert: High, expr: "load > 80", for: 3m, labels: {severity: P1}}
  - {alert: Nervous, expr: "load > 60", labels: {severity: P2}}
"""
# (day, hour, minute, how many minutes, load): the faults of the week
REAL = ((0, 3, 0, 60, 95), (2, 14, 0, 30, 90), (5, 23, 30, 90, 99))
SPIKES = ((1, 10, 0, 1, 85), (1, 10, 20, 1, 85), (3, 9, 0, 4, 84), (4, 12, 0, 1, 70))


SUNDAY = ((MONDAY_MS + 5 * 24 * HOUR_MS + 23 * HOUR_MS, MONDAY_MS + WEEK_MS),)


def at_ms(day: int, hour: int, minute: int) -> int:
    return MONDAY_MS + (day * 24 + hour) * HOUR_MS + minute * MINUTE_MS


def week() -> PastSeries:
    times = np.arange(MONDAY_MS, MONDAY_MS + WEEK_MS, MINUTE_MS, dtype=np.int64)
    values = np.full(len(times), 40.0)
    for day, hour, minute, length, load_value in (*REAL, *SPIKES):
        start = (at_ms(day, hour, minute) - MONDAY_MS) // MINUTE_MS
        values[start : start + length] = load_value
    return PastSeries({(("__name__", "load"), ("instance", "a")): (times, values)})


def judged() -> Judgement:
    known = [
        LabelledIncident(at_ms(d, h, m), at_ms(d, h, m) + n * MINUTE_MS) for d, h, m, n, _ in REAL
    ]
    missed = LabelledIncident(at_ms(6, 4, 0), at_ms(6, 5, 0))  # nobody's load was high then
    return Judgement((*known, missed), complete=True)


async def test_a_week_counted_by_hand() -> None:
    history = History(week())
    engine = QueryEngine(history, subquery_step_ms=MINUTE_MS)
    within = MONDAY_MS, MONDAY_MS + WEEK_MS
    replay = Replay(engine, history, ReplaySettings(*within, MINUTE_MS))
    groups = read(RULES, "rules.yml").groups
    replays = await replay.run(groups)
    spans = [(one.rule.uid, span) for one in replays for span in one.spans]
    log = await paging_log(incident_config(load(None)), spans, within[1], 5 * MINUTE_MS)
    high, nervous = reports(replays, log, judged(), within, UTC)

    # three faults and the four minutes of Thursday; a spike of a minute is shorter than `for`
    assert (high.fired, high.short, high.flaps, high.still_firing) == (4, 1, 0, 0)
    assert high.median_ms == round((57 + 27) / 2) * MINUTE_MS
    assert (high.true_alarms, high.false_alarms, high.found, high.to_find) == (3, 1, 3, 4)
    assert (high.precision, high.recall) == (0.75, 0.75)
    assert high.noise == pytest.approx(0.5 * 1 / 4 + 0.2 * 1 / 4)
    assert high.incidents == 4
    assert high.pages == Counter({"P1": sum(high.hours)})
    assert {hour for hour, count in enumerate(high.hours) if count} >= {3, 9, 14, 23}

    # each spike too, one of them within 30 minutes of the one before
    assert (nervous.fired, nervous.short, nervous.flaps) == (7, 3, 1)
    assert (nervous.true_alarms, nervous.false_alarms) == (3, 4)
    assert nervous.noise == pytest.approx(0.5 * 3 / 7 + 0.3 * 1 / 7 + 0.2 * 4 / 7)

    assert (high.severity, nervous.severity) == ("P1", "P2")
    assert len(real_incidents(judged(), within)) == 4
    (missed,) = missed_incidents(replays, judged(), within)
    assert missed.start_ms == at_ms(6, 4, 0)
    named = [LabelledIncident(*span, name) for span in SUNDAY for name in ("High", "Other", "")]
    (missed,) = missed_incidents(replays, Judgement(tuple(named)), within)
    assert missed.alertname == "Other"  # it is about an alert that did not fire then

    others = {row.change: row for row in await what_ifs(replays[0], replay.quiet(), within)}
    assert others["as it is"].fired == 4
    assert others["for: 0s"].fired == 6
    assert others["for: 5m"].fired == 3
    assert others["threshold 96"].fired == 1  # 80 * 1.2: Saturday alone
    assert others["threshold 88"].fired == 3
    assert others["threshold 64"].fired == others["as it is"].fired


def test_noise_is_between_nothing_and_one() -> None:
    assert noise(0, 0, 0, 0, 0) is None
    assert noise(0, 0, 0, 5, 0) == 0.0
    assert noise(5, 5, 0, 5, 0) == 1.0
    assert noise(5, 5, 5, 5, 5) == 1.0
    assert noise(2, 0, 0, 4, 0) == pytest.approx(0.625 * 0.5)


async def test_what_nobody_acknowledges_is_escalated() -> None:
    history = History(week())
    engine = QueryEngine(history, subquery_step_ms=MINUTE_MS)
    within = MONDAY_MS, MONDAY_MS + WEEK_MS
    replay = Replay(engine, history, ReplaySettings(*within, MINUTE_MS))
    replays = await replay.run(read(RULES, "rules.yml").groups[:1])
    spans = [(one.rule.uid, span) for one in replays[:1] for span in one.spans]
    config = incident_config(load(None))
    answered = await paging_log(config, spans, within[1], MINUTE_MS)
    never = await paging_log(config, spans, within[1], None)
    assert len(answered.rules) == len(never.rules) == 4
    assert len(never.pages) >= len(answered.pages) >= 4
    assert "escalated" in {page.reason for page in never.pages}
    assert "escalated" not in {page.reason for page in answered.pages}


SPAN_LABELS = (("job", "a"),)


def counted(
    *spans: tuple[int, int | None],
    judgement: Judgement = Judgement(),  # noqa: B008  (frozen)
) -> RuleReport:
    """The report of a rule that fired so, in seconds, within an hour of 3,600."""
    (group,) = read(RULES, "rules.yml").groups
    times = np.zeros(0, np.int64)
    fired = [
        AlertSpan(SPAN_LABELS, 1000 * begin, 1000 * begin, None if end is None else 1000 * end, 1.0)
        for begin, end in spans
    ]
    replay = RuleReplay(group, group.rules[0], times, ConditionCells(times), fired)
    (report,) = reports([replay], PagingLog(), judgement, (0, HOUR_MS), UTC)
    return report


def test_two_minutes_are_not_within_two_minutes() -> None:
    assert counted((0, 120)).short == 0
    assert counted((0, 119)).short == 1
    assert counted((3_590, None)).short == 0  # nobody knows when it ends


def test_what_fires_again_after_thirty_minutes_does_not_flap() -> None:
    assert counted((0, 300), (2_100, 2_400)).flaps == 0
    assert counted((0, 300), (2_099, 2_400)).flaps == 1
    assert counted((0, 300), (400, 500), (600, 700)).flaps == 2


def test_both_ends_of_the_time_count() -> None:
    assert counted((0, 10), (3_600, None)).fired == 2
    assert counted((-1, 10), (3_601, None)).fired == 0


def real(start: int, end: int, name: str = "", was: bool = True) -> LabelledIncident:
    return LabelledIncident(1000 * start, 1000 * end, name, was)


def test_an_alarm_is_of_an_incident_up_to_five_minutes_before_it() -> None:
    def judged_as(end: int) -> tuple[int, int, int]:
        one = counted((100, end), judgement=Judgement([real(1_000, 2_000)], complete=True))
        return one.true_alarms, one.false_alarms, one.found

    assert judged_as(700) == (1, 0, 1)
    assert judged_as(699) == (0, 1, 0)


def test_of_alarms_that_nobody_judged_nothing_is_said() -> None:
    some = Judgement([real(100, 200, was=False), real(500, 600, "Other")])
    one = counted((100, 200), (500, 600), (3_000, 3_100), judgement=some)
    assert (one.true_alarms, one.false_alarms, one.to_find) == (0, 1, 0)
    assert (one.precision, one.recall) == (0.0, None)
    assert one.short == 3 and one.noise == pytest.approx(0.5 + 0.3 * 1 / 3 + 0.2)


async def test_the_for_that_the_rule_has_is_tried_once() -> None:
    history = History(week())
    within = MONDAY_MS, MONDAY_MS + WEEK_MS
    replay = Replay(
        QueryEngine(history, subquery_step_ms=MINUTE_MS),
        history,
        ReplaySettings(*within, MINUTE_MS),
    )
    groups = read(RULES.replace("for: 3m", "for: 5m"), "rules.yml").groups
    (high, _) = await replay.run(groups)
    changes = [row.change for row in await what_ifs(high, replay.quiet(), within)]
    assert changes[:5] == ["as it is", "for: 0s", "for: 1m", "for: 2m", "for: 10m"]
    assert len(changes) == len(set(changes)) == 9


@pytest.mark.parametrize(
    ("expr", "wait", "before_min"),
    [
        ("m > 1", "0s", 5),
        ("rate(m[10m]) > 1", "0s", 15),
        ("m > 1", "20m", 25),
        ("rate(m[10m] offset 1h) > 1", "20m", 95),
    ],
)
def test_samples_are_read_from_as_far_back_as_the_rules_look(
    expr: str, wait: str, before_min: int
) -> None:
    text = f"groups: [{{name: g, rules: [{{alert: A, expr: '{expr}', for: {wait}}}]}}]"
    groups = read(text, "r.yml").groups
    job = Backtest(load(None), groups, (MONDAY_MS, MONDAY_MS + HOUR_MS), MINUTE_MS)
    assert job.needs == (MONDAY_MS - before_min * MINUTE_MS, MONDAY_MS + HOUR_MS)
