"""Samples of the past for a backtest: from the agent's store, or from a Prometheus, by its API."""

import json
import re
from collections.abc import Callable, Iterator, Sequence

from tocsin_alerting.backtest.history import InputSeries
from tocsin_alerting.backtest.report import LabelledIncident
from tocsin_alerting.backtest.rule_order import gives
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.incidents.statistics import ENDS
from tocsin_alerting.promql.parser.ast import VectorSelector, selectors
from tocsin_alerting.rules.rule import Rule, RuleGroup
from tocsin_alerting.strconv import quote
from tocsin_exporter.snapshot import Labels, sorted_labels

_LEGACY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SAMPLES = 400_000  # asked for at once: some 10 MB of JSON
_LONGEST_MS, _SHORTEST_MS = 6 * 3_600_000, 60_000
_USUAL_SCRAPE_MS = 5_000


def fetched(
    agent: AgentClient,
    groups: Sequence[RuleGroup],
    window: tuple[int, int],
    progress: Callable[[int], None],
) -> InputSeries:
    """All samples between two times (Unix ms) of the series that the rules select, but for those
    that they give themselves. `progress` hears how many selectors are done."""
    series: dict[Labels, tuple[list[int], list[float]]] = {}
    for number, selector in enumerate(asked_selectors(groups), 1):
        for start_ms, end_ms in _pieces(agent, selector, window):
            _fetch(agent, f"{selector}[{end_ms - start_ms}ms]", end_ms, series)
        progress(number)
    return series


def asked_selectors(groups: Sequence[RuleGroup]) -> list[str]:
    """As PromQL, each once."""
    rules = tuple(rule for group in groups for rule in group.rules)
    asked = dict.fromkeys(
        text
        for rule in rules
        for selector in selectors(rule.query)
        if not _all_recorded(selector, rules)
        for text in _texts(selector)
    )
    return list(asked)


def _all_recorded(selector: VectorSelector, rules: Sequence[Rule]) -> bool:
    return bool(selector.name) and any(
        rule.name == selector.name and gives(rule, selector) for rule in rules
    )


def _texts(selector: VectorSelector) -> Iterator[str]:
    for matchers in selector.matcher_sets:
        inside = ", ".join(
            f"{m.name if _LEGACY.fullmatch(m.name) else quote(m.name)}{m.op}{quote(m.value)}"
            for m in matchers
        )
        yield f"{{{inside}}}"


def _pieces(
    agent: AgentClient, selector: str, window: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Times short enough to be asked for at once: by how many series there are."""
    start_ms, end_ms = window
    span = max(end_ms - start_ms, 1)
    parameters = {"query": f"count(last_over_time({selector}[{span}ms]))", "time": _seconds(end_ms)}
    with agent.get("/api/v1/query", parameters) as data:
        count = int(data["result"][0]["value"][1]) if data["result"] else 0
    if not count:
        return
    size = _SAMPLES * _USUAL_SCRAPE_MS // count
    size = min(max(size, _SHORTEST_MS), _LONGEST_MS)
    while start_ms < end_ms:
        stop_ms = min(start_ms + size, end_ms)
        yield start_ms, stop_ms
        start_ms = stop_ms


def _fetch(
    agent: AgentClient,
    query: str,
    at_ms: int,
    series: dict[Labels, tuple[list[int], list[float]]],
) -> None:
    with agent.get("/api/v1/query", {"query": query, "time": _seconds(at_ms)}) as data:
        for one in data["result"]:
            times, values = series.setdefault(sorted_labels(one["metric"]), ([], []))
            for at, value in one["values"]:
                times.append(round(at * 1000))
                values.append(float(value))


def false_alarms(agent: AgentClient, window: tuple[int, int]) -> tuple[LabelledIncident, ...]:
    """The incidents that people closed as false alarms; none where no agent is asked but a
    Prometheus."""
    asked = {"since": _seconds(window[0]), "until": _seconds(window[1]), "event": [*ENDS]}
    status, text = agent.ask("GET", "/api/v1/log", params={**asked, "limit": "1000"})
    if status != 200:
        return ()
    with agent.understood():
        entries = json.loads(text)["data"]["entries"]
    numbers = {e["incident"] for e in entries if e["data"].get("false_positive") is True}
    return tuple(_labelled(agent, number, window[1]) for number in sorted(numbers))


def _labelled(agent: AgentClient, number: int, end_ms: int) -> LabelledIncident:
    with agent.get(f"/api/v1/incidents/{number}") as data:
        started_ms, ended_ms = data["opened_at_ms"], data["resolved_at_ms"] or end_ms
        return LabelledIncident(
            started_ms, ended_ms, data["labels"].get("alertname", ""), real=False
        )


def _seconds(at_ms: int) -> str:
    return f"{at_ms / 1000:.3f}"
