"""`for` and `keep_firing_for` over a whole time, against one evaluation after the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.backtest.alert_spans import ConditionCells, alert_spans
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.alert import Alert, AlertState, EventKind
from tocsin_alerting.rules.alerting import Candidate, update_alerts
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_exporter.slices import at_once

LABELS = (("alertname", "A"), ("pod", "p"))
STEP_MS = 15_000


def fired(rule: AlertingRule, present: list[bool]) -> list[tuple[int, int, int | None]]:
    """(active, fired, resolved) as evaluations say it."""
    alerts: dict[str, Alert] = {}
    spans: list[tuple[int, int, int | None]] = []
    for step, holds in enumerate(present):
        vector = [Candidate(LABELS, (), 1.0, "key")] if holds else []
        update = at_once(update_alerts(rule, vector, step * STEP_MS, alerts))
        alerts = dict(update.alerts)
        for event in update.events:
            if event.kind is EventKind.FIRING:
                spans.append((event.alert.active_at_ms, event.at_ms, None))
            else:
                spans[-1] = (*spans[-1][:2], event.at_ms)
    assert all(alert.state in AlertState for alert in alerts.values())
    return spans


@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.sampled_from([0, 10_000, 15_000, 40_000, 60_000]),
    st.sampled_from([0, 1_000, 15_000, 45_000, 50_000]),
)
def test_they_are_those_of_evaluations(present: list[bool], for_ms: int, keep_ms: int) -> None:
    rule = AlertingRule("g/A/1", "A", "x", parse("x"), for_ms, keep_ms)
    cells = ConditionCells(np.arange(len(present), dtype=np.int64) * STEP_MS)
    cells.present[LABELS] = np.array(present, np.bool_)
    cells.values[LABELS] = np.arange(len(present), dtype=np.float64)
    got = alert_spans(cells, for_ms, keep_ms)
    assert [(s.active_ms, s.fired_ms, s.resolved_ms) for s in got] == fired(rule, present)
    assert all(span.value == span.fired_ms / STEP_MS for span in got)
