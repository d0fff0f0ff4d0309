"""The section of meta-alerts: what the agent says of its own rules, sources and clock."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from tocsin_alerting.config.heartbeats import severity_named
from tocsin_alerting.rules.meta_alerts import MetaAlertName, MetaAlertSwitch
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.settings import Interval, Section

NamedSeverity = Annotated[Severity, BeforeValidator(severity_named)]


class MetaAlertSection(Section):
    enabled: bool = True
    severity: NamedSeverity = Severity.P3

    def switch(self) -> MetaAlertSwitch:
        return MetaAlertSwitch(self.enabled, self.severity)


class RuleBrokenSection(MetaAlertSection):
    """A rule that failed `failures` times in a row."""

    failures: int = Field(default=3, ge=1, le=1000)


class MetricMissingSection(MetaAlertSection):
    """A rule that read no series for `after`."""

    after: Interval = 600_000


class TargetSilentSection(MetaAlertSection):
    """A source of which nothing good was heard for `after`."""

    after: Interval = 300_000


class CollectorFailingSection(MetaAlertSection):
    severity: NamedSeverity = Severity.P2


class StoreUnreachableSection(MetaAlertSection):
    severity: NamedSeverity = Severity.P1


class MetaAlertsSection(Section):
    """One each, by the name of its alert."""

    rule_broken: RuleBrokenSection = Field(default=RuleBrokenSection(), alias="RuleBroken")
    metric_missing: MetricMissingSection = Field(
        default=MetricMissingSection(), alias="MetricMissing"
    )
    target_silent: TargetSilentSection = Field(default=TargetSilentSection(), alias="TargetSilent")
    collector_failing: CollectorFailingSection = Field(
        default=CollectorFailingSection(), alias="CollectorFailing"
    )
    store_unreachable: StoreUnreachableSection = Field(
        default=StoreUnreachableSection(), alias="StoreUnreachable"
    )
    clock_stepped: MetaAlertSection = Field(default=MetaAlertSection(), alias="ClockStepped")

    def rule_switches(self) -> Mapping[str, MetaAlertSwitch]:
        """Of those that are rules of the bundled pack."""
        sections = {
            MetaAlertName.COLLECTOR_FAILING: self.collector_failing,
            MetaAlertName.CLOCK_STEPPED: self.clock_stepped,
        }
        return {name.value: section.switch() for name, section in sections.items()}
