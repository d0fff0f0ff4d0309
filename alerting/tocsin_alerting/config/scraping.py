"""The section `scrape_configs`, key by key as Prometheus's, and the jobs that it stands for.

A key of Prometheus that means nothing here is refused with words: it must not seem to work.
"""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.config.watching import (
    BasicAuthSection,
    HeaderText,
    TlsSection,
    tls_settings,
)
from tocsin_alerting.settings import SECRET, FilePath, Interval, RefusedKey, Section, several
from tocsin_alerting.yaml_document import Document, Problem
from tocsin_exporter.engine_access import BasicAuth, EngineAccess
from tocsin_exporter.relabel import LABEL_NAME, Relabel
from tocsin_exporter.scrape_job import DnsDiscovery, FileDiscovery, ScrapeJob, ScrapeLimits
from tocsin_exporter.service_discovery import static_group

_DISCOVERIES = (
    *("azure", "consul", "digitalocean", "docker", "dockerswarm", "ec2", "eureka", "gce"),
    *("hetzner", "http", "ionos", "kubernetes", "kuma", "lightsail", "linode", "marathon"),
    *("nerve", "nomad", "openstack", "ovhcloud", "puppetdb", "scaleway", "serverset"),
    *("stackit", "triton", "uyuni", "vultr"),
)
NOT_PROVIDED = frozenset(
    {f"{kind}_sd_configs" for kind in _DISCOVERIES}
    | {"oauth2", "proxy_url", "proxy_from_environment", "no_proxy", "scrape_classic_histograms"}
)
"""Keys of Prometheus that are refused with words, as they would change what is scraped."""
_DISCOVERY = (
    "; there are static_configs, file_sd_configs and dns_sd_configs: let something write the"
    " targets to a file of file_sd_configs"
)
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(|B|[KMGT](?:i?B)?)")
_WITHOUT_MEANING = ("enable_http2", "honor_timestamps")  # HTTP/1.1 serves the same page
_DEFAULTED = ("scrape_interval", "scrape_timeout")  # by 0, as in Prometheus


def base2_bytes(value: object) -> int:
    match = _SIZE.fullmatch(str(value)) if isinstance(value, str | int) else None
    if match is None:
        raise ValueError("not a size; write it like 10MB")
    return int(float(match[1]) * _UNITS[match[2][:1] if match[2] != "B" else ""])


def _text(value: object) -> object:
    """As Go reads it: a number or a truth value in YAML is a text too, and nothing an empty one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _list(value: object) -> object:
    return () if value is None else several(value)


def _target(text: str) -> str:
    if "/" in text or not text or not text.isprintable():
        raise ValueError(f"{text!r} is not HOST:PORT; scheme and path have keys of their own")
    return text


def _labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    for name in labels:
        if LABEL_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not a label name")
    return labels


def _pattern(path: FilePath) -> FilePath:
    if path.suffix not in (".json", ".yml", ".yaml"):
        raise ValueError(f"{path} must end in .json, .yml or .yaml")
    if "*" in str(path.parent):
        raise ValueError(f"{path}: only the name of the file may have a *")
    return path


def _record_type(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_list)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]


class GoSection(Section):
    """A key with nothing behind it is as if it were not there, as Go reads YAML."""

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {name: item for name, item in value.items() if item is not None}


class RelabelSection(GoSection):
    """An entry of `relabel_configs` or `metric_relabel_configs`."""

    action: Annotated[str, AfterValidator(str.lower)] = "replace"
    source_labels: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    separator: Text = ";"
    regex: Text = "(.*)"
    modulus: Count = 0
    target_label: Text = ""
    replacement: Text = "$1"

    @model_validator(mode="after")
    def _as_prometheus(self) -> "RelabelSection":
        self.relabel()
        return self

    def relabel(self) -> Relabel:
        """Raises ValueError."""
        return Relabel(**{name: getattr(self, name) for name in RelabelSection.model_fields})


class StaticConfigSection(GoSection):
    targets: Annotated[
        tuple[Annotated[Text, AfterValidator(_target)], ...], BeforeValidator(several)
    ] = ()
    labels: Annotated[Mapping[str, Text], AfterValidator(_labels)] = {}


class FileSdSection(GoSection):
    """A file is read again within 5 s of its change, whatever `refresh_interval` says."""

    files: Annotated[
        tuple[Annotated[FilePath, AfterValidator(_pattern)], ...],
        BeforeValidator(several),
        Field(min_length=1),
    ]
    refresh_interval: Interval = 300_000


class DnsSdSection(GoSection):
    names: Annotated[Texts, Field(min_length=1)]
    type: Annotated[Literal["A", "AAAA", "MX", "NS", "SRV"], BeforeValidator(_record_type)] = "SRV"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    refresh_interval: Interval = 30_000

    @model_validator(mode="after")
    def _has_port(self) -> "DnsSdSection":
        if self.type != "SRV" and not self.port:
            raise ValueError("a port is required: only SRV records have one of their own")
        return self


class AuthorizationSection(Section):
    """The credentials stand in a file alone."""

    type: Literal["Bearer"] = "Bearer"
    credentials: RefusedKey = None
    credentials_file: FilePath


Relabels = Annotated[tuple[RelabelSection, ...], BeforeValidator(several)]


class ScrapeConfigSection(GoSection):
    """One job. Redirects are followed while they stay on the target's host."""

    job_name: Annotated[Text, Field(min_length=1)]
    scrape_interval: Interval = 60_000
    scrape_timeout: Interval | None = None
    metrics_path: Text = "/metrics"
    scheme: Literal["http", "https"] = "http"
    params: Annotated[Mapping[str, Texts], SECRET] = {}
    honor_labels: bool = False
    follow_redirects: bool = True
    headers: Annotated[Mapping[str, HeaderText], SECRET] = {}
    basic_auth: BasicAuthSection | None = None
    authorization: AuthorizationSection | None = None
    bearer_token: RefusedKey = None
    bearer_token_file: FilePath | None = None
    tls_config: TlsSection = TlsSection()
    static_configs: Annotated[tuple[StaticConfigSection, ...], BeforeValidator(several)] = ()
    file_sd_configs: Annotated[tuple[FileSdSection, ...], BeforeValidator(several)] = ()
    dns_sd_configs: Annotated[tuple[DnsSdSection, ...], BeforeValidator(several)] = ()
    relabel_configs: Relabels = ()
    metric_relabel_configs: Relabels = ()
    sample_limit: Count = 0
    label_limit: Count = 0
    label_name_length_limit: Count = 0
    label_value_length_limit: Count = 0
    target_limit: Count = 0
    body_size_limit: Annotated[int, BeforeValidator(base2_bytes)] = 0

    @model_validator(mode="before")
    @classmethod
    def _provided(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        for name, item in value.items():
            if name in NOT_PROVIDED and item not in (None, [], ()):
                instead = _DISCOVERY if name.endswith("_sd_configs") else "; leave it out"
                raise ValueError(f"{name} is not provided{instead}")
        if value.get("honor_timestamps") not in (False, None):
            raise ValueError(
                "honor_timestamps: times on a page are not kept: each sample gets the time of its"
                " scrape; leave it out, or set it to false"
            )
        nothing = {name for name in _DEFAULTED if value.get(name) in ("0s", "0")}
        left_out = NOT_PROVIDED.union(_WITHOUT_MEANING, nothing)
        return {name: item for name, item in value.items() if name not in left_out}

    @model_validator(mode="after")
    def _consistent(self) -> "ScrapeConfigSection":
        keys = (self.bearer_token_file, self.basic_auth, self.authorization)
        if sum(map(bool, keys)) > 1:
            raise ValueError("give one of basic_auth, authorization and bearer_token_file")
        if self.scrape_timeout and self.scrape_timeout > self.scrape_interval:
            raise ValueError("scrape_timeout is longer than scrape_interval")
        if urlsplit(self.metrics_path).query:
            raise ValueError("the query of metrics_path belongs into params")
        return self

    def access(self) -> EngineAccess:
        """The keys; the address is each target's."""
        given, authorization = self.basic_auth, self.authorization
        token = authorization.credentials_file if authorization else self.bearer_token_file
        return EngineAccess(
            url="",
            target=self.job_name,
            headers=dict(self.headers),
            bearer_token_file=token,
            basic_auth=BasicAuth(given.username, given.password_file) if given else None,
            tls=tls_settings(self.tls_config),
            redirects=self.follow_redirects,
        )

    def job(self) -> ScrapeJob:
        timeout = self.scrape_timeout or min(10_000, self.scrape_interval)
        return ScrapeJob(
            name=self.job_name,
            interval=self.scrape_interval / 1000,
            timeout=timeout / 1000,
            scheme=self.scheme,
            metrics_path=self.metrics_path,
            params=dict(self.params),
            honor_labels=self.honor_labels,
            access=self.access(),
            static=tuple(
                static_group(number, one.targets, one.labels)
                for number, one in enumerate(self.static_configs)
            ),
            files=tuple(
                FileDiscovery(tuple(map(str, one.files)), one.refresh_interval / 1000)
                for one in self.file_sd_configs
            ),
            dns=tuple(
                DnsDiscovery(one.names, one.type, one.port, one.refresh_interval / 1000)
                for one in self.dns_sd_configs
            ),
            relabels=tuple(one.relabel() for one in self.relabel_configs),
            metric_relabels=tuple(one.relabel() for one in self.metric_relabel_configs),
            limits=ScrapeLimits(
                self.sample_limit,
                self.label_limit,
                self.label_name_length_limit,
                self.label_value_length_limit,
                self.target_limit,
                self.body_size_limit,
            ),
        )


def _one_name_each(jobs: tuple[ScrapeConfigSection, ...]) -> tuple[ScrapeConfigSection, ...]:
    names = [one.job_name for one in jobs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the job {name!r} stands here twice; give each a name of its own")
    return jobs


ScrapeConfigs = Annotated[
    tuple[ScrapeConfigSection, ...], BeforeValidator(several), AfterValidator(_one_name_each)
]


def job_problems(
    document: Document, jobs: Sequence[ScrapeConfigSection], known: Container[object]
) -> list[Problem]:
    """Jobs whose keys or certificates cannot be used, besides those (`known`, by their place) of
    which it is known why."""
    problems = []
    for number, section in enumerate(jobs):
        try:
            if ("scrape_configs", number) not in known:
                section.access().check()
        except ValueError as error:
            problems.append(document.problem(("scrape_configs", number), str(error)))
    return problems
