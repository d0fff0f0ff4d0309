"""Which policy, which receivers, which group."""

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.policies import P0, config, to
from tocsin_alerting.config.routing import DEFAULT_GROUP_BY
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.escalation_policy import (
    EscalationPolicy,
    EscalationStep,
)
from tocsin_alerting.incidents.grouping import alert_group
from tocsin_alerting.incidents.routing import GroupBy, Route, policy_for
from tocsin_alerting.rules.severity import Severity

NIGHT = EscalationPolicy("night", (EscalationStep(to("phone:wang")), EscalationStep(to("hook"))))


def test_without_a_route_the_policy_is_called_like_the_severity() -> None:
    assert policy_for(config(), {}, Severity.P0) is P0


def test_the_first_route_that_names_a_policy_decides_and_receivers_add_up() -> None:
    routes = (
        Route((parse_matcher('team="ml"'),), None, to("hook"), continue_=True),
        Route((parse_matcher('team=~".+"'),), "night", to("mail"), continue_=True),
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
    routes = (Route((parse_matcher('team="ml"'),), "P0"), Route((), "P1", to("hook")))
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
        config(policies={"P0": EscalationPolicy("P0", ())})


def test_groups() -> None:
    labels = {"alertname": "Slow", "target": 'a"b', "instance": "x", "severity": "P1"}
    assert alert_group(config(), labels).key == r'{}:{alertname="Slow", target="a\"b"}'
    assert alert_group(config(), {"alertname": "Slow"}).key == '{}:{alertname="Slow"}'
    every = config(group=GroupBy(("...",)))
    assert dict(alert_group(every, labels).labels) == {
        name: value for name, value in labels.items() if name != "severity"
    }
    own = config(routes=(Route((parse_matcher('target!=""'),), None, group_by=("instance",)),))
    assert alert_group(own, labels).key == '{}:{instance="x"}'


def test_what_is_real_joins_no_incident_of_simulated_gpus() -> None:
    real, simulated = {"alertname": "GPUMissing"}, {"alertname": "GPUMissing", "simulated": "true"}
    for routed in (config(), config(routes=(Route(group_by=("alertname",)),))):
        assert alert_group(routed, real) != alert_group(routed, simulated)
        assert dict(alert_group(routed, simulated).labels)["simulated"] == "true"


def test_an_incident_of_another_time_has_another_name() -> None:
    group = alert_group(config(), {"alertname": "Slow"})
    assert group.uid(1) != group.uid(2) and group.uid(1) == group.uid(1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # the agent's own watch of an engine, and an exporter beside it that a Prometheus scrapes
        ({"instance": "127.0.0.1:8000"}, {"instance": "127.0.0.1:9101", "job": "tocsin"}, True),
        ({"instance": "gpu-1"}, {"instance": "localhost:9101"}, True),
        ({"instance": "GPU-1:9101"}, {"instance": "[::1]:9101", "target": "localhost:8000"}, True),
        ({"instance": "gpu-1"}, {"instance": "10.0.0.4:9101"}, True),
        # one place, however it is written
        ({"target": "127.1:8000"}, {"target": "[::1]:8000"}, True),
        ({"target": "LocalHost.:8000"}, {"target": "0.0.0.0:8000"}, True),
        ({"target": "127.0.0.1:8000/v1"}, {"target": "localhost:8000/v1"}, True),
        ({"target": "localhost:8000/a", "instance": "gpu-1"},
         {"target": "127.1:8000/a", "instance": "127.1:9101"}, True),
        ({"target": "localhost:8000/a"}, {"target": "localhost:8000/b"}, False),
        ({"target": "LLM.lan.:8000"}, {"target": "llm.lan:8000", "instance": "gpu-2:9101"}, True),
        ({"target": "[2001:db8:0::7]:1"}, {"target": "[2001:DB8::7]:1", "instance": "b"}, True),
        ({"instance": "[::1]:9101"}, {"instance": "gpu-1"}, True),
        ({"instance": "::1"}, {"instance": "127.1"}, True),
        # two machines, each with an engine on its loopback
        ({"instance": "gpu-1", "target": "127.1:8000/a"},
         {"instance": "gpu-2", "target": "127.1:8000/a"}, False),
        ({"instance": "0"}, {"instance": "127.0.0.1"}, False),
        ({"instance": "gpu-1"}, {"instance": "gpu-2:9101"}, False),
        ({"instance": "gpu-2:9101"}, {"instance": "gpu-3:9101"}, False),
        ({"instance": "gpu-2:9101"}, {"instance": "gpu-2"}, True),
        # an address that means the same everywhere
        ({"target": "llm.lan:8000"}, {"target": "llm.lan:8000", "instance": "gpu-2:9101"}, True),
        ({"target": "llm.lan:8000"}, {"target": "llm.lan:8001"}, False),
        ({"target": "127.0.0.1:8000"}, {"target": "127.0.0.1:8001"}, False),
        # what is no address keeps its teller: one host may reach it and another not
        ({"target": "8.8.8.8", "instance": "a"}, {"target": "8.8.8.8", "instance": "b"}, False),
        ({"target": "", "instance": "a:1"}, {"target": "", "instance": "a:2"}, False),
        # each group of rules that fails
        ({"rule_group": "a.yml;x"}, {"rule_group": "a.yml;y"}, False),
        ({"target": "", "UUID": "GPU-7", "instance": "gpu-1"},
         {"target": "", "UUID": "GPU-7", "instance": "gpu-1:9400"}, True),
    ],
)  # fmt: skip
def test_one_thing_is_one_incident_whoever_tells_of_it(
    one: dict[str, str], other: dict[str, str], same: bool
) -> None:
    settings = config(group=GroupBy(DEFAULT_GROUP_BY), local_names=frozenset({"gpu-1", "10.0.0.4"}))
    plain = {"alertname": "InferenceEngineDown", "target": "127.0.0.1:8000"}
    keys = {alert_group(settings, {**plain, **labels}).key for labels in (one, other)}
    assert (len(keys) == 1) is same


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("[::1]:8000/v1", "127.0.0.1:8000/v1"),
        ("[2001:DB8::7]:1", "[2001:db8::7]:1"),
        ("8.8.8.8", "8.8.8.8"),
        ("2001:db8::7", "2001:db8::7"),
        ("http://h:80/", "http://h:80/"),
    ],
)
def test_a_target_is_shown_as_the_place_that_it_names(target: str, shown: str) -> None:
    group = alert_group(config(group=GroupBy(("target",))), {"target": target})
    assert group.labels == (("target", shown),)


async def test_an_engine_seen_twice_pages_once() -> None:
    settings = config(group=GroupBy(DEFAULT_GROUP_BY))
    floor = await Floor(settings).open()
    ours = alert("EngineDown", target="127.0.0.1:8000", instance="127.0.0.1:8000", job="llm")
    theirs = alert("EngineDown", target="127.0.0.1:8000", instance="localhost:9101", job="gpu")
    await floor.hear(fires(ours))
    await floor.hear(fires(theirs))
    assert [why for _, why, _ in floor.told] == ["opened"] * 2
    await floor.hear(clears(ours))
    assert (await floor.dispatcher.incident(1)).is_open, "the other one still says that it is down"
    await floor.hear(clears(theirs))
    assert not await floor.dispatcher.incidents()
