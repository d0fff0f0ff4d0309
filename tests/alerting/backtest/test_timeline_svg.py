"""The picture of a backtest: what is drawn where, and words that stand apart."""

from datetime import UTC, datetime
from xml.etree import ElementTree

import numpy as np
import pytest

from tocsin_alerting.backtest.alert_spans import AlertSpan, ConditionCells
from tocsin_alerting.backtest.paging import PagingLog
from tocsin_alerting.backtest.replay import RuleReplay
from tocsin_alerting.backtest.report import LabelledIncident
from tocsin_alerting.backtest.timeline_svg import timeline_svg
from tocsin_alerting.rules.rule_file import read

HOUR_MS = 3_600_000
BEGIN_MS = round(datetime(2026, 3, 1, 0, 7, tzinfo=UTC).timestamp() * 1000)
(GROUP,) = read(
    "groups: [{name: g, rules: [{alert: A, expr: up == 0, labels: {severity: P1}}]}]", "r.yml"
).groups


def texts(hours: float, *spans: AlertSpan, real: tuple[LabelledIncident, ...] = ()) -> list[str]:
    """All words of the picture, and of each thing its title."""
    times = np.zeros(0, np.int64)
    cells = ConditionCells(times)
    replay = RuleReplay(GROUP, GROUP.rules[0], times, cells, list(spans))
    within = BEGIN_MS, BEGIN_MS + round(hours * HOUR_MS)
    root = ElementTree.fromstring(timeline_svg([replay], PagingLog(), within, real))
    return [one.text for one in root.iter() if one.text and one.text.strip()]


@pytest.mark.parametrize(
    ("hours", "first", "last"),
    [
        (1, "01 Mar 00:10", "01 Mar 01:00"),
        (24, "01 Mar 03:00", "02 Mar 00:00"),
        (48, "01 Mar 06:00", "03 Mar 00:00"),
        (24 * 7, "02 Mar", "08 Mar"),
    ],
)
def test_ticks_are_whole_hours_or_days_and_few(hours: float, first: str, last: str) -> None:
    ticks = [text for text in texts(hours) if " Mar" in text]
    assert (ticks[0], ticks[-1]) == (first, last)
    assert 3 <= len(ticks) <= 9


def test_a_row_says_which_tier_it_is_and_a_band_which_incident() -> None:
    begin_ms = BEGIN_MS + HOUR_MS
    span = AlertSpan((("job", "a"),), begin_ms, begin_ms, begin_ms + HOUR_MS, 1.0)
    one = LabelledIncident(BEGIN_MS + HOUR_MS, BEGIN_MS + 3 * HOUR_MS, "<A>")
    shown = texts(6, span, real=(one,))
    assert "A P1" in shown
    assert '2026-03-01 01:07:00 to 2026-03-01 02:07:00 {job="a"}' in shown
    assert "incident 2026-03-01 01:07:00 to 2026-03-01 03:07:00 <A>" in shown


def test_nothing_fired_is_said() -> None:
    assert "no rule would have fired" in texts(1)
    assert texts(24 * 3_650)[0] == "22 Oct 2026"  # of ten years
    assert len(texts(24 * 3_650)) > 3
