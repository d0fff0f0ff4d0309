"""What shows, after a restart, that an alert of the last run has cleared."""

import asyncio
from collections.abc import Callable, Container
from dataclasses import replace

import pytest

from support.rule_deps import SetSources, surroundings
from support.rule_texts import MINUTE, alerting, group
from tocsin_alerting.rules.alert import Alert, AlertState, EventKind
from tocsin_alerting.rules.cleared_or_lost import MAX_SECONDS, SLICE_SECONDS, unproven_clears
from tocsin_alerting.rules.evaluation import evaluate_rule
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import RuleState
from tocsin_alerting.rules.unknown_alerts import LastFiring, Reported, SourceStatus
from tocsin_exporter.snapshot import Source

NEAR, FAR = Source("llm", "e:1"), Source("far", "e:1")
LABELS = (("alertname", "A"), ("instance", "e:1"))
ALERT = Alert("g/A/1", LABELS, (), AlertState.FIRING, 1.0, 0, 0)
KEY = ALERT.fingerprint
AT, BEGAN = 10 * MINUTE, 20 * MINUTE


def asked(
    progress: RuleState,
    sources: SetSources,
    at_ms: int,
    present: Container[str] = (),
    seconds: Callable[[], float] = lambda: 0.0,
) -> frozenset[str]:
    rule = progress.rule
    assert isinstance(rule, AlertingRule)
    unproven = asyncio.run(unproven_clears(progress, rule, present, at_ms, sources, seconds))
    assert unproven <= progress.last_firing.keys()
    return unproven


def lost(
    sources: SetSources,
    took_part: frozenset[Source] = frozenset((FAR,)),
    minutes: float = 0,
    expr: str = "m > 0",
    complete_ms: int | None = None,
    present: bool = False,
) -> bool:
    """Whether the alert is unproven so many minutes after the restart; `present`: in the result."""
    progress = RuleState("f", "g", alerting(expr), restored_ms=BEGAN, complete_ms=complete_ms)
    progress.last_firing = {KEY: LastFiring(ALERT, AT, took_part)}
    at_ms = BEGAN + round(minutes * MINUTE)
    return KEY in asked(progress, sources, at_ms, [KEY] if present else [])


def test_what_the_store_kept_to_the_end_is_believed_if_that_was_a_moment_ago() -> None:
    sources = SetSources({FAR: SourceStatus.ALIVE})
    sources.words[FAR] = Reported.NOTHING
    assert not lost(sources, complete_ms=BEGAN - 2 * MINUTE)
    assert lost(sources, complete_ms=BEGAN - 3 * MINUTE)
    assert lost(sources, complete_ms=AT - 1)
    assert lost(sources, complete_ms=BEGAN + 1)


def test_a_reading_of_ours_is_enough_and_a_word_of_others_when_they_went_on_long_enough() -> None:
    sources = SetSources({FAR: SourceStatus.ALIVE})
    assert not lost(sources)
    sources.words[FAR] = Reported.SOME
    assert lost(sources, minutes=4.9) and not lost(sources, minutes=5)
    sources.healths[FAR] = SourceStatus.DEAD
    assert lost(sources, minutes=60)
    sources.words[FAR] = Reported.NOTHING
    assert lost(sources, minutes=60)


def test_a_reading_of_ours_that_failed_shows_only_that_it_did() -> None:
    sources = SetSources({FAR: SourceStatus.DEAD})
    assert lost(sources, minutes=60)
    assert lost(sources, frozenset(), minutes=60)
    assert lost(sources, minutes=60, expr="m > 0 and on (instance) up == 0")
    assert not lost(sources, expr="up == 0")


def test_everyone_who_took_part_must_speak() -> None:
    sources = SetSources({FAR: SourceStatus.ALIVE, NEAR: SourceStatus.ALIVE})
    sources.words[NEAR] = Reported.NOTHING
    assert lost(sources, frozenset((FAR, NEAR)))
    assert not lost(sources, frozenset((FAR,)))
    assert not lost(sources, frozenset())  # nobody knows who did
    sources.words[FAR] = Reported.NOTHING
    assert lost(sources, frozenset(), minutes=60)


def test_what_was_taken_off_the_configuration_is_gone_if_the_store_kept_all() -> None:
    sources = SetSources({})
    assert lost(sources, minutes=60)
    assert not lost(sources, complete_ms=AT)


@pytest.mark.parametrize(
    ("expr", "shown"),
    [("m > 0", True), ("m > 0 and n > 0", False), ("sum(m) > 0", False), ("m offset 1m", False)],
)
def test_the_series_itself_shows_it(expr: str, shown: bool) -> None:
    sources = SetSources({FAR: SourceStatus.ALIVE})
    sources.words[FAR] = Reported.NOTHING
    sources.samples["m"] = [BEGAN - 1]
    assert lost(sources, expr=expr, minutes=1)
    sources.samples["m"] = [BEGAN + MINUTE]
    assert lost(sources, expr=expr, minutes=1) is not shown
    assert lost(sources, expr=expr, minutes=7)  # too old by now


def test_where_only_rules_could_say_it_those_of_this_run_have_when_all_is_of_it() -> None:
    sources, nobody = SetSources({}), frozenset[Source]()
    assert lost(sources, nobody, minutes=4.9, expr="count(ALERTS) > 0")
    assert not lost(sources, nobody, minutes=5, expr="count(ALERTS) > 0")
    assert lost(sources, nobody, minutes=60, expr="m > 0")
    assert lost(sources, nobody, minutes=60, expr="up == 0")


def test_windows_must_be_full() -> None:
    sources = SetSources({FAR: SourceStatus.ALIVE})
    sources.samples["m"] = [BEGAN + MINUTE]
    assert lost(sources, minutes=1, expr="rate(m[5m]) > 0")
    assert not lost(sources, minutes=5, expr="rate(m[5m]) > 0")


def test_what_stands_in_the_result_is_not_lost() -> None:
    sources = SetSources({})
    assert not lost(sources, present=True)
    assert lost(sources, minutes=60)


async def test_what_is_only_kept_firing_is_lost() -> None:
    progress = RuleState("f.yml", "g", alerting(keep_ms=60 * MINUTE), restored_ms=AT)
    progress.alerts, progress.last_firing = {KEY: ALERT}, {KEY: LastFiring(ALERT, AT)}
    deps = surroundings({"m > 0": lambda t_ms: []})
    for minutes in (70, 130):
        events = await evaluate_rule(progress, group(progress.rule), minutes * MINUTE, deps)
    assert [event.kind for event in events] == [EventKind.UNKNOWN]


def test_what_stood_as_long_as_the_rule_looks_back_is_known_for_good() -> None:
    sources = SetSources({})
    progress = RuleState("f", "g", alerting(), restored_ms=BEGAN)
    progress.last_firing = {KEY: LastFiring(ALERT, AT)}
    for minutes, known in ((4, True), (5, False)):
        asked(progress, sources, BEGAN + minutes * MINUTE, [KEY])
        assert (KEY in progress.last_firing) is known
    assert not asked(progress, sources, BEGAN + 6 * MINUTE)


class Slow(SetSources):
    """Each question takes a while."""

    def __init__(self, took_seconds: float) -> None:
        super().__init__({FAR: SourceStatus.ALIVE})
        self.now, self.took_seconds = 0.0, took_seconds
        self.questions = 0

    def said(self, source: Source, since_ms: int) -> Reported:
        self.now += self.took_seconds
        self.questions += 1
        return super().said(source, since_ms)


def test_many_are_looked_at_by_and_by() -> None:
    """Whoever could not be asked about is the first the next time."""
    sources = Slow(0.26 * MAX_SECONDS)
    sources.words[FAR] = Reported.NOTHING
    progress = RuleState("f", "g", alerting(), restored_ms=BEGAN)
    every = [str(number) for number in range(7)]
    progress.last_firing = {
        key: LastFiring(ALERT, AT - int(key), frozenset((FAR,))) for key in every
    }
    assert asked(progress, sources, BEGAN + 1, (), lambda: sources.now) == {*every}
    assert (sources.questions, list(progress.last_firing)) == (4, [*every[4:], *every[:4]])
    sources.words.clear()
    assert asked(progress, sources, BEGAN + 2, (), lambda: sources.now) == {*every[1:4]}
    assert not asked(progress, sources, BEGAN + 3, (), lambda: sources.now)


async def test_the_loop_turns_while_the_store_is_asked() -> None:
    sources = Slow(1.5 * SLICE_SECONDS)
    progress = RuleState("f", "g", alerting(), restored_ms=BEGAN)
    progress.last_firing = {str(at): LastFiring(ALERT, AT - at) for at in range(9)}
    turns: list[float] = []

    async def others() -> None:
        while True:
            turns.append(sources.now)
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    rule = alerting()
    assert not await unproven_clears(progress, rule, (), BEGAN + 1, sources, lambda: sources.now)
    other.cancel()
    assert len(set(turns)) >= 9


def test_those_that_the_store_kept_are_settled_at_once_however_many() -> None:
    sources = Slow(1.0)
    progress = RuleState("f", "g", alerting(), restored_ms=BEGAN, complete_ms=BEGAN - 1)
    progress.last_firing = {str(at): LastFiring(ALERT, AT) for at in range(1_000)}
    assert not asked(progress, sources, BEGAN + 1, (), lambda: sources.now)
    assert not progress.last_firing


@pytest.mark.parametrize("known", [True, False], ids=["took part", "touched"])
def test_a_source_is_asked_once_for_all_alerts_that_stood_on_it(known: bool) -> None:
    """Each alert asked all of them, so that few were settled in an evaluation, for hours."""
    fleet = frozenset(Source("fleet", f"host-{number}:9100") for number in range(300))
    sources = Slow(MAX_SECONDS / 1_000)
    sources.healths = dict.fromkeys(fleet, SourceStatus.ALIVE)
    sources.words = dict.fromkeys(fleet, Reported.NOTHING)
    progress = RuleState("f", "g", alerting("sum by (host) (m) > 0"), restored_ms=BEGAN)
    hosts = [replace(ALERT, labels=(("host", str(number)),)) for number in range(300)]
    took_part = fleet if known else frozenset()
    progress.last_firing = {
        host_alert.fingerprint: LastFiring(host_alert, AT, took_part) for host_alert in hosts
    }
    assert len(asked(progress, sources, BEGAN + 1, (), lambda: sources.now)) == 300
    sources.words.clear()
    assert not asked(progress, sources, BEGAN + 2, (), lambda: sources.now)
    assert sources.questions <= 2 * 300
