"""Who is kept quiet: what changed is looked at alone, and comes to what a look at all gives."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert
from support.policies import P0, P1
from tocsin_alerting.incidents.incident import Incident, Member, Source, State
from tocsin_alerting.incidents.inhibition import Inhibitor, inhibitions
from tocsin_alerting.incidents.matcher import matcher
from tocsin_alerting.incidents.policy import Severity
from tocsin_alerting.incidents.routing import InhibitRule

RULES = (
    InhibitRule((matcher("alertname=Down"),), (matcher("alertname!=Down"),), ("target",)),
    InhibitRule((matcher("alertname=Slow"),), (matcher("alertname=~Down|Warm"),), ("target",)),
)
CHANGES = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from(["Down", "Slow", "Warm", "Late"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(list(Source)),
        st.sampled_from([State.TRIGGERED, State.RESOLVED]),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(CHANGES)
def test_what_changed_alone_comes_to_the_same(
    changes: list[tuple[int, str, str, Source, State]],
) -> None:
    inhibitor, incidents = Inhibitor(), dict[int, Incident]()
    muted: dict[int, frozenset[str]] = {}
    for number, name, target, source, state in changes:
        before = incidents.get(number) or _incident(number)
        fired = alert(name, target=target)
        members = {**before.members, fired.fingerprint: Member(fired, source, 0)}
        incidents[number] = replace(before, members=members, state=state)
        muted |= inhibitor.muted(RULES, [incidents[number]], incidents.values())
        expected = inhibitions(RULES, incidents.values())
        assert {one: muted[one] for one in expected} == expected


def _incident(number: int) -> Incident:
    severity = Severity.P0 if number % 2 else Severity.P1
    policy = P0 if number % 2 else P1
    return Incident(number, f"u{number}", str(number), (), policy, severity, 0)
