"""Numbers of incidents: worked out by hand from a story, and from the fold over its history."""

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.journal.questions import IncidentFilter
from tocsin_alerting.incidents.statistics import BOUNDS_S, Histogram, IncidentStatistics


def _entries(*lines: tuple[int, int, str, dict[str, Any]]) -> list[HistoryEntry]:
    return [
        HistoryEntry(seq, at_s * SECOND, number, event, data.pop("actor", ""), data)
        for seq, (at_s, number, event, data) in enumerate(lines, 1)
    ]


def _opened(alert: str, severity: str) -> dict[str, Any]:
    return {"alert": alert, "severity": severity}


DAY = _entries(
    (0, 1, "opened", _opened("Down", "P0")),
    (0, 1, "delivered", {"contact": "li", "receiver": "mail", "reason": "opened"}),
    (30, 1, "step", {"step": 1, "reason": "escalated"}),
    (30, 1, "delivered", {"contact": "wang", "receiver": "mail", "reason": "escalated"}),
    (60, 1, "acked", {"actor": "wang"}),
    (60, 1, "delivered", {"contact": "li", "receiver": "mail", "reason": "acked"}),
    (70, 1, "acked", {"actor": "li"}),
    (100, 2, "opened", _opened("Slow", "P2")),
    (110, 2, "severity_raised", {"from": "P2", "to": "P1"}),
    (300, 1, "resolved", {"why": "clear"}),
    (400, 1, "reopened", {"severity": "P0"}),
    (410, 1, "slo_breach", {}),
    (500, 1, "closed_by_hand", {"actor": "li", "false_positive": True}),
    (700, 2, "resolved", {}),
    (800, 2, "closed", {}),
    (900, 9, "acked", {"actor": "li"}),  # its beginning is not known
)


def test_a_story_in_numbers() -> None:
    numbers = IncidentStatistics()
    numbers.take(DAY)
    assert numbers.opened == {("Down", "P0"): 1, ("Slow", "P2"): 1}
    assert numbers.reopened == {"Down": 1}
    assert numbers.resolved == {
        ("Down", "P0", "clear", ""): 1,
        ("Down", "P0", "false_positive", ""): 1,
        ("Slow", "P1", "clear", ""): 1,
    }
    assert numbers.breaches == {"P0": 1} and numbers.escalations == {"P0": 1}
    assert (numbers.ack_seconds["P0"].count, numbers.ack_seconds["P0"].sum) == (1, 60)
    assert (numbers.duration_seconds["P0"].count, numbers.duration_seconds["P0"].sum) == (2, 400)
    told = numbers.to_json(UTC)
    assert [rule["rule"] for rule in told["rules"]] == ["Down", "Slow"]
    down = told["rules"][0]
    assert (down["opened"], down["reopened"], down["pages"]) == (1, 1, 2)
    assert (down["acked"], down["resolved"], down["unanswered"]) == (1, 2, 0)
    assert down["false_positives"] == 1 and told["rules"][1]["unanswered"] == 1
    assert (down["mean_seconds_to_ack"], down["mean_seconds_to_resolve"]) == (60, 200)
    assert told["total"]["opened"] == 2 and told["total"]["median_seconds_to_resolve"] == 300
    assert told["people"] == [
        {"person": "li", "pages": 1, "acked": 1},
        {"person": "wang", "pages": 1, "acked": 1},
    ]


def test_only_what_happened_within_the_span_counts() -> None:
    numbers = IncidentStatistics(since_ms=300 * SECOND, until_ms=499 * SECOND)
    numbers.take(DAY)
    assert not numbers.opened and numbers.reopened == {"Down": 1}
    assert numbers.resolved == {("Down", "P0", "clear", ""): 1}
    assert numbers.duration_seconds["P0"].sum == 300  # since it began, before the span


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 3), ("Asia/Shanghai", 11)])
def test_pages_are_counted_by_the_hour_of_the_day_where_one_is(zone: str, hour: int) -> None:
    numbers = IncidentStatistics()
    page = {"contact": "li", "reason": "opened"}
    at_s = (86_400 + 3 * 3600) + 59
    numbers.take(_entries((at_s, 1, "opened", _opened("A", "P0")), (at_s, 1, "delivered", page)))
    hours = numbers.to_json(ZoneInfo(zone))["hours"]
    assert [one["hour"] for one in hours if one["pages"]] == [hour] and len(hours) == 24


def test_a_histogram_is_prometheus_s() -> None:
    times = Histogram()
    for seconds in (1, 30, 31, 10**9):
        times.observe(seconds)
    assert (times.buckets[0], times.buckets[1], times.buckets[-1]) == (2, 3, 3)
    assert times.count == 4 and len(times.buckets) == len(BOUNDS_S)


async def test_what_the_journal_holds_and_memory_knows_are_counted_together() -> None:
    one = await Floor(config()).open()
    down = alert("EngineDown", "P0", target="a")
    await one.hear(fires(down, one.now))
    await one.advance(5 * MINUTE)
    await one.act(Verb.ACK, 1, "li")
    await one.advance(5 * MINUTE)
    await one.hear(clears(down, one.now))
    await one.advance(2 * HOUR)  # closed: the journal alone has it
    await one.hear(fires(alert("Slow", "P1", target="b"), one.now))
    records = one.dispatcher.records
    told = (await records.statistics(START_MS, one.now)).to_json(UTC)
    assert told["total"]["opened"] == 2 and told["total"]["resolved"] == 1
    assert told["total"]["mean_seconds_to_ack"] == 300
    assert told["total"]["mean_seconds_to_resolve"] == 600
    only = (await records.statistics(START_MS, one.now, IncidentFilter(rule="Slow"))).to_json(UTC)
    assert [rule["rule"] for rule in only["rules"]] == ["Slow"]
    none = (await records.statistics(0, START_MS - 1)).to_json(UTC)
    assert none["total"]["opened"] == 0 and none["rules"] == []
    before = (await records.statistics(one.now - HOUR, one.now)).to_json(UTC)
    assert (before["total"]["opened"], before["total"]["resolved"]) == (1, 0)
