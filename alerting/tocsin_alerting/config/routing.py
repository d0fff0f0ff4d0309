"""The sections that say which alerts are one incident, which policy it has, what hushes it."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from tocsin_alerting.config.policies import GroupTimes
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.escalation_policy import Recipient
from tocsin_alerting.incidents.routing import EVERY_LABEL, InhibitRule, Route
from tocsin_alerting.settings import Section, Words, several

DEFAULT_GROUP_BY = (
    "alertname",
    "instance",
    "target",
    "UUID",
    "groupname",
    "rule_group",
    "device",
    "mountpoint",
)


_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _label_name(text: str) -> str:
    if not _LABEL_NAME.fullmatch(text):
        raise ValueError(f'"{text}" is no label name; use letters, digits and _')
    return text


def _grouping_label(text: str) -> str:
    return text if text == EVERY_LABEL else _label_name(text)


def _matcher_text(text: str) -> str:
    parse_matcher(text)
    return text


Matchers = Annotated[
    tuple[Annotated[str, AfterValidator(_matcher_text)], ...], BeforeValidator(several)
]

LabelNames = Annotated[
    tuple[Annotated[str, AfterValidator(_label_name)], ...], BeforeValidator(several)
]
GroupingLabels = Annotated[
    tuple[Annotated[str, AfterValidator(_grouping_label)], ...], BeforeValidator(several)
]


class GroupSection(GroupTimes):
    """Alerts with equal values of the labels `by` are one incident; a missing label is empty."""

    by: GroupingLabels = DEFAULT_GROUP_BY


class RouteSection(Section):
    """Without `policy`, the one called like the severity."""

    match: Matchers = ()
    policy: str | None = None
    receivers_add: Words = ()
    group_by: GroupingLabels | None = None
    continue_: bool = Field(default=False, alias="continue")

    def route(self) -> Route:
        return Route(
            matchers=tuple(map(parse_matcher, self.match)),
            policy=self.policy,
            receivers_add=tuple(map(Recipient, self.receivers_add)),
            continue_=self.continue_,
            group_by=self.group_by,
        )


class InhibitSection(Section):
    """While an alert matches `source`, those that match `target` with equal labels page nobody."""

    source: Annotated[Matchers, Field(min_length=1)]
    target: Annotated[Matchers, Field(min_length=1)]
    equal: LabelNames = ()

    def rule(self) -> InhibitRule:
        return InhibitRule(
            tuple(map(parse_matcher, self.source)),
            tuple(map(parse_matcher, self.target)),
            self.equal,
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
            "source": ['alertname="InferenceEngineStalled"'],
            "target": ['alertname=~"InferenceThroughputDropped|InferenceQueueGrowing"'],
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
    InhibitSection.model_validate(
        {
            "source": ['alertname="InferenceEngineDown"'],
            "target": ['alertname=~"LogEngineDead|LogCudaOutOfMemory"'],
        }
    ),
)
