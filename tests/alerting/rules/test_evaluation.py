"""One rule at a time: what it writes, what it tells when it fails, and when it may run at all."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from support.rule_deps import SetSources, Written, surroundings
from support.rule_texts import MINUTE, alerting, group, recording
from support.scripted_engine import Rows, ScriptedEngine, row
from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.result import Result
from tocsin_alerting.rules.alert import AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.evaluation import EvaluationDeps, evaluate_rule
from tocsin_alerting.rules.instant_query import InstantQuerier
from tocsin_alerting.rules.rule import Rule
from tocsin_alerting.rules.state import RuleHealth, RuleState
from tocsin_alerting.rules.template_data import TEXT_WAIT_SECONDS
from tocsin_alerting.rules.unknown_alerts import SourceStatus
from tocsin_exporter.slices import Work
from tocsin_exporter.snapshot import Labels, Source

ENGINE = Source("llm", "e:1")
HOUR = 3_600_000


def progress_of(rule: Rule) -> RuleState:
    return RuleState("f.yml", "g", rule)


def by_time(*answers: Rows | Exception) -> Any:
    """The answers of minute 0, 1, …"""

    def answer(t_ms: int) -> Rows:
        result = answers[t_ms // MINUTE]
        if isinstance(result, Exception):
            raise result
        return result

    return answer


async def run(
    progress: RuleState, deps: EvaluationDeps, *minutes: int, **fields: Any
) -> list[AlertEvent]:
    events: list[AlertEvent] = []
    for minute in minutes:
        owner = group(progress.rule, **fields)
        events += await evaluate_rule(progress, owner, minute * MINUTE, deps)
    return events


def kinds(events: list[AlertEvent]) -> list[EventKind]:
    return [event.kind for event in events]


UP = [row(1.0, __name__="m", instance="e:1")]


async def test_what_fires_is_written_and_what_no_longer_does_goes_stale() -> None:
    deps = surroundings({"m > 0": by_time(UP, UP, [])})
    written = deps.write
    assert isinstance(written, Written)
    progress = progress_of(alerting(for_ms=MINUTE))
    shown = []
    for minute in (0, 1, 2):
        await run(progress, deps, minute)
        shown.append(sorted(dict(labels).get("alertstate", "") for labels in written.now()))
    assert shown == [["", "pending"], ["", "firing"], []]


async def test_a_rule_that_never_said_anything_leaves_no_trace() -> None:
    deps = surroundings({"m > 0": by_time([], [])})
    await run(progress_of(alerting()), deps, 0, 1)
    assert isinstance(deps.write, Written) and deps.write.calls == []


HEAVY = '{{ range query "n" }}{{ range query "n" }}{{ with query "n" }}{{ end }}{{ end }}{{ end }}'


@pytest.mark.parametrize(
    "job", ["page", "{{ $labels.instance }}", "{{ toUpper $labels.instance }}"]
)
async def test_an_annotation_that_takes_too_long_costs_no_alert(job: str) -> None:
    """Not that of the next row either, nor where the annotations have used up the rule's time."""
    rows = [row(1.0, __name__="m", instance=f"e:{number}") for number in range(40)]
    deps = surroundings({"m > 0": by_time(rows), "n": lambda t_ms: rows})
    progress = progress_of(alerting(annotations={"s": HEAVY, "t": "{{ $value }}"}, job=job))
    events = await run(progress, deps, 0)
    assert kinds(events) == [EventKind.FIRING] * 40 and progress.health is RuleHealth.OK
    assert "more than 100 queries" in dict(events[1].alert.annotations)["s"]


def test_an_engine_that_hangs_delays_the_alerts_of_a_rule_once() -> None:
    """Their labels are complete, though the annotations have used up the time of all texts."""

    async def story() -> None:
        rows = [row(1.0, __name__="m", instance=f"e:{number}") for number in range(30)]
        deps = surroundings({"m > 0": by_time(rows), "n": by_time(UP)})
        deps = replace(deps, engine=Hangs(deps.engine, "hung"))
        notes = {"s": '{{ query "hung" }}', "t": "{{ $value }}"}
        progress = progress_of(alerting(annotations=notes, n='{{ query "n" | first | value }}'))
        events = await run(progress, deps, 0)
        assert kinds(events) == [EventKind.FIRING] * 30
        assert {dict(event.alert.labels)["n"] for event in events} == {"1"}
        assert asyncio.get_running_loop().time() == pytest.approx(TEXT_WAIT_SECONDS)
        said = dict(events[-1].alert.annotations)
        assert "take too long" in said["s"] and said["t"] == "1"

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(story())


def ticking() -> Callable[[], float]:
    """A clock by which whoever looks at it has always worked for long."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


async def turns_of(work: Awaitable[Any]) -> int:
    """How many turns others have until it is done."""
    running, turns = asyncio.ensure_future(work), 0
    while not running.done():
        await asyncio.sleep(0)
        turns += 1
    await running
    return turns


async def test_many_alerts_begin_go_on_and_end_in_turns() -> None:
    """It was one turn for all of them: 0.3 s, or one second where the machine was busy."""
    rows = [row(1.0, __name__="m", instance=f"e:{number}") for number in range(5_000)]
    room: list[int] = []

    def make_room(source: Source, samples: Sequence[tuple[Labels, float]]) -> Work[None]:
        room.append(len(samples))
        yield

    deps = surroundings({"m > 0": by_time(rows, rows, [])})
    deps = replace(deps, seconds=ticking(), make_room=make_room)
    progress = progress_of(alerting())
    turns = [await turns_of(run(progress, deps, minute)) for minute in (0, 1, 2)]
    assert turns[0] >= 21  # of the alerts, their samples, and the room for these
    assert turns[1] >= 10 and turns[2] >= 10
    assert room == [10_000, 0] and progress.alerts


async def test_a_clock_that_is_set_while_many_alerts_are_looked_at_moves_them_all() -> None:
    rows = [row(1.0, __name__="m", instance=f"e:{number}") for number in range(2_000)]
    deps = replace(surroundings({"m > 0": by_time(rows, rows)}), seconds=ticking())
    progress = progress_of(alerting())
    await run(progress, deps, 0)
    running = asyncio.ensure_future(run(progress, deps, 1))
    for _ in range(4):
        await asyncio.sleep(0)
    assert not running.done()
    progress.shift(-HOUR)
    await running
    assert {alert.active_at_ms for alert in progress.alerts.values()} == {-HOUR}


@pytest.mark.parametrize("busy", [0.02, 0.5])
def test_a_rule_with_many_alerts_does_not_stand_still_while_pages_go_out(busy: float) -> None:
    """It gave up the loop after every ten alerts: twelve seconds for five thousand."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        rows = [row(1.0, __name__="m", instance=f"e:{number}") for number in range(2_000)]
        deps = replace(surroundings({"m > 0": by_time(rows)}), seconds=loop.time)

        async def send() -> None:
            while True:
                loop.hold(busy)
                await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        notes = {"s": "fault {{ $labels.instance }}"}
        events = await run(progress_of(alerting(annotations=notes)), deps, 0)
        sending.cancel()
        assert len(events) == 2_000
        assert loop.time() < 1

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(story())


class Hangs:
    """Never answers `text`."""

    def __init__(self, engine: InstantQuerier, text: str) -> None:
        self._engine, self._text = engine, text

    async def instant(self, query: str | Expr, at_ms: int, /) -> Result:
        if query == self._text:
            await asyncio.Future()
        return await self._engine.instant(query, at_ms)


async def test_the_offset_moves_the_query_and_the_samples_not_the_time_of_the_alert() -> None:
    deps = surroundings({"m > 0": lambda t_ms: UP if t_ms == 2 * MINUTE else []})
    progress = progress_of(alerting(annotations={"s": "{{ now }}"}))
    await run(progress, deps, 3, query_offset_ms=MINUTE)
    (alert,) = progress.alerts.values()
    assert (alert.active_at_ms, alert.annotations) == (3 * MINUTE, (("s", "180"),))
    assert isinstance(deps.write, Written)
    assert [at_ms for _, at_ms, _ in deps.write.calls] == [2 * MINUTE]


async def test_the_query_function_runs_at_the_evaluations_time() -> None:
    deps = surroundings({"m > 0": lambda t_ms: UP, "up": lambda t_ms: [row(t_ms / MINUTE)]})
    progress = progress_of(alerting(annotations={"s": '{{ query "up" | first | value }}'}))
    await run(progress, deps, 3, query_offset_ms=MINUTE)
    (alert,) = progress.alerts.values()
    assert alert.annotations == (("s", "3"),)


async def test_a_failing_rule_holds_its_state_and_says_unknown_once() -> None:
    answers = by_time(UP, ValueError("many-to-many"), ValueError("many-to-many"), UP)
    progress = progress_of(alerting())
    deps = surroundings({"m > 0": answers})
    events = await run(progress, deps, 0, 1, 2)
    assert kinds(events) == [EventKind.FIRING, EventKind.UNKNOWN]
    assert events[1].reason == "A could not be evaluated: many-to-many"
    assert [alert.state for alert in progress.alerts.values()] == [AlertState.FIRING]
    assert (progress.health, progress.last_error, progress.failures) == (
        RuleHealth.ERR, "many-to-many", 2,
    )  # fmt: skip
    assert kinds(await run(progress, deps, 3)) == [EventKind.FIRING]
    assert (progress.health, progress.last_error) == (RuleHealth.OK, "")


async def test_a_failure_writes_nothing_so_that_series_age_as_in_prometheus() -> None:
    deps = surroundings({"m > 0": by_time(UP, ValueError("broken"))})
    await run(progress_of(alerting()), deps, 0, 1)
    assert isinstance(deps.write, Written)
    assert [at_ms for _, at_ms, _ in deps.write.calls] == [0]


async def test_a_result_that_is_no_vector_is_a_failure() -> None:
    progress = progress_of(alerting())
    deps = surroundings({"m > 0": by_time(TypeError("rule result is not a vector or scalar"))})
    await run(progress, deps, 0)
    assert progress.health is RuleHealth.ERR


async def test_a_limit_drops_the_alerts_and_what_fired_is_unknown() -> None:
    two = [*UP, row(1.0, __name__="m", instance="e:2")]
    progress = progress_of(alerting())
    deps = surroundings({"m > 0": by_time(UP, two, UP, [], [])})
    events = await run(progress, deps, 0, 1, limit=1)
    assert kinds(events) == [EventKind.FIRING, EventKind.UNKNOWN]
    assert progress.last_error == "exceeded limit of 1 with 2 alerts"
    assert progress.alerts == {}
    assert kinds(await run(progress, deps, 2, 3, limit=1)) == [EventKind.FIRING, EventKind.CLEAR]


async def test_what_a_limit_dropped_is_unknown_while_its_source_is_dead() -> None:
    source = Source("llm", "e:1")
    two = [*UP, row(1.0, __name__="m", instance="e:2")]
    sources = SetSources({source: SourceStatus.ALIVE})
    progress = progress_of(alerting())
    deps = surroundings({"m > 0": by_time(UP, two, [], [])}, sources=sources)
    events = await run(progress, deps, 0, 1, limit=1)
    assert kinds(events) == [EventKind.FIRING, EventKind.UNKNOWN]
    sources.healths[source] = SourceStatus.DEAD
    assert await run(progress, deps, 2, limit=1) == []
    sources.healths[source] = SourceStatus.ALIVE
    assert kinds(await run(progress, deps, 3, limit=1)) == [EventKind.CLEAR]


async def test_a_limit_on_a_recording_rule_writes_nothing() -> None:
    two = [*UP, row(1.0, __name__="m", instance="e:2")]
    progress = progress_of(recording("r", "m"))
    deps = surroundings({"m": by_time(two)})
    assert await run(progress, deps, 0, limit=1) == []
    assert progress.last_error == "exceeded limit of 1 with 2 series"
    assert isinstance(deps.write, Written) and deps.write.calls == []


async def test_an_alert_that_leaves_while_its_source_is_dead_is_unknown_until_it_answers() -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    deps = surroundings({"m > 0": by_time(UP, [], [], [])}, sources=sources)
    progress = progress_of(alerting())
    assert kinds(await run(progress, deps, 0)) == [EventKind.FIRING]
    sources.healths[ENGINE] = SourceStatus.DEAD
    assert kinds(await run(progress, deps, 1, 2)) == [EventKind.UNKNOWN]
    assert [alert.state for alert in progress.alerts.values()] == [AlertState.INACTIVE]
    sources.healths[ENGINE] = SourceStatus.ALIVE
    (event,) = await run(progress, deps, 3)
    assert (event.kind, event.reason) == (EventKind.CLEAR, "llm e:1 answers again")


async def test_an_alert_that_leaves_while_samples_are_missing_is_unknown() -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    expr = "rate(m[5m]) > 0"
    deps = surroundings({expr: by_time(UP, [], [], UP, [])}, sources=sources)
    progress = progress_of(alerting(expr))
    await run(progress, deps, 0)
    sources.patchy.add(ENGINE)
    (event,) = await run(progress, deps, 1, 2)
    assert (event.kind, event.reason) == (
        EventKind.UNKNOWN,
        "no longer in the result, but samples of llm e:1 are missing",
    )
    assert kinds(await run(progress, deps, 3)) == [EventKind.FIRING]
    assert kinds(await run(progress, deps, 4)) == [EventKind.UNKNOWN]
    sources.patchy.clear()
    assert kinds(await run(progress, deps, 4)) == [EventKind.CLEAR]


async def test_missing_samples_are_nothing_to_a_rule_without_a_range() -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    deps = surroundings({"m > 0": by_time(UP, [])}, sources=sources)
    progress = progress_of(alerting())
    sources.patchy.add(ENGINE)
    assert kinds(await run(progress, deps, 0, 1)) == [EventKind.FIRING, EventKind.CLEAR]


async def test_a_source_that_died_before_the_last_good_evaluation_took_no_part_in_it() -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    rule = alerting("sum(m) > 0")
    other = [row(1.0)]
    deps = surroundings({"sum(m) > 0": by_time(*[other] * 9, [])}, sources=sources)
    progress = progress_of(rule)
    await run(progress, deps, 0)
    sources.healths[ENGINE] = SourceStatus.DEAD
    events = await run(progress, deps, *range(1, 10))
    assert kinds(events) == [EventKind.CLEAR]  # dead for 9 minutes, and the rule looks back 5


@pytest.mark.parametrize("expr", ["m > 0", "sum(m) > 0", "max_over_time(m[9m]) > 0"])
async def test_an_alert_that_is_kept_firing_over_the_end_of_its_source_is_unknown(
    expr: str,
) -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    deps = surroundings({expr: by_time(UP, *[UP] * 9, *[[]] * 40)}, sources=sources)
    progress = progress_of(alerting(expr, keep_ms=20 * MINUTE))
    assert kinds(await run(progress, deps, *range(6))) == [EventKind.FIRING]
    sources.healths[ENGINE] = SourceStatus.DEAD
    assert kinds(await run(progress, deps, *range(6, 45))) == [EventKind.UNKNOWN]
    sources.healths[ENGINE] = SourceStatus.ALIVE
    assert kinds(await run(progress, deps, 45)) == [EventKind.CLEAR]


async def test_a_source_that_died_long_before_an_alert_was_kept_took_no_part() -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    deps = surroundings({"sum(m) > 0": by_time(*[UP] * 20, *[[]] * 40)}, sources=sources)
    progress = progress_of(alerting("sum(m) > 0", keep_ms=10 * MINUTE))
    await run(progress, deps, *range(8))
    sources.healths[ENGINE] = SourceStatus.DEAD
    assert kinds(await run(progress, deps, *range(8, 31))) == [EventKind.CLEAR]


async def test_a_rule_on_up_knows_the_answer() -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    deps = surroundings({"up == 0": by_time(UP, [])}, sources=sources)
    progress = progress_of(alerting("up == 0"))
    await run(progress, deps, 0)
    sources.healths[ENGINE] = SourceStatus.DEAD
    assert kinds(await run(progress, deps, 1)) == [EventKind.CLEAR]


OTHER = Source("llm", "e:2")
NAMELESS = [row(1.0)]


@pytest.mark.parametrize(
    ("expr", "rows", "removed", "kind"),
    [
        ("m > 0", UP, {ENGINE}, EventKind.REMOVED),
        ("m > 0", UP, {OTHER}, EventKind.CLEAR),
        ("rate(m[5m]) > 0", UP, {ENGINE}, EventKind.REMOVED),
        ("up == 0", UP, {ENGINE}, EventKind.REMOVED),
        ("sum(m) > 0", NAMELESS, {ENGINE}, EventKind.CLEAR),
        ("sum(m) > 0", NAMELESS, {ENGINE, OTHER}, EventKind.REMOVED),
    ],
)
@pytest.mark.parametrize("minutes", [1, 4])
async def test_what_ends_with_its_source_is_not_over(
    expr: str, rows: Rows, removed: set[Source], kind: EventKind, minutes: int
) -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE, OTHER: SourceStatus.ALIVE})
    deps = surroundings({expr: by_time(*[rows] * minutes, [])}, sources=sources)
    progress = progress_of(alerting(expr))
    await run(progress, deps, 0)
    sources.healths |= dict.fromkeys(removed, SourceStatus.GONE)
    (event,) = await run(progress, deps, *range(1, minutes + 1))
    assert event.kind is kind
    assert ("was removed" in event.reason) is (kind is EventKind.REMOVED)


async def test_a_rule_on_up_knows_nothing_while_nobody_says_it() -> None:
    sources = SetSources({ENGINE: SourceStatus.DEAD})
    deps = surroundings({"up == 0": by_time(UP, [], [], UP)}, sources=sources)
    progress = progress_of(alerting("up == 0"))
    await run(progress, deps, 0)
    sources.silent.add(ENGINE)
    assert kinds(await run(progress, deps, 1, 2)) == [EventKind.UNKNOWN]
    sources.silent.clear()
    assert kinds(await run(progress, deps, 3)) == [EventKind.FIRING]


async def test_one_that_is_down_still_keeps_no_count_of_the_down_in_doubt() -> None:
    sources = SetSources({ENGINE: SourceStatus.DEAD, Source("llm", "e:2"): SourceStatus.ALIVE})
    deps = surroundings({"count(up == 0) > 1": by_time(UP, [])}, sources=sources)
    progress = progress_of(alerting("count(up == 0) > 1"))
    assert kinds(await run(progress, deps, 0, 1)) == [EventKind.FIRING, EventKind.CLEAR]


@pytest.mark.parametrize(
    "expr",
    [
        "m > 1 and on (instance) up == 1",
        "m > 1 unless on (instance) up == 0",
        "sum(m) / sum(up) > 1",
        "m > 1 or absent(n)",
        "m > 1 unless absent(n)",
        "llm_engine_up == 1 and on (instance) m > 1",
    ],
)
async def test_a_rule_that_asks_for_presence_too_does_not_know_the_rest(expr: str) -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    deps = surroundings({expr: by_time(UP, [], [])}, sources=sources)
    progress = progress_of(alerting(expr))
    await run(progress, deps, 0)
    sources.healths[ENGINE] = SourceStatus.DEAD
    assert kinds(await run(progress, deps, 1)) == [EventKind.UNKNOWN]
    sources.healths[ENGINE] = SourceStatus.ALIVE
    assert kinds(await run(progress, deps, 2)) == [EventKind.CLEAR]


async def test_no_rule_runs_before_its_sources_were_read() -> None:
    sources = SetSources({ENGINE: SourceStatus.ALIVE})
    sources.unready.add(parse("m > 0"))
    deps = surroundings({"m > 0": by_time(UP, UP)}, sources=sources)
    progress = progress_of(alerting())
    assert await run(progress, deps, 0) == []
    assert progress.health is RuleHealth.UNKNOWN
    assert isinstance(deps.engine, ScriptedEngine) and deps.engine.asked == []
    sources.unready.clear()
    assert kinds(await run(progress, deps, 1)) == [EventKind.FIRING]


async def test_a_rule_removed_while_it_runs_says_and_writes_nothing() -> None:
    progress = progress_of(alerting())

    def removed(t_ms: int) -> Rows:
        progress.removed = True
        return UP

    deps = surroundings({"m > 0": removed})
    assert await run(progress, deps, 0) == []
    assert isinstance(deps.write, Written) and deps.write.calls == []


async def seconds_of(progress: RuleState, deps: EvaluationDeps, minute: int) -> float:
    began = time.process_time()
    await run(progress, deps, minute)
    return time.process_time() - began


async def sender_that_fell_silent(
    count: int, end: SourceStatus, expr: str, answers: bool
) -> tuple[float, RuleState]:
    """The seconds of the evaluations after it; `count` targets, and as many alerts of hosts."""
    targets = [Source("fleet", f"host-{number}:9100") for number in range(count)]
    sources = SetSources(dict.fromkeys(targets, SourceStatus.ALIVE))
    hosts = [row(1.0, host=f"host-{number}") for number in range(count)]
    deps = surroundings({expr: by_time(hosts, hosts[::2], [], [], [])}, sources=sources)
    progress = progress_of(alerting(expr))
    await run(progress, deps, 0)
    if end is SourceStatus.PATCHY:
        sources.patchy.update(targets)
    else:
        sources.healths |= dict.fromkeys(targets, end)
    seconds = sum([await seconds_of(progress, deps, minute) for minute in (1, 2, 3)])
    if answers:
        sources.patchy.clear()
        sources.healths |= dict.fromkeys(targets, SourceStatus.ALIVE)
        seconds = await seconds_of(progress, deps, 4)
    return seconds, progress


@pytest.mark.parametrize(
    ("end", "expr", "answers"),
    [
        (SourceStatus.DEAD, "sum by (host) (x) > 0", False),
        (SourceStatus.DEAD, "sum by (host) (x) > 0", True),
        (SourceStatus.GONE, "sum by (host) (x) > 0", False),
        (SourceStatus.PATCHY, "sum by (host) (rate(x[5m])) > 0", False),
        (SourceStatus.PATCHY, "sum by (host) (rate(x[5m])) > 0", True),
    ],
)
async def test_the_loop_stands_no_longer_than_a_sender_is_large(
    end: SourceStatus, expr: str, answers: bool
) -> None:
    small, _ = await sender_that_fell_silent(500, end, expr, answers)
    large, progress = await sender_that_fell_silent(2_000, end, expr, answers)
    assert large < 8 * small + 0.2  # four times the targets and four times the alerts
    assert (
        len({id(unknown_alert.sources) for unknown_alert in progress.unknown_alerts.values()}) <= 1
    )


async def test_a_reason_names_a_few_of_many_sources() -> None:
    _, progress = await sender_that_fell_silent(
        30, SourceStatus.DEAD, "sum by (host) (x) > 0", False
    )
    (reason,) = {unknown_alert.reason for unknown_alert in progress.unknown_alerts.values()}
    first = ", ".join(sorted(f"fleet host-{number}:9100" for number in range(30))[:10])
    assert reason == f"no longer in the result while {first} and 20 more is dead"


@pytest.mark.parametrize("doubtful", [False, True], ids=["fired", "were in doubt"])
async def test_nor_at_a_restart(doubtful: bool) -> None:
    """While the samples since it show nothing yet, and when they do."""
    seconds = {}
    expr = "sum by (host) (rate(x[5m])) > 0"
    for count in (500, 2_000):
        _, last = await sender_that_fell_silent(count, SourceStatus.DEAD, expr, not doubtful)
        hosts = [row(1.0, host=f"host-{number}") for number in range(count)]
        sources = SetSources(dict.fromkeys(last.measured_seen, SourceStatus.DEAD))
        deps = surroundings({expr: by_time([], [], [], hosts)}, sources=sources)
        progress = replace(last, alerts={}, unknown_alerts={}, rows=tuple(last.instance_rows()))
        seconds[count] = sum([await seconds_of(progress, deps, minute) for minute in (0, 1, 2)])
        assert len(progress.unknown_alerts) == (count if doubtful else 0)
    assert seconds[2_000] < 8 * seconds[500] + 0.3


async def test_those_that_end_with_the_same_sources_are_told_the_same_reason() -> None:
    """Made once: it is of as many sources as there may be alerts."""
    targets = [Source("fleet", f"host-{number}:9100") for number in range(30)]
    sources, expr = SetSources(dict.fromkeys(targets, SourceStatus.ALIVE)), "sum by (host) (x) > 0"
    hosts = [row(1.0, host=f"host-{number}") for number in range(30)]
    deps = surroundings({expr: by_time(hosts, [])}, sources=sources)
    progress = progress_of(alerting(expr))
    await run(progress, deps, 0)
    sources.healths.clear()
    events = await run(progress, deps, 1)
    assert kinds(events) == [EventKind.REMOVED] * 30
    assert len({id(event.reason) for event in events}) == 1
    assert events[0].reason.endswith(" and 20 more was removed")
