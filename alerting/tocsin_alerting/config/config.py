"""The whole configuration: every key with its default, frozen."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from tocsin_alerting.config.policies import ContactSection, PolicySection
from tocsin_alerting.config.promql import PromqlSection
from tocsin_alerting.config.routing import (
    DEFAULT_INHIBIT,
    GroupSection,
    InhibitSection,
    RouteSection,
)
from tocsin_alerting.config.watching import (
    CollectSection,
    DiscoverySection,
    EngineSection,
    OptionalHttpUrl,
    ProcessGroupSection,
    StorageSection,
    WebSection,
    WorkerSection,
    engine_list,
    label_value,
)
from tocsin_alerting.incidents.escalation_policy import Severity
from tocsin_alerting.notify.email.settings import SmtpSection
from tocsin_alerting.notify.log import LogSettings
from tocsin_alerting.notify.registry import ReceiverSettings
from tocsin_alerting.settings import Interval, Section, Words, several

BUNDLED_RULES = "bundled"


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, or no name that a file could have
        raise ValueError("not a time zone like Europe/Berlin or Asia/Shanghai") from None
    return name


def _severity(value: object) -> Severity:
    if not isinstance(value, str) or value not in Severity.__members__:
        raise ValueError(f"must be one of {', '.join(Severity)}")
    return Severity(value)


SeverityWord = Annotated[Severity, BeforeValidator(_severity)]


class Config(Section):
    """Durations are milliseconds. `policies` always holds P0 to P4 once it is loaded."""

    version: Literal[1] = 1
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    language: Literal["en", "zh"] = "en"
    external_url: OptionalHttpUrl = ""
    instance: Annotated[str, AfterValidator(label_value)] = ""

    collect: CollectSection = CollectSection()
    engines: Annotated[tuple[EngineSection, ...], BeforeValidator(engine_list)] = ()
    discovery: DiscoverySection = DiscoverySection()
    processes: Annotated[tuple[ProcessGroupSection, ...], BeforeValidator(several)] = ()
    gpus: Annotated[int, Field(ge=0, le=1024)] | None = None
    worker: WorkerSection = WorkerSection()
    storage: StorageSection = StorageSection()
    web: WebSection = WebSection()
    promql: PromqlSection = PromqlSection()

    evaluation_interval: Interval = 5_000
    external_labels: dict[str, str] = {}
    rule_files: Words = (BUNDLED_RULES,)
    severities: dict[str, SeverityWord] = {
        "critical": Severity.P0,
        "warning": Severity.P1,
        "info": Severity.P2,
    }

    contacts: dict[str, ContactSection] = {}
    smtp: SmtpSection | None = None
    receivers: dict[str, ReceiverSettings] = {"log": LogSettings(type="log")}
    policies: dict[str, PolicySection] = {}
    routes: Annotated[tuple[RouteSection, ...], BeforeValidator(several)] = ()
    group: GroupSection = GroupSection()
    inhibit: Annotated[tuple[InhibitSection, ...], BeforeValidator(several)] = DEFAULT_INHIBIT
    reopen_within: Interval = 1_800_000
    unknown_max: Interval = 86_400_000
