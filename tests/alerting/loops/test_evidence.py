"""What the store says beside an alert: which numbers, of when, and that no page waits for it."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from support import rule_texts
from support.alert_events import alert, fires, origin
from support.api_client import api_client
from support.dispatcher_setup import Floor
from support.notifications import notification
from support.policies import config
from support.scattered import ScatteredReader
from support.state_machine import Bench
from tocsin_alerting.api.tocsin import incidents
from tocsin_alerting.incidents.incident import Incident, Reason
from tocsin_alerting.incidents.notification import Evidence, Notification, NotifiedAlert
from tocsin_alerting.loops.evidence import EvidenceReader, asked
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_exporter.snapshot import Labels, labels
from tocsin_exporter.threads import Threads

FIRED = 3_600_000
TIMES = range(0, 2 * FIRED, 15_000)


def series(value: float, **names: str) -> tuple[Labels, list[tuple[int, float]]]:
    """It is `value` until the alert fires and ten times that afterwards."""
    return labels(**names), [(at, value if at <= FIRED else 10 * value) for at in TIMES]


NAMES = {"target": 'gpu-1:80"00', "instance": "gpu-1"}
READER = ScatteredReader(
    dict(
        [
            series(14.0, __name__="llm_num_requests_waiting", **NAMES),
            series(99.0, __name__="llm_num_requests_waiting", target="other", instance="gpu-1"),
            series(0.97, __name__="llm_kv_cache_usage_ratio", **NAMES),
            series(8.5, __name__="node_load1", instance="gpu-1"),
            series(83.0, __name__="DCGM_FI_DEV_GPU_TEMP", instance="gpu-1", gpu="0"),
            series(91.0, __name__="DCGM_FI_DEV_GPU_TEMP", instance="gpu-1", gpu="1"),
            series(99.0, __name__="DCGM_FI_DEV_GPU_TEMP", instance="gpu-2", gpu="1"),
        ]
    )
)


class Counted(Threads):
    count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return super().submit(fn, *args, **kwargs)


def told(
    annotations: Mapping[str, str] | None = None, about: Mapping[str, str] | None = None
) -> NotifiedAlert:
    one = alert("Slow", "P0", 0, **(about or NAMES))
    return NotifiedAlert("firing", dict(one.labels), annotations or {}, FIRED, None, 0.97,
                         one.fingerprint)  # fmt: skip


def page(one: NotifiedAlert, **changes: Any) -> Notification:
    return notification(alerts=(one,), opened_at_ms=FIRED, at_ms=FIRED + 2_000, **changes)


def reader(
    rule: AlertingRule | None = None,
    threads: Threads | None = None,
    file: str = "test.yml",
    seconds: float = 30.0,
    about: Mapping[str, str] | None = None,
) -> EvidenceReader:
    bench = Bench(config(), alert("Slow", "P0", 0, **(about or NAMES)))
    uid = "test/Slow/0"
    groups = []
    if rule is not None:
        group = rule_texts.group(replace(rule, uid=uid), file=file)
        groups = [GroupState(group, 5_000, [RuleState(file, "g", group.rules[0])], 0)]
    open_now: dict[int, Incident] = {42: bench.incident}
    pool = threads or Threads(1, "evidence")
    return EvidenceReader(
        QueryEngine(READER), open_now.get, lambda: groups, pool, lambda: 0.0, seconds
    )


async def found(reading: EvidenceReader, asked_for: Notification) -> Evidence:
    evidence = (await reading.with_evidence(asked_for)).evidence
    assert evidence is not None
    return evidence


async def test_an_engine_is_told_by_its_own_numbers_of_when_it_fired_and_its_machines() -> None:
    late = page(told(), reason=Reason.REPEAT)
    late = replace(late, at_ms=2 * FIRED - 15_000)  # an hour later everything is ten times that
    assert (await found(reader(), late)).numbers == (
        ("queue", "14"),
        ("kv_cache", "97%"),
        ("gpu_heat", "91 °C"),
        ("load", "8.5"),
    )


async def test_the_api_gives_what_the_first_message_said_and_asks_once() -> None:
    floor = Floor(config())
    floor.now = FIRED
    await floor.open()
    await floor.hear(fires(alert("Slow", "P0", FIRED, **NAMES), FIRED), fires(alert("Other", "P3")))
    threads = Counted(1, "evidence")
    enrich = reader(threads=threads).with_evidence
    async with api_client(incidents.routes(floor.dispatcher, "", enrich)) as api:
        answers = [(await api.get("/api/v1/incidents/1")).json()["data"] for _ in range(3)]
        listed = (await api.get("/api/v1/incidents")).json()["data"]["incidents"]
    for answer in answers:
        assert answer["evidence"]["numbers"] == [
            {"name": "queue", "value": "14"},
            {"name": "kv_cache", "value": "97%"},
            {"name": "gpu_heat", "value": "91 °C"},
            {"name": "load", "value": "8.5"},
        ]
    assert threads.count == 1 and "evidence" not in listed[0]


async def test_a_gpu_is_told_by_itself() -> None:
    own = {"gpu": "0", "instance": "gpu-1"}
    numbers = (await found(reader(about=own), page(told(about=own)))).numbers
    assert numbers == (("gpu_heat", "83 °C"), ("load", "8.5"))


async def test_a_rule_says_itself_which_numbers_tell_most() -> None:
    queries = """
    - Waiting: sum(llm_num_requests_waiting)
    max(llm_kv_cache_usage_ratio)
    Broken: sum(
    Nothing: nothing_of_this_name
    1 + 1
    Too many: 7
    """
    own = told({"evidence": queries})
    numbers = (await found(reader(), page(own))).numbers
    assert numbers == (
        ("Waiting", "113"),
        ("max(llm_kv_cache_usage_ratio)", "97%"),
        ("1 + 1", "2"),
    )


def test_a_recorded_name_is_no_title() -> None:
    own = told({"evidence": 'job:r:rate5m{a="x: y"}\nsum by (a) (b)'})
    assert [name for name, _, _ in asked(own)] == ['job:r:rate5m{a="x: y"}', "sum by (a) (b)"]


async def test_value_and_threshold_are_those_of_the_rule_that_says_so() -> None:
    rule = rule_texts.alerting("llm_kv_cache_usage_ratio > 0.85")
    evidence = await found(reader(rule), page(told()))
    assert (evidence.value, evidence.limit) == ("97%", "> 85%")
    assert evidence.chart.startswith(b"\x89PNG") and evidence.chart_until_ms == FIRED + 2_000
    assert (evidence.lowest, evidence.highest) == ("97%", "97%")
    down = await found(reader(rule_texts.alerting("up == 0")), page(told()))
    assert (down.value, down.limit) == ("", "")
    others = reader(rule, file="another.yml")  # a rule of that name of somebody else
    evidence = await found(others, page(told()))
    assert origin(alert("Slow")) == "rules;test.yml;test/Slow/0"
    assert (evidence.value, evidence.limit, evidence.chart) == ("", "", b"")


async def test_the_chart_of_what_is_over_ends_with_it() -> None:
    rule = rule_texts.alerting("llm_kv_cache_usage_ratio > 0.85")
    over = replace(told(), status="resolved", ends_at_ms=FIRED + 600_000)
    evidence = await found(reader(rule), replace(page(over), at_ms=2 * FIRED))
    assert evidence.chart_until_ms == FIRED + 600_000 and evidence.highest == "970%"
    long = replace(page(told()), at_ms=90 * FIRED)
    assert (await found(reader(rule), long)).chart_until_ms == FIRED + FIRED // 2


async def test_no_page_waits_for_a_store_that_hangs_and_the_rule_is_told_all_the_same() -> None:
    threads, hangs = Counted(1, "evidence"), threading.Event()
    threads.submit(hangs.wait)
    rule = rule_texts.alerting("llm_kv_cache_usage_ratio > 0.85")
    slow = reader(rule, threads, seconds=0.01)
    for number in range(10):
        late = replace(page(told()), at_ms=FIRED + number)
        assert await found(slow, late) == Evidence("97%", "> 85%")
    assert threads.count == 1 + 4  # whoever asks again and again leaves no pile
    hangs.set()


async def test_what_several_receivers_get_is_asked_once_and_a_test_asks_nothing() -> None:
    threads = Counted(1, "evidence")
    reading = reader(threads=threads)
    first = await found(reading, page(told(), receiver="a"))
    assert first == await found(reading, page(told(), receiver="b"))
    assert threads.count == 1
    calm = page(told())
    for asked_for in (
        replace(calm, reason=Reason.TEST),
        replace(calm, drill=True),
        replace(calm, reason=Reason.DIGEST),
    ):
        assert await reading.with_evidence(asked_for) is asked_for
    assert threads.count == 1


@pytest.mark.parametrize("broken", ["groups", "threads"])
async def test_a_fault_of_ours_leaves_the_message_as_it_is(broken: str) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("a fault")

    threads = Threads(1, "evidence")
    threads.close()
    reading = EvidenceReader(QueryEngine(READER), fails, fails, threads, lambda: 0.0)
    sent = page(told())
    assert await reading.with_evidence(sent) is sent
    assert broken


def test_it_is_not_kept() -> None:
    sent = page(told(), evidence=Evidence("97%"))
    kept = sent.to_json()
    assert "evidence" not in kept and Notification.from_json(kept) == replace(sent, evidence=None)
