"""Rules on what is not there, and thresholds that nothing comes near."""

from collections.abc import Collection, Sequence

import pytest

from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.promql.parser.parser import parse as parse_expr
from tocsin_alerting.rules.lint import LIVE
from tocsin_alerting.rules.lint_live import (
    SeriesLabels,
    live_lints,
    missing_selectors,
    selects,
)
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.yaml_document import parse

SERIES: dict[str, list[SeriesLabels]] = {
    "node_load1": [{"__name__": "node_load1", "job": "node", "instance": "a"}],
    "vllm:num_requests_running": [
        {"__name__": "vllm:num_requests_running", "model_name": "m", "engine": "0"}
    ],
    "up": [{"__name__": "up", "job": job, "instance": "a"} for job in ("node", "llm")],
}


class KnownStore:
    """Has SERIES, each of a sample an hour old, and values up to `top`."""

    def __init__(self, top: float | None = 0.9) -> None:
        self.top = top
        self.asked: list[str] = []

    def names(self) -> Collection[str]:
        return SERIES

    def series(self, selector: VectorSelector, reach_ms: int) -> Sequence[SeriesLabels]:
        if selector.name:
            return SERIES.get(selector.name, [])
        return [one for every in SERIES.values() for one in every if selects(selector, one)]

    def highest(self, expr: str) -> float | None:
        self.asked.append(expr)
        return self.top


def said(expr: str, store: KnownStore, *recorded: str) -> list[str]:
    rule = f"alert: A\n      expr: '{expr}'"
    text = f"groups:\n- name: g\n  rules:\n    - {rule}\n"
    found = live_lints(parse(text, "f"), read(text, "f").groups, store, recorded, LIVE)
    return [str(one).removeprefix("f:5:").replace('group "g", rule 1, "A": ', "") for one in found]


@pytest.mark.parametrize(
    ("expr", "told"),
    [
        (
            "vllm:num_request_running > 1",
            "14: no metric here is called `vllm:num_request_running`; the nearest is"
            " `vllm:num_requests_running` (matches-nothing)",
        ),
        (
            "node_load_average > 1",
            "14: no metric here is called `node_load_average`, nor nearly so (matches-nothing)",
        ),
        ("zzz > 1", "14: no metric here is called `zzz`, nor nearly so (matches-nothing)"),
        (
            '1 < up{job="nod"}',
            '18: `up{job="nod"}` selects nothing here: none has `job="nod"`; there, `job` is "llm",'
            ' "node" (matches-nothing)',
        ),
        (
            'node_load1{rack="1"} > 1',
            '14: `node_load1{rack="1"}` selects nothing here: no series has the label `rack`'
            " (matches-nothing)",
        ),
        (
            '{job="node",engine="0"} > 1',
            '14: `{engine="0",job="node"}` selects nothing here; correct its labels'
            " (matches-nothing)",
        ),
    ],
)
def test_what_is_not_there_is_named_with_what_is(expr: str, told: str) -> None:
    assert said(expr, KnownStore(None)) == [told]


@pytest.mark.parametrize(
    ("expr", "missing"),
    [
        ("node_load1 > 1", []),
        ("a / b > 1", ["a", "b"]),
        ("a or node_load1", []),
        ("a or b", ["a", "b"]),
        ("absent(a)", []),
        ("node_load1 unless a", []),
        ("a unless node_load1", ["a"]),
        ("sum(rate(a[5m])) > 1", ["a"]),
        ("max_over_time(a[1h:1m]) > 1", ["a"]),
        ('ALERTS{alertname="X"}', ["ALERTS"]),
    ],
)
def test_without_which_selectors_there_is_no_result(expr: str, missing: list[str]) -> None:
    found = missing_selectors(parse_expr(expr), lambda selector, _: selector.name in SERIES)
    assert [selector.name for selector in found] == missing


def test_how_far_back_each_selector_reads() -> None:
    asked: list[tuple[str, int]] = []

    def touched(selector: VectorSelector, reach_ms: int) -> bool:
        asked.append((selector.name, reach_ms // 60_000))
        return True

    missing_selectors(parse_expr("a + rate(b[1h] offset 1h) + max_over_time(c[2h:1m])"), touched)
    assert asked == [("a", 5), ("b", 120), ("c", 125)]


def test_what_rules_record_and_alerts_may_be_there_later() -> None:
    assert said("job:rate > 1 and ALERTS", KnownStore(None), "job:rate") == []


def test_a_threshold_far_above_all_that_was_seen() -> None:
    store = KnownStore(0.9)
    (told,) = said("sum(node_load1) > 80", store)
    assert told.endswith(
        "the threshold 80 was never reached: the highest value here is 0.9; correct it, or its unit"
        " (never-reached)"
    )
    assert store.asked == ["sum(node_load1)"]
    assert said("node_load1 > 8", KnownStore(0.9)) == []
    assert said("node_load1 > 80", KnownStore(0)) == []  # nothing happened: that is well
    assert said("node_load1 < 80", KnownStore(0.9)) == []
    assert said("zzz > 80", store)[0].endswith("(matches-nothing)")
