"""Who is kept quiet: what changed is looked at alone, and comes to what a look at all gives."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert
from support.policies import P0, P1, config
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, Member
from tocsin_alerting.incidents.inhibition import Inhibitor, inhibitions
from tocsin_alerting.incidents.routing import InhibitRule
from tocsin_alerting.rules.severity import Severity

RULES = (
    InhibitRule(
        (parse_matcher("alertname=Down"),), (parse_matcher("alertname!=Down"),), ("target",)
    ),
    InhibitRule(
        (parse_matcher("alertname=Slow"),), (parse_matcher("alertname=~Down|Warm"),), ("target",)
    ),
)
SETTINGS = config(inhibit=RULES)
CHANGES = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from(["Down", "Slow", "Warm", "Late"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(list(Condition)),
        st.sampled_from([IncidentState.TRIGGERED, IncidentState.RESOLVED]),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(CHANGES)
def test_what_changed_alone_comes_to_the_same(
    changes: list[tuple[int, str, str, Condition, IncidentState]],
) -> None:
    inhibitor, incidents = Inhibitor(), dict[int, Incident]()
    muted: dict[int, frozenset[str]] = {}
    for number, name, target, source, state in changes:
        before = incidents.get(number) or _incident(number)
        fired = alert(name, target=target)
        members = {**before.members, fired.fingerprint: Member(fired, source, 0)}
        incidents[number] = replace(before, members=members, state=state)
        muted |= inhibitor.mutes_of(SETTINGS, [incidents[number]], incidents.values())
        expected = inhibitions(SETTINGS, incidents.values())
        assert {one: muted[one] for one in expected} == expected


SAME = {"target": "127.0.0.1:8000", "instance": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("labels", "quiet"),
    [
        (SAME, True),
        ({"target": "localhost:8000", "instance": "gpu-1"}, True),
        ({"target": "[::1]:8000", "instance": "127.1:9101"}, True),
        ({"target": "127.1:8000"}, True),
        ({"target": "127.0.0.1:8001", "instance": "gpu-1"}, False),
        ({"target": "127.0.0.1:8000/v1", "instance": "gpu-1"}, False),
        ({"target": "127.0.0.1:8000", "instance": "gpu-2"}, False),  # of another machine
        ({"target": "127.0.0.1:8000", "instance": "gpu-2:9101"}, False),
    ],
)
def test_an_engine_that_is_down_keeps_quiet_what_is_said_of_itself_alone(
    labels: dict[str, str], quiet: bool
) -> None:
    here = config(inhibit=RULES, local_names=frozenset({"gpu-1"}))
    alerts = alert("Down", "P0", 0, **SAME), alert("Late", "P0", 0, **labels)
    down, slow = (
        replace(_incident(number), members={fired.fingerprint: Member(fired, Condition.FIRING, 0)})
        for number, fired in enumerate(alerts, start=1)
    )
    assert bool(inhibitions(here, [down, slow])[2]) is quiet


def _firing(*names: str) -> list[Incident]:
    """An incident for each name, P0 and P1 by turns, about the same target."""
    return [
        replace(_incident(number), members={fired.fingerprint: Member(fired, Condition.FIRING, 0)})
        for number, fired in enumerate((alert(name, target="a") for name in names), start=1)
    ]


WORSE = (
    InhibitRule(
        (parse_matcher("alertname=~Down|Slow"),), (parse_matcher("alertname=~Slow|Warm"),), ()
    ),
)


@pytest.mark.parametrize(
    ("names", "quiet"),
    [
        (("Slow", "Warm"), {1: set(), 2: {1}}),  # on both sides, and of one
        (("Slow", "Slow"), {1: set(), 2: set()}),  # both of them on both
        (("Down", "Slow"), {1: set(), 2: {1}}),
    ],
)
def test_an_alert_on_both_sides_of_a_rule_mutes_those_that_are_not(
    names: tuple[str, ...], quiet: dict[int, set[int]]
) -> None:
    """As in Alertmanager."""
    expected = {n: {f"inhibited:{source}" for source in by} for n, by in quiet.items()}
    assert inhibitions(config(inhibit=WORSE), _firing(*names)) == expected


def test_of_two_that_would_mute_each_other_the_milder_is_quiet() -> None:
    assert inhibitions(SETTINGS, _firing("Down", "Slow")) == {1: set(), 2: {"inhibited:1"}}
    assert inhibitions(SETTINGS, _firing("Slow", "Down")) == {1: set(), 2: {"inhibited:1"}}


def _incident(number: int) -> Incident:
    severity = Severity.P0 if number % 2 else Severity.P1
    policy = P0 if number % 2 else P1
    return Incident(number, f"u{number}", str(number), (), policy, severity, 0)
