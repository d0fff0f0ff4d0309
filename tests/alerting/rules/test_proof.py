"""What shows, after a restart, that an alert of the last run has cleared."""

import pytest

from support.rule_surroundings import SetSources
from support.rule_texts import MINUTE, alerting
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.progress import RuleProgress
from tocsin_alerting.rules.proof import MOST, unproven
from tocsin_alerting.rules.unknown import Fired, Health, Said
from tocsin_exporter.snapshot import Source

NEAR, FAR = Source("llm", "e:1"), Source("far", "e:1")
LABELS = (("alertname", "A"), ("instance", "e:1"))
ALERT = Alert("g/A/1", LABELS, (), AlertState.FIRING, 1.0, 0, 0)
KEY = ALERT.fingerprint
AT, BEGAN = 10 * MINUTE, 20 * MINUTE


def lost(
    sources: SetSources,
    took_part: frozenset[Source] = frozenset((FAR,)),
    minutes: float = 0,
    expr: str = "m > 0",
    complete_ms: int | None = None,
    alert: Alert | None = None,
) -> bool:
    """Whether the alert is unproven so many minutes after the restart; `alert` is in the result."""
    rule = alerting(expr)
    progress = RuleProgress("f", "g", rule, restored_ms=BEGAN, complete_ms=complete_ms)
    progress.fired = {KEY: Fired(ALERT, AT, took_part)}
    alerts = {} if alert is None else {KEY: alert}
    found = unproven(progress, rule, alerts, BEGAN + round(minutes * MINUTE), sources)
    assert found <= progress.fired.keys()
    return KEY in found


def test_what_the_store_kept_to_the_end_is_believed_if_that_was_a_moment_ago() -> None:
    sources = SetSources({FAR: Health.ALIVE})
    sources.words[FAR] = Said.NOTHING
    assert not lost(sources, complete_ms=BEGAN - 2 * MINUTE)
    assert lost(sources, complete_ms=BEGAN - 3 * MINUTE)
    assert lost(sources, complete_ms=AT - 1)
    assert lost(sources, complete_ms=BEGAN + 1)


def test_a_reading_of_ours_is_enough_and_a_word_of_others_when_they_went_on_long_enough() -> None:
    sources = SetSources({FAR: Health.ALIVE})
    assert not lost(sources)
    sources.words[FAR] = Said.SOME
    assert lost(sources, minutes=4.9) and not lost(sources, minutes=5)
    sources.healths[FAR] = Health.DEAD
    assert lost(sources, minutes=60)
    sources.words[FAR] = Said.NOTHING
    assert lost(sources, minutes=60)


def test_everyone_who_took_part_must_speak() -> None:
    sources = SetSources({FAR: Health.ALIVE, NEAR: Health.ALIVE})
    sources.words[NEAR] = Said.NOTHING
    assert lost(sources, frozenset((FAR, NEAR)))
    assert not lost(sources, frozenset((FAR,)))
    assert not lost(sources, frozenset())  # nobody knows who did
    sources.words[FAR] = Said.NOTHING
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
    sources = SetSources({FAR: Health.ALIVE})
    sources.words[FAR] = Said.NOTHING
    sources.samples["m"] = [BEGAN - 1]
    assert lost(sources, expr=expr, minutes=1)
    sources.samples["m"] = [BEGAN + MINUTE]
    assert lost(sources, expr=expr, minutes=1) is not shown
    assert lost(sources, expr=expr, minutes=7)  # too old by now


def test_windows_must_be_full() -> None:
    sources = SetSources({FAR: Health.ALIVE})
    sources.samples["m"] = [BEGAN + MINUTE]
    assert lost(sources, minutes=1, expr="rate(m[5m]) > 0")
    assert not lost(sources, minutes=5, expr="rate(m[5m]) > 0")


def test_what_stands_in_the_result_is_not_lost_unless_it_is_only_kept_firing() -> None:
    sources = SetSources({})
    assert not lost(sources, alert=ALERT)
    kept = Alert("g/A/1", LABELS, (), AlertState.FIRING, 1.0, 0, 0, keep_firing_since_ms=1)
    assert lost(sources, alert=kept, minutes=60)


def test_what_stood_as_long_as_the_rule_looks_back_is_known_for_good() -> None:
    rule, sources = alerting(), SetSources({})
    progress = RuleProgress("f", "g", rule, restored_ms=BEGAN)
    progress.fired = {KEY: Fired(ALERT, AT)}
    for minutes, known in ((4, True), (5, False)):
        unproven(progress, rule, {KEY: ALERT}, BEGAN + minutes * MINUTE, sources)
        assert (KEY in progress.fired) is known
    assert not unproven(progress, rule, {}, BEGAN + 6 * MINUTE, sources)


def test_many_are_looked_at_by_and_by() -> None:
    rule, sources = alerting(), SetSources({FAR: Health.ALIVE})
    progress = RuleProgress("f", "g", rule, restored_ms=BEGAN)
    progress.fired = {str(at): Fired(ALERT, AT) for at in range(MOST + 5)}
    assert len(unproven(progress, rule, {}, BEGAN + 1, sources)) == 5
    assert not unproven(progress, rule, {}, BEGAN + 2, sources)


def test_those_that_the_store_kept_are_settled_at_once_however_many() -> None:
    rule, sources = alerting(), SetSources({})
    progress = RuleProgress("f", "g", rule, restored_ms=BEGAN, complete_ms=BEGAN - 1)
    progress.fired = {str(at): Fired(ALERT, AT) for at in range(10 * MOST)}
    assert not unproven(progress, rule, {}, BEGAN + 1, sources) and not progress.fired
