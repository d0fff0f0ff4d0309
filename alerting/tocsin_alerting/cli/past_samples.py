"""Samples of the past for a backtest: from the agent's store, or from a Prometheus, by its API."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tocsin_alerting.backtest.history import InputSeries
from tocsin_alerting.backtest.report import LabelledIncident
from tocsin_alerting.backtest.rule_order import gives
from tocsin_alerting.cli.client import AgentClient, fail
from tocsin_alerting.incidents.statistics import ENDS
from tocsin_alerting.promql.parser.ast import VectorSelector, selectors
from tocsin_alerting.remote_read.asking import HEADERS, read_answer, write_request
from tocsin_alerting.remote_write.prompb import Malformed
from tocsin_alerting.rules.rule import Rule, RuleGroup
from tocsin_alerting.strconv import quote
from tocsin_alerting.tsdb.matchers import Matcher
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels, sorted_labels

_LEGACY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
Matchers = tuple[Matcher, ...]
_SAMPLES = 400_000  # asked for at once: some 10 MB of JSON
_MOST_BYTES = 64 << 20  # of an answer of remote read
_TOO_MUCH = (400, 413, 422, 500, 503)  # with which they say that an answer would be too long
_LONGEST_MS, _SHORTEST_MS = 6 * 3_600_000, 60_000
_USUAL_SCRAPE_MS = 5_000


def fetched(
    agent: AgentClient,
    groups: Sequence[RuleGroup],
    window: tuple[int, int],
    progress: Callable[[int], None],
) -> InputSeries:
    """All samples between two times (Unix ms) of the series that the rules select, but for those
    that they give themselves. `progress` hears how many selectors are done.

    By remote read, which tells of stale markers as well; by queries where nobody answers that.
    """
    found = _Fetched(agent)
    for number, matchers in enumerate(asked_selectors(groups), 1):
        for start_ms, end_ms in _pieces(agent, _text(matchers), window):
            found.fetch(matchers, start_ms, end_ms)
        progress(number)
    return found.series()


def asked_selectors(groups: Sequence[RuleGroup]) -> list[Matchers]:
    """Each once, and none of which another one has all series."""
    rules = tuple(rule for group in groups for rule in group.rules)
    asked = dict.fromkeys(
        matchers
        for rule in rules
        for selector in selectors(rule.query)
        if not _all_recorded(selector, rules)
        for matchers in selector.matcher_sets
    )
    known = [frozenset(matchers) for matchers in asked]
    return [one for one in asked if not any(other < frozenset(one) for other in known)]


def _all_recorded(selector: VectorSelector, rules: Sequence[Rule]) -> bool:
    return bool(selector.name) and any(
        rule.name == selector.name and gives(rule, selector) for rule in rules
    )


def _text(matchers: Matchers) -> str:
    inside = ", ".join(
        f"{m.name if _LEGACY.fullmatch(m.name) else quote(m.name)}{m.op}{quote(m.value)}"
        for m in matchers
    )
    return f"{{{inside}}}"


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


class _Fetched:
    """What was fetched so far; `by_read` is whether remote read is answered."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent, self.by_read = agent, True
        self._pieces: dict[Labels, list[tuple[Ints, Floats]]] = {}

    def fetch(self, matchers: Matchers, start_ms: int, end_ms: int) -> None:
        """Later than the start, up to the end."""
        if self.by_read and not self._read(matchers, start_ms + 1, end_ms):
            self.by_read = False
            print(
                "warning: no remote read (/api/v1/read) there, so samples come by queries, which"
                " tell of no stale marker: a series that ends is seen for 5 minutes more",
                file=sys.stderr,
            )
        if not self.by_read:
            self._query(f"{_text(matchers)}[{end_ms - start_ms}ms]", end_ms)

    def _read(self, matchers: Matchers, start_ms: int, end_ms: int) -> bool:
        """By halves where an answer is too long; False where nobody speaks remote read."""
        request = write_request((matchers,), start_ms, end_ms)
        status, body = self._agent.ask_bytes("/api/v1/read", request, HEADERS, _MOST_BYTES)
        if status == 200:
            try:
                for labels, times, values in read_answer(body, 4 * _MOST_BYTES):
                    self._pieces.setdefault(labels, []).append((times, values))
                return True
            except Malformed:
                return False
        if status in _TOO_MUCH and end_ms - start_ms > _SHORTEST_MS:
            middle = (start_ms + end_ms) // 2
            return self._read(matchers, start_ms, middle) and self._read(
                matchers, middle + 1, end_ms
            )
        if status in (401, 403):
            fail(f"remote read was refused with HTTP {status}; give --token-file or --username")
        return False

    def _query(self, query: str, at_ms: int) -> None:
        with self._agent.get("/api/v1/query", {"query": query, "time": _seconds(at_ms)}) as data:
            for one in data["result"]:
                pairs = np.array(one["values"], np.float64).reshape(-1, 2)
                times = np.rint(pairs[:, 0] * 1000).astype(np.int64)
                labels = sorted_labels(one["metric"])
                self._pieces.setdefault(labels, []).append((times, pairs[:, 1].copy()))

    def series(self) -> InputSeries:
        """Of samples that were fetched twice the store behind keeps one."""
        return {
            labels: (
                np.concatenate([times for times, _ in pieces]),
                np.concatenate([values for _, values in pieces]),
            )
            for labels, pieces in self._pieces.items()
        }


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
