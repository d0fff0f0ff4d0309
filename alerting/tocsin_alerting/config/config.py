"""The whole configuration: every key with its default, frozen."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tocsin_alerting.config.collectors import Collectors
from tocsin_alerting.config.damping import (
    ChannelBrokenSection,
    FlapSection,
    IncidentsSection,
    RateLimitsSection,
)
from tocsin_alerting.config.elsewhere import (
    Alertmanagers,
    DatasourceSection,
    GroupDatasources,
    RemoteWrites,
)
from tocsin_alerting.config.heartbeats import HeartbeatsSection
from tocsin_alerting.config.hours import ZoneName
from tocsin_alerting.config.log_sources import Logs
from tocsin_alerting.config.meta_alerts import MetaAlertsSection
from tocsin_alerting.config.muting import MaintenanceSection, SilencesSection, StormSection
from tocsin_alerting.config.policies import ContactSection, PolicySection
from tocsin_alerting.config.probing import ProbesSection
from tocsin_alerting.config.routing import (
    DEFAULT_INHIBIT,
    GroupSection,
    InhibitSection,
    RouteSection,
)
from tocsin_alerting.config.schedules import ScheduleSection
from tocsin_alerting.config.scraping import ScrapeConfigs
from tocsin_alerting.config.watching import (
    CollectSection,
    DiscoverySection,
    EngineSection,
    LinksSection,
    OptionalHttpUrl,
    ProcessGroupSection,
    StorageSection,
    TargetsSection,
    WebSection,
    WorkerSection,
    engine_list,
    label_value,
)
from tocsin_alerting.notify.email.settings import SmtpSection
from tocsin_alerting.notify.log import LogSettings
from tocsin_alerting.notify.registry import ReceiverSettings
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.severity import SEVERITY_WORDS, Severity
from tocsin_alerting.settings import FilePath, Interval, Section, Words, several


def _semantics(value: object) -> object:
    if type(value) is not int or value not in (2, 3):
        raise ValueError("must be 3, for the PromQL of Prometheus 3, or 2, for that of 2.42")
    return value


class PromqlSection(Section):
    semantics: Annotated[Semantics, BeforeValidator(_semantics)] = 3


def _severity(value: object) -> Severity:
    if not isinstance(value, str) or value not in Severity.__members__:
        raise ValueError(f"must be one of {', '.join(Severity)}")
    return Severity(value)


SeverityWord = Annotated[Severity, BeforeValidator(_severity)]


class Config(Section):
    """Durations are milliseconds. `policies` always holds P0 to P4 once it is loaded."""

    version: Literal[1] = 1
    time_zone: ZoneName = "UTC"
    language: Literal["en", "zh"] = "en"
    external_url: OptionalHttpUrl = ""
    instance: Annotated[str, AfterValidator(label_value)] = ""

    collect: CollectSection = CollectSection()
    collectors: Collectors = {}
    engines: Annotated[tuple[EngineSection, ...], BeforeValidator(engine_list)] = ()
    discovery: DiscoverySection = DiscoverySection()
    scrape_configs: ScrapeConfigs = ()
    probes: ProbesSection = ProbesSection()
    processes: Annotated[tuple[ProcessGroupSection, ...], BeforeValidator(several)] = ()
    logs: Logs = ()
    gpus: Annotated[int, Field(ge=0, le=1024)] | None = None
    worker: WorkerSection = WorkerSection()
    storage: StorageSection = StorageSection()
    web: WebSection = WebSection()
    links: LinksSection = LinksSection()
    templates: FilePath | None = None
    promql: PromqlSection = PromqlSection()

    evaluation_interval: Interval = 5_000
    external_labels: dict[str, str] = {}
    rule_files: Words = ("bundled",)
    datasource: DatasourceSection | None = None
    group_datasources: GroupDatasources = ()
    alertmanagers: Alertmanagers = ()
    remote_write: RemoteWrites = ()
    severities: dict[str, SeverityWord] = dict(SEVERITY_WORDS)
    targets: TargetsSection = TargetsSection()

    contacts: dict[str, ContactSection] = {}
    smtp: SmtpSection | None = None
    receivers: dict[str, ReceiverSettings] = {"log": LogSettings(type="log")}
    schedules: dict[str, ScheduleSection] = {}
    rate_limits: RateLimitsSection = RateLimitsSection()
    channel_broken: ChannelBrokenSection = ChannelBrokenSection()
    meta_alerts: MetaAlertsSection = MetaAlertsSection()
    policies: dict[str, PolicySection] = {}
    routes: Annotated[tuple[RouteSection, ...], BeforeValidator(several)] = ()
    group: GroupSection = GroupSection()
    inhibit: Annotated[tuple[InhibitSection, ...], BeforeValidator(several)] = DEFAULT_INHIBIT
    silences: SilencesSection = SilencesSection()
    maintenance: Annotated[tuple[MaintenanceSection, ...], BeforeValidator(several)] = ()
    storm: StormSection = StormSection()
    reopen_within: Interval = 1_800_000
    reopen_keeps_ack: bool = False
    flap: FlapSection = FlapSection()
    unknown_max: Interval = 86_400_000
    resolve_timeout: Interval = 300_000
    incidents: IncidentsSection = IncidentsSection()
    heartbeats: HeartbeatsSection = HeartbeatsSection()
