"""What a message says beside the alert: its value and threshold, five numbers from when it fired,
and a chart. They are read from the store just before a message goes out, at the time of firing, so
that a restart loses none; one that does not come in time is left out, and the message goes.
"""

import asyncio
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from tocsin_alerting.api.tocsin.answer_chart import HourOfValues, hour_of_values
from tocsin_alerting.api.tocsin.why import rule_of
from tocsin_alerting.incidents.incident import Incident, Reason
from tocsin_alerting.incidents.notification import Evidence, Notification, NotifiedAlert
from tocsin_alerting.loops.chart_png import chart_png
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget, QueryError
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.result import InstantVector, ScalarValue
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.rules.threshold import comparison, unit
from tocsin_alerting.units import with_unit
from tocsin_exporter.threads import in_thread

log = logging.getLogger(__name__)

SECONDS = 0.5  # for all of it; then the message goes without
MOST_NUMBERS = 5
_MOST_WAITING = 4  # messages that wait at once; the others go without
_MOST_KEPT = 256
_MOST_SAMPLES = 1_000_000
_AFTER_MS = 1_800_000  # of the chart, beyond the firing
_MOST_CHARACTERS = 2000
_NOT_ABOUT_ONE = frozenset({Reason.TEST, Reason.DIGEST})
_NAMED = re.compile(r"([^\s{}()\"'\[\]:][^{}()\"'\[\]:]{0,39}): (.+)")
_OPERATORS = frozenset((">", ">=", "<", "<="))

_ENGINE = (
    ("ttft_p95", "histogram_quantile(0.95, sum by (le) (rate("
     "llm_time_to_first_token_seconds_bucket{%s}[5m])))", "seconds"),
    ("queue", "sum(llm_num_requests_waiting{%s})", "number"),
    ("kv_cache", "max(llm_kv_cache_usage_ratio{%s})", "ratio"),
    ("tokens", "sum(rate(llm_generation_tokens_total{%s}[1m]))", "tokens/s"),
    ("errors", "sum(rate(llm_requests_total{%s, status=~\"error|timeout|rejected\"}[5m]))"
     " / sum(rate(llm_requests_total{%s}[5m]))", "ratio"),
)  # fmt: skip
_GPU = (
    ("gpu_busy", "max(DCGM_FI_DEV_GPU_UTIL{%s})", "percent"),
    ("gpu_memory", "max(DCGM_FI_DEV_FB_USED{%s} / (DCGM_FI_DEV_FB_USED{%s}"
     " + DCGM_FI_DEV_FB_FREE{%s}))", "ratio"),
    ("gpu_heat", "max(DCGM_FI_DEV_GPU_TEMP{%s})", "celsius"),
    ("gpu_power", "max(DCGM_FI_DEV_POWER_USAGE{%s})", "watts"),
    ("gpu_xid", "max(DCGM_FI_DEV_XID_ERRORS{%s})", "number"),
)  # fmt: skip
_HOST = (
    ("cpu", "1 - avg(rate(node_cpu_seconds_total{mode=\"idle\", %s}[5m]))", "ratio"),
    ("memory", "1 - max(node_memory_MemAvailable_bytes{%s} / node_memory_MemTotal_bytes{%s})",
     "ratio"),
    ("disk", "1 - min(node_filesystem_avail_bytes{fstype!~\"tmpfs|ramfs|overlay|squashfs|iso9660\","
     " %s} / node_filesystem_size_bytes{fstype!~\"tmpfs|ramfs|overlay|squashfs|iso9660\", %s})",
     "ratio"),
    ("load", "max(node_load1{%s})", "number"),
    ("network", "sum(rate(node_network_receive_bytes_total{device!=\"lo\", %s}[5m]))"
     " + sum(rate(node_network_transmit_bytes_total{device!=\"lo\", %s}[5m]))", "bytes/s"),
)  # fmt: skip
Asked = tuple[str, str, str]
"""What a number is called (a key of the words of messages, or what a rule's author wrote), its
query, and its unit, "" for what the query says."""


def asked(alert: NotifiedAlert) -> Iterator[Asked]:
    """The numbers to look for, the most telling first: those that the rule names in its annotation
    `evidence`, a query a line; else what its kind reads, and the machine's where those say nothing.
    """
    own = alert.annotations.get("evidence", "")[:_MOST_CHARACTERS]
    lines = [line.strip().removeprefix("- ") for line in own.splitlines() if line.strip()]
    for line in lines[:MOST_NUMBERS]:
        named = _NAMED.fullmatch(line)
        yield (named[1].strip(), named[2].strip(), "") if named else (line, line, "")
    if lines:
        return
    labels = alert.labels
    machine = _matchers(labels, ("instance",))
    if "target" in labels:
        yield from _about(_ENGINE, _matchers(labels, ("instance", "target", "model_name")))
        yield from _about(_GPU[:4], machine)
    elif "gpu" in labels or "UUID" in labels:
        one = ("instance", "UUID") if "UUID" in labels else ("instance", "gpu")
        yield from _about(_GPU, _matchers(labels, one))
    if "instance" in labels:
        yield from _about(_HOST, machine)


def _about(queries: Sequence[Asked], matchers: str) -> Iterator[Asked]:
    for name, query, its_unit in queries:
        yield name, query.replace("%s", matchers), its_unit


def _matchers(labels: Mapping[str, str], names: Sequence[str]) -> str:
    quoted = ((name, labels[name].replace("\\", r"\\").replace('"', r"\"")) for name in names
              if labels.get(name))  # fmt: skip
    return ", ".join('{}="{}"'.format(name, value.replace("\n", r"\n")) for name, value in quoted)


@dataclass(frozen=True, slots=True)
class _Question:
    """`at_ms` is when the alert fired; the chart ends at `until_ms`."""

    alert: NotifiedAlert
    rule: AlertingRule | None
    at_ms: int
    until_ms: int


class EvidenceReader:
    """Evaluates in `threads`, which must be one; `monotonic` gives seconds. `incident` gives one by
    its number, None for what is over and gone."""

    def __init__(
        self,
        engine: QueryEngine,
        incident: Callable[[int], Incident | None],
        groups: Callable[[], Sequence[GroupState]],
        threads: Executor,
        monotonic: Callable[[], float],
        seconds: float = SECONDS,
    ) -> None:
        self._engine, self._incident, self._groups = engine, incident, groups
        self._threads, self._monotonic, self._seconds = threads, monotonic, seconds
        self._asked: OrderedDict[tuple[str, int, int], asyncio.Future[Evidence]] = OrderedDict()
        self._waiting = 0

    async def with_evidence(self, notification: Notification) -> Notification:
        """The message with what was found in time; never raises, and never takes longer than it
        may: the page matters more."""
        if (
            notification.reason in _NOT_ABOUT_ONE
            or notification.drill
            or notification.counts
            or not notification.alerts
        ):
            return notification
        try:
            question = self._question(notification)
            evidence = await self._found(question)
            if evidence is None:
                evidence = self._of_rule(question)
        except Exception as error:  # our own fault, in what only adorns a page, must not hold it
            log.error("evidence of an incident failed: %s", type(error).__name__)
            return notification
        return replace(notification, evidence=evidence)

    def _question(self, notification: Notification) -> _Question:
        alert = notification.alerts[0]
        until_ms = min(notification.at_ms, alert.ends_at_ms or notification.at_ms)
        if alert.ends_at_ms is None:
            until_ms = min(until_ms, alert.starts_at_ms + _AFTER_MS)
        return _Question(alert, self._rule(notification.incident, alert), alert.starts_at_ms,
                         max(until_ms, alert.starts_at_ms))  # fmt: skip

    def _rule(self, number: int, alert: NotifiedAlert) -> AlertingRule | None:
        """None for what others evaluate: their threshold may be another one."""
        incident = self._incident(number)
        for member in incident.members.values() if incident else ():
            if member.alert.fingerprint == alert.fingerprint:
                found = rule_of(member, self._groups())
                return found[1] if found else None
        return None

    async def _found(self, question: _Question) -> Evidence | None:
        alert = question.alert
        key = (alert.fingerprint, question.at_ms, question.until_ms)
        work = self._asked.get(key)
        if work is None:
            if self._waiting >= _MOST_WAITING:
                return None
            work = self._begin(key, question)
        done, _ = await asyncio.wait([work], timeout=self._seconds)
        return work.result() if done and work.exception() is None else None

    def _begin(self, key: tuple[str, int, int], question: _Question) -> "asyncio.Future[Evidence]":
        """Several receivers of one message ask once."""
        deadline = self._monotonic() + self._seconds
        budget = Budget(_MOST_SAMPLES, expired=lambda: self._monotonic() > deadline)
        self._waiting += 1
        work = asyncio.ensure_future(in_thread(lambda: self._read(question, budget), self._threads))
        work.add_done_callback(self._done)
        self._asked[key] = work
        if len(self._asked) > _MOST_KEPT:
            self._asked.popitem(last=False)
        return work

    def _done(self, work: "asyncio.Future[Evidence]") -> None:
        self._waiting -= 1
        if not work.cancelled() and work.exception() is not None:
            log.info("evidence of an incident failed: %s", work.exception())

    def _read(self, question: _Question, budget: Budget) -> Evidence:
        evidence = replace(self._of_rule(question), numbers=tuple(self._numbers(question, budget)))
        if question.rule is None:
            return evidence
        try:
            labels = question.alert.labels
            hour = hour_of_values(self._engine, question.rule, labels, question.until_ms, budget)
        except QueryError as error:
            log.info("chart of an incident failed: %s", error)
            return evidence
        return _with_chart(evidence, question, question.rule, hour)

    def _of_rule(self, question: _Question) -> Evidence:
        """What needs no store: the value that the alert has, and what its rule compares it with."""
        if question.rule is None:
            return Evidence()
        compared = comparison(question.rule.query)
        limit, its_unit = compared.limit, unit(compared.measured)
        if compared.op not in _OPERATORS or its_unit == "moment":
            return Evidence()
        value = with_unit(question.alert.value, its_unit)
        if not isinstance(limit, float | int):  # another query
            return Evidence(value)
        return Evidence(value, f"{compared.op} {with_unit(limit, its_unit)}")

    def _numbers(self, question: _Question, budget: Budget) -> Iterator[tuple[str, str]]:
        found = 0
        for name, query, its_unit in asked(question.alert):
            value = self._number(query, question.at_ms, budget)
            if value is not None:
                found += 1
                yield name, with_unit(value, its_unit or unit(parse(query)))
            if found == MOST_NUMBERS:
                return

    def _number(self, query: str, at_ms: int, budget: Budget) -> float | None:
        """The highest of several; None where there is none, or the query is no query."""
        try:
            answer = self._engine.evaluate(query, at_ms, budget).value
        except ValueError as error:
            log.info("evidence of an incident failed: %s", error)
            return None
        match answer:
            case ScalarValue(value=value):
                values = [value]
            case InstantVector():
                values = answer.values.tolist()
            case _:
                values = []
        return max((value for value in values if math.isfinite(value)), default=None)


def _with_chart(
    evidence: Evidence, question: _Question, rule: AlertingRule, hour: HourOfValues
) -> Evidence:
    values = [value for line in hour.lines for _, value in line if math.isfinite(value)]
    its_unit = unit(comparison(rule.query).measured)
    if len(values) < 2 or its_unit == "moment":
        return evidence
    return replace(
        evidence,
        chart=chart_png(hour, question.at_ms),
        chart_from_ms=hour.start_ms,
        chart_until_ms=hour.end_ms,
        lowest=with_unit(min(values), its_unit),
        highest=with_unit(max(values), its_unit),
    )
