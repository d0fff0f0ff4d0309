"""Which policy, which receivers, which group."""

import pytest

from support.policies import P0, config, to
from tocsin_alerting.incidents.grouping import group_of
from tocsin_alerting.incidents.matcher import matcher
from tocsin_alerting.incidents.policy import Policy, Severity, Step
from tocsin_alerting.incidents.routing import GroupBy, Route, policy_for

NIGHT = Policy("night", (Step(to("phone:wang")), Step(to("hook"))))


def test_without_a_route_the_policy_is_called_like_the_severity() -> None:
    assert policy_for(config(), {}, Severity.P0) is P0


def test_the_first_route_that_names_a_policy_decides_and_receivers_add_up() -> None:
    routes = (
        Route((matcher('team="ml"'),), None, to("hook"), go_on=True),
        Route((matcher('team=~".+"'),), "night", to("mail"), go_on=True),
        Route((), "P0", to("hook")),
        Route((), "P1", to("never")),
    )
    policy = policy_for(
        config(policies={"night": NIGHT}, routes=routes), {"team": "ml"}, Severity.P2
    )
    assert policy.name == "night"
    assert [step.notify for step in policy.steps] == [
        to("phone:wang", "hook", "mail"),
        to("hook", "mail"),
    ]


def test_a_match_without_continue_ends_it() -> None:
    routes = (Route((matcher('team="ml"'),), "P0"), Route((), "P1", to("hook")))
    settings = config(routes=routes)
    assert policy_for(settings, {"team": "ml"}, Severity.P2) is P0
    assert policy_for(settings, {}, Severity.P2).name == "P1"


def test_severity_is_never_grouped_by() -> None:
    with pytest.raises(ValueError, match="second incident"):
        GroupBy(("alertname", "severity"))
    with pytest.raises(ValueError, match="second incident"):
        config(routes=(Route((), None, group_by=("severity",)),))


def test_a_configuration_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="no policy named nigth"):
        config(routes=(Route((), "nigth"),))
    with pytest.raises(ValueError, match="has no steps"):
        config(policies={"P0": Policy("P0", ())})


def test_groups() -> None:
    labels = {"alertname": "Slow", "target": 'a"b', "instance": "x", "severity": "P1"}
    assert group_of(config(), labels).key == r'{}:{alertname="Slow", target="a\"b"}'
    assert group_of(config(), {"alertname": "Slow"}).key == '{}:{alertname="Slow"}'
    every = config(group=GroupBy(("...",)))
    assert dict(group_of(every, labels).labels) == {
        name: value for name, value in labels.items() if name != "severity"
    }
    own = config(routes=(Route((matcher('target!=""'),), None, group_by=("instance",)),))
    assert group_of(own, labels).key == '{}:{instance="x"}'


def test_an_incident_of_another_time_has_another_name() -> None:
    group = group_of(config(), {"alertname": "Slow"})
    assert group.uid(1) != group.uid(2) and group.uid(1) == group.uid(1)
