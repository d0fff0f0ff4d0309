"""What an engine lacks after it was away; real ones are in test_agent_elsewhere.py."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from support.alert_events import alert
from support.rule_texts import MINUTE, alerting
from tocsin_alerting.incidents.journal.serialize import instance_from, instance_json
from tocsin_alerting.loops.remote_engine import RemoteEngine
from tocsin_alerting.loops.remote_gaps import RemoteGaps, lost_ms
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.result import InstantVector, Result
from tocsin_alerting.rules.alert import AlertState
from tocsin_alerting.rules.instance_journal import EngineGap
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_alerting.rules.state import RuleState
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.threads import Threads

HOUR = 60 * MINUTE
FIRES = alert("A", at_ms=0)


class Engine(RemoteEngine):
    """One that was away in `outages` (minutes); so many parts of each have samples."""

    def __init__(self, *outages: tuple[float, float], parts: float = 0) -> None:
        super().__init__(EngineAccess.of("http://e"), 1, lambda: 0.0, Threads(1, "x"), _nobody)
        self.state.outages = deque((60 * since, 60 * until) for since, until in outages)
        self.state.first, self.parts = 0.0, parts
        self.asked = list[tuple[str, int]]()

    async def instant(self, query: str | Expr, at_ms: int) -> Result:
        self.asked.append((str(query), at_ms))
        return Result(InstantVector(at_ms, ((),), np.array([self.parts])))


async def _nobody(error: str) -> None:
    """Hears it."""


async def held(engine: Engine, expr: str, minute: float, **fields: object) -> bool:
    """Whether an alert that is missing at that minute stays."""
    progress = RuleState("f", "g", alerting(expr), {FIRES.fingerprint: FIRES}, **fields)  # type: ignore[arg-type]
    gaps = RemoteGaps(engine, lambda: 0, lambda: 0.0)
    return bool(await gaps.unproven(progress, (), round(minute * MINUTE)))


@pytest.mark.parametrize(
    ("minute", "stays"), [(32, True), (36, True), (60, True), (83, True), (85, False)]
)
async def test_a_range_that_lacks_more_than_a_tenth_shows_no_end(minute: int, stays: bool) -> None:
    """Of 60 minutes 30 are missing, until those have left it but for 6."""
    assert await held(Engine((0, 30)), "increase(m[1h]) > 5", minute) is stays


async def test_a_short_outage_and_one_whose_samples_are_there_cost_a_long_range_nothing() -> None:
    long = "increase(m[1h]) > 5"
    assert await held(Engine((0, 5)), long, 9)
    assert not await held(Engine((0, 5)), long, 11)
    engine = Engine((0, 30), parts=4)
    assert not await held(engine, long, 36)
    assert engine.asked == [
        ("count_over_time(count(count_over_time(m[450000ms]))[1800000ms:450000ms])", 30 * MINUTE)
    ]
    assert await held(Engine((0, 30), parts=3), long, 36), "a quarter of it is empty"
    assert not await held(Engine((0, 30)), "m > 5", 36), "a moment reads no outage"


async def test_several_outages_count_together_and_each_time_once() -> None:
    assert await held(Engine((0, 4), (10, 14)), "increase(m[1h]) > 5", 20)
    assert not await held(Engine((0, 4)), "increase(m[1h]) > 5", 20)
    both = [EngineGap(10, 30), EngineGap(20, 40), EngineGap(25, 28), EngineGap(90)]
    assert lost_ms(both, 0, 100) == 40
    assert lost_ms(both, 35, 95) == 10


async def test_an_offset_meets_the_outage_later() -> None:
    rule = "increase(m[10m] offset 1h) > 5"
    assert not await held(Engine((0, 30)), rule, 40)
    assert await held(Engine((0, 30)), rule, 75)


async def test_an_outage_in_which_the_last_run_ended_lasts_until_the_first_answer() -> None:
    gap = EngineGap(-20 * MINUTE)
    assert await held(Engine(), "increase(m[1h]) > 5", 10, gaps=(gap,))
    assert not await held(Engine(), "increase(m[1h]) > 5", 60, gaps=(gap,))


def test_rows_keep_the_outage_and_that_an_alert_was_watched_over_meanwhile() -> None:
    waits = replace(alert("B"), state=AlertState.PENDING, fired_at_ms=None)
    alerts: Mapping[str, object] = {one.fingerprint: one for one in (FIRES, waits)}
    progress = RuleState("f", "g", alerting(), alerts, last_success_ms=1000)  # type: ignore[arg-type]
    progress.fail(EngineUnreachable("no"), 2000)
    progress.evaluated_ms = 9000
    progress.fail(EngineUnreachable("no"), 9000)
    fired, waiting = progress.instance_rows()
    assert (fired.seen_ms, waiting.seen_ms) == (1000, 9000)
    assert fired.gaps == waiting.gaps == (EngineGap(1000),)
    assert instance_from("f", "g", fired.rule, fired.seen_ms, instance_json(fired)) == fired
    assert waiting.shifted(5).gaps == (EngineGap(1005),)
    progress.succeed()
    assert progress.instance_rows()[1].seen_ms == 1000
