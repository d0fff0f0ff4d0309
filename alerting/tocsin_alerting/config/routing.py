"""The sections that say which alerts are one incident, which policy it has, what hushes it."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from tocsin_alerting.config.policies import GroupTimes
from tocsin_alerting.incidents.matcher import matcher
from tocsin_alerting.incidents.policy import Target
from tocsin_alerting.incidents.routing import InhibitRule, Route
from tocsin_alerting.settings import Section, Words, several

DEFAULT_GROUP_BY = (
    "alertname",
    "instance",
    "target",
    "UUID",
    "groupname",
    "device",
    "mountpoint",
)


def _matcher_text(text: str) -> str:
    matcher(text)
    return text


Matchers = Annotated[
    tuple[Annotated[str, AfterValidator(_matcher_text)], ...], BeforeValidator(several)
]


class GroupSection(GroupTimes):
    """Alerts with equal values of the labels `by` are one incident; a missing label is empty."""

    by: Words = DEFAULT_GROUP_BY


class RouteSection(Section):
    """Without `policy`, the one called like the severity."""

    match: Matchers = ()
    policy: str | None = None
    receivers_add: Words = ()
    group_by: Words | None = None
    continue_: bool = Field(default=False, alias="continue")

    def route(self) -> Route:
        return Route(
            matchers=tuple(map(matcher, self.match)),
            policy=self.policy,
            receivers_add=tuple(map(Target, self.receivers_add)),
            go_on=self.continue_,
            group_by=self.group_by,
        )


class InhibitSection(Section):
    """While an alert matches `source`, those that match `target` with equal labels page nobody."""

    source: Annotated[Matchers, Field(min_length=1)]
    target: Annotated[Matchers, Field(min_length=1)]
    equal: Words = ()

    def rule(self) -> InhibitRule:
        return InhibitRule(
            tuple(map(matcher, self.source)), tuple(map(matcher, self.target)), self.equal
        )


DEFAULT_INHIBIT = (
    InhibitSection.model_validate(
        {
            "source": ['alertname="InferenceEngineDown"'],
            "target": ['alertname!="InferenceEngineDown"'],
            "equal": ["target"],
        }
    ),
    InhibitSection.model_validate(
        {
            "source": ['alertname="InferenceEngineDown"'],
            "target": [
                'alertname="HostProcessGone"',
                'groupname=~"tocsin-worker|vllm|sglang|tgi|llama-server"',
            ],
        }
    ),
)
