"""A file of blackbox_exporter's `modules`, key by key as its CONFIGURATION.md has them.

What is left out of blackbox_exporter's is refused with words: it must not seem to work.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import re2
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.effective import plain_yaml
from tocsin_alerting.config.files import anchored
from tocsin_alerting.config.probing import unknown_modules
from tocsin_alerting.config.scraping import Text, base2_bytes
from tocsin_alerting.settings import SECRET, FilePath, Section, Words, several
from tocsin_alerting.yaml_document import (
    Document,
    InvalidDocument,
    Problem,
    did_you_mean,
    file_text,
    parse,
    unreadable,
)
from tocsin_alerting.yaml_model import validate
from tocsin_exporter.probes import modules as probes

_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern})+")
_NOT_PROVIDED = {
    "oauth2": "take a token from a file: authorization: {credentials_file: FILE}",
    "proxy_url": "a probe connects to the address that it has checked",
    "no_proxy": "a probe connects to the address that it has checked",
    "proxy_from_environment": "a probe connects to the address that it has checked",
    "proxy_connect_header": "a probe connects to the address that it has checked",
    "skip_resolve_phase_with_proxy": "a probe connects to the address that it has checked",
    "enable_http3": "HTTP/1.1 and HTTP/2 are probed",
    "fail_if_body_json_matches_cel": "use fail_if_body_matches_regexp",
    "fail_if_body_json_not_matches_cel": "use fail_if_body_not_matches_regexp",
    "expect_bytes": "use expect",
    "metadata": "the health check is sent without",
}


def _go_seconds(value: object) -> float:
    """As Go reads a duration: `1.5s`, `1m30s`; a bare number is nanoseconds."""
    if type(value) is int:
        return value / 1e9
    if value == "0":
        return 0.0
    if not isinstance(value, str) or _GO_DURATION.fullmatch(value) is None:
        raise ValueError("not a duration of Go; write it like 5s, 1m30s or 500ms")
    return sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_PART.findall(value))


def _regexp(text: str) -> str:
    compiled(text)
    return text


@lru_cache(1000)  # equal ones are one, and a module that is as it was is equal after a reload
def compiled(text: str) -> Any:
    """Raises ValueError."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        words = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"not a regular expression of RE2: {words}") from None


def _dns_type(text: str) -> str:
    import dns.rdatatype

    try:
        dns.rdatatype.from_text(text)
    except Exception:  # why: the library has several, and all mean the same
        raise ValueError(f'query type "{text}" is not valid') from None
    return text


def _rcode(text: str) -> str:
    import dns.rcode

    try:
        return dns.rcode.to_text(dns.rcode.from_text(text))
    except Exception:  # why: the library has several, and all mean the same
        raise ValueError(f'there is no rcode "{text}"') from None


Regexp = Annotated[Text, AfterValidator(_regexp)]
Regexps = Annotated[tuple[Regexp, ...], BeforeValidator(several)]
IpFamily = Literal["", "ip4", "ip6"]
TlsVersion = Literal["", "TLS10", "TLS11", "TLS12", "TLS13"]


class _Provided(Section):
    @model_validator(mode="before")
    @classmethod
    def _provided(cls, value: object) -> object:
        for name in value if isinstance(value, dict) else ():
            if name in _NOT_PROVIDED and name not in cls.model_fields:
                raise ValueError(f"{name} is not provided: {_NOT_PROVIDED[name]}")
        return value


class ProbeTlsSection(Section):
    """As `tls_config` of prometheus/common."""

    ca: Text = ""
    cert: Text = ""
    key: Annotated[Text, SECRET] = ""
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    server_name: Text = ""
    insecure_skip_verify: bool = False
    min_version: TlsVersion = ""
    max_version: TlsVersion = ""

    @model_validator(mode="after")
    def _pairs(self) -> "ProbeTlsSection":
        for name in ("ca", "cert", "key"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise ValueError(f"give one of {name} and {name}_file")
        if bool(self.cert or self.cert_file) != bool(self.key or self.key_file):
            raise ValueError("a certificate needs its key, and a key its certificate")
        return self

    def settings(self) -> probes.TlsClient:
        fields = {name: getattr(self, name) for name in ProbeTlsSection.model_fields}
        return probes.TlsClient(**fields)


class _FamilySection(_Provided):
    preferred_ip_protocol: IpFamily = ""
    ip_protocol_fallback: bool = True

    def family(self) -> probes.IpChoice:
        """What is neither ip6 nor nothing is ip4."""
        return probes.IpChoice(self.preferred_ip_protocol or "ip6", self.ip_protocol_fallback)


class HeaderMatchSection(Section):
    header: Annotated[Text, Field(min_length=1)]
    regexp: Annotated[Regexp, Field(min_length=1)]
    allow_missing: bool = False

    def check(self) -> probes.HeaderMatch:
        return probes.HeaderMatch(self.header, compiled(self.regexp), self.allow_missing)


class ProbeBasicAuthSection(Section):
    username: Text = ""
    username_file: FilePath | None = None
    password: Annotated[Text, SECRET] = ""
    password_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_each(self) -> "ProbeBasicAuthSection":
        if (self.username and self.username_file) or (self.password and self.password_file):
            raise ValueError("give a user and a password each in one way, here or in a file")
        return self


class ProbeAuthorizationSection(Section):
    type: Text = "Bearer"
    credentials: Annotated[Text, SECRET] = ""
    credentials_file: FilePath | None = None

    @model_validator(mode="after")
    def _one(self) -> "ProbeAuthorizationSection":
        if self.credentials and self.credentials_file:
            raise ValueError("give one of credentials and credentials_file")
        if self.type.lower() == "basic":
            raise ValueError("Basic belongs into basic_auth")
        return self


class HeaderValuesSection(Section):
    """An entry of `http_headers`."""

    values: Annotated[tuple[Text, ...], BeforeValidator(several)] = ()
    secrets: Annotated[tuple[Text, ...], BeforeValidator(several), SECRET] = ()
    files: Annotated[tuple[FilePath, ...], BeforeValidator(several)] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> "HeaderValuesSection":
        if len(self.files) > 1 or (self.files and (self.values or self.secrets)):
            raise ValueError("give values and secrets, or one of files")
        return self


HeaderMatches = Annotated[tuple[HeaderMatchSection, ...], BeforeValidator(several)]


class HttpProbeSection(_FamilySection):
    valid_status_codes: Annotated[
        tuple[Annotated[int, Field(ge=100, le=999)], ...], BeforeValidator(several)
    ] = ()
    valid_http_versions: Words = ()
    method: Text = ""
    headers: Annotated[Mapping[str, Text], SECRET] = {}
    http_headers: Mapping[str, HeaderValuesSection] = {}
    body: Annotated[Text, SECRET] = ""
    body_file: FilePath | None = None
    body_size_limit: Annotated[int, BeforeValidator(base2_bytes)] = 0
    compression: Text = ""
    fail_if_ssl: bool = False
    fail_if_not_ssl: bool = False
    fail_if_body_matches_regexp: Regexps = ()
    fail_if_body_not_matches_regexp: Regexps = ()
    fail_if_header_matches: HeaderMatches = ()
    fail_if_header_not_matches: HeaderMatches = ()
    follow_redirects: bool = True
    no_follow_redirects: bool | None = None
    enable_http2: bool = True
    basic_auth: ProbeBasicAuthSection | None = None
    authorization: ProbeAuthorizationSection | None = None
    bearer_token: Annotated[Text, SECRET] = ""
    bearer_token_file: FilePath | None = None
    tls_config: ProbeTlsSection = ProbeTlsSection()

    @model_validator(mode="after")
    def _consistent(self) -> "HttpProbeSection":
        if self.body and self.body_file:
            raise ValueError("give one of body and body_file")
        keys = (self.basic_auth, self.authorization, self.bearer_token, self.bearer_token_file)
        if sum(map(bool, keys)) > 1:
            raise ValueError("give one of basic_auth, authorization, bearer_token(_file)")
        for name, value in self.headers.items():
            if name.lower() == "accept-encoding" and not _accepts(self.compression, value):
                raise ValueError(
                    f'"{name}: {value}" does not accept compression {self.compression}'
                )
        return self

    def probe(self) -> probes.HttpProbe:
        checks = (self.fail_if_header_matches, self.fail_if_header_not_matches)
        bodies = (self.fail_if_body_matches_regexp, self.fail_if_body_not_matches_regexp)
        follow = self.follow_redirects
        if self.no_follow_redirects is not None:
            follow = not self.no_follow_redirects
        return probes.HttpProbe(
            family=self.family(),
            valid_status_codes=self.valid_status_codes,
            valid_http_versions=self.valid_http_versions,
            method=self.method or "GET",
            headers=self._headers(),
            header_files=tuple((k, v.files[0]) for k, v in self.http_headers.items() if v.files),
            secret_headers=frozenset(
                k.lower() for k, v in self.http_headers.items() if v.files or v.secrets
            ),
            body=self.body,
            body_file=self.body_file,
            fail_if_ssl=self.fail_if_ssl,
            fail_if_not_ssl=self.fail_if_not_ssl,
            fail_if_body_matches=tuple(map(compiled, bodies[0])),
            fail_if_body_not_matches=tuple(map(compiled, bodies[1])),
            fail_if_header_matches=tuple(check.check() for check in checks[0]),
            fail_if_header_not_matches=tuple(check.check() for check in checks[1]),
            compression=self.compression,
            body_size_limit=self.body_size_limit,
            follow_redirects=follow,
            http2=self.enable_http2,
            login=self._login(),
            tls=self.tls_config.settings(),
        )

    def _headers(self) -> dict[str, str]:
        """Several values of one header are joined, as a server may read them."""
        named = {k: v for k, v in self.http_headers.items() if not v.files}
        given = {k: ", ".join((*v.values, *v.secrets)) for k, v in named.items()}
        return {**given, **self.headers}

    def _login(self) -> probes.ProbeLogin | None:
        if (basic := self.basic_auth) is not None:
            user = (basic.username, basic.username_file)
            return probes.ProbeLogin("Basic", *user, basic.password, basic.password_file)
        if (given := self.authorization) is not None:
            secret = (given.credentials, given.credentials_file)
            return probes.ProbeLogin(given.type, "", None, *secret)
        if self.bearer_token or self.bearer_token_file:
            return probes.ProbeLogin("Bearer", "", None, self.bearer_token, self.bearer_token_file)
        return None


def _accepts(compression: str, accepted: str) -> bool:
    """Whether Accept-Encoding takes that compression: of what fits, the best quality counts."""
    if not compression or not accepted:
        return True
    found = []
    for part in accepted.split(","):
        coding, semicolon, quality = part.rpartition(";")
        name = (coding if semicolon else part).strip()
        try:
            weight = float(quality.strip().removeprefix("q=")) if semicolon else 1.0
        except ValueError:
            weight = 0.0
        found.append((weight, name))
    best = sorted(found, key=lambda one: -one[0])
    return next((weight > 0 for weight, name in best if name in (compression, "*")), False)


class QueryResponseSection(_Provided):
    expect: Regexp | None = None
    send: Annotated[Text, SECRET] = ""
    starttls: bool = False


class TcpProbeSection(_FamilySection):
    source_ip_address: Text = ""
    query_response: Annotated[tuple[QueryResponseSection, ...], BeforeValidator(several)] = ()
    tls: bool = False
    tls_config: ProbeTlsSection = ProbeTlsSection()

    def probe(self) -> probes.TcpProbe:
        steps = tuple(
            probes.TcpStep(
                None if one.expect is None else compiled(one.expect), one.send, one.starttls
            )
            for one in self.query_response
        )
        tls = self.tls_config.settings()
        return probes.TcpProbe(self.family(), self.source_ip_address, steps, self.tls, tls)


class RecordChecksSection(Section):
    fail_if_matches_regexp: Regexps = ()
    fail_if_all_match_regexp: Regexps = ()
    fail_if_not_matches_regexp: Regexps = ()
    fail_if_none_matches_regexp: Regexps = ()

    def checks(self) -> probes.RecordChecks:
        held = (
            *(self.fail_if_matches_regexp, self.fail_if_all_match_regexp),
            *(self.fail_if_not_matches_regexp, self.fail_if_none_matches_regexp),
        )
        return probes.RecordChecks(*(tuple(map(compiled, texts)) for texts in held))


class DnsProbeSection(_FamilySection):
    query_name: Annotated[Text, Field(min_length=1)]
    query_type: Annotated[Text, AfterValidator(_dns_type)] = "ANY"
    query_class: Literal["IN", "CS", "CH", "HS", "NONE", "ANY"] = "IN"
    recursion_desired: bool = True
    transport_protocol: Literal["udp", "tcp"] = "udp"
    dns_over_tls: bool = False
    source_ip_address: Text = ""
    valid_rcodes: Annotated[
        tuple[Annotated[Text, AfterValidator(_rcode)], ...], BeforeValidator(several)
    ] = ("NOERROR",)
    validate_answer_rrs: RecordChecksSection = RecordChecksSection()
    validate_authority_rrs: RecordChecksSection = RecordChecksSection()
    validate_additional_rrs: RecordChecksSection = RecordChecksSection()
    tls_config: ProbeTlsSection = ProbeTlsSection()

    @model_validator(mode="after")
    def _tcp_for_tls(self) -> "DnsProbeSection":
        if self.dns_over_tls and self.transport_protocol != "tcp":
            raise ValueError("dns_over_tls needs transport_protocol: tcp")
        return self

    def probe(self) -> probes.DnsProbe:
        return probes.DnsProbe(
            query_name=self.query_name,
            family=self.family(),
            query_type=self.query_type,
            query_class=self.query_class,
            recursion_desired=self.recursion_desired,
            transport=self.transport_protocol,
            over_tls=self.dns_over_tls,
            source_ip_address=self.source_ip_address,
            valid_rcodes=self.valid_rcodes or ("NOERROR",),
            answer=self.validate_answer_rrs.checks(),
            authority=self.validate_authority_rrs.checks(),
            additional=self.validate_additional_rrs.checks(),
            tls=self.tls_config.settings(),
        )


class IcmpProbeSection(_FamilySection):
    source_ip_address: Text = ""
    payload_size: Annotated[int, Field(ge=0, le=65_000)] = 0
    dont_fragment: bool = False
    ttl: Annotated[int, Field(ge=0, le=255)] = 64

    def probe(self) -> probes.IcmpProbe:
        about = (self.source_ip_address, self.payload_size, self.dont_fragment, self.ttl)
        return probes.IcmpProbe(self.family(), *about)


class GrpcProbeSection(_FamilySection):
    service: Text = ""
    tls: bool = False
    tls_config: ProbeTlsSection = ProbeTlsSection()

    def probe(self) -> probes.GrpcProbe:
        tls = self.tls_config.settings()
        return probes.GrpcProbe(self.service, self.family(), self.tls, tls)


_SECTIONS: Mapping[str, Any] = {
    "http": HttpProbeSection,
    "tcp": TcpProbeSection,
    "icmp": IcmpProbeSection,
    "grpc": GrpcProbeSection,
}


class ModuleSection(Section):
    prober: Literal["http", "tcp", "dns", "icmp", "grpc"]
    timeout: Annotated[float, BeforeValidator(_go_seconds)] = 0.0
    http: HttpProbeSection | None = None
    tcp: TcpProbeSection | None = None
    dns: DnsProbeSection | None = None
    icmp: IcmpProbeSection | None = None
    grpc: GrpcProbeSection | None = None

    @model_validator(mode="after")
    def _has_its_section(self) -> "ModuleSection":
        if self.prober == "dns" and self.dns is None:
            raise ValueError("a module of dns needs dns: {query_name: ...}")
        return self

    def module(self, name: str) -> probes.ProbeModule:
        own = (self.http, self.tcp, self.dns, self.icmp, self.grpc)
        given = dict(zip(("http", "tcp", "dns", "icmp", "grpc"), own, strict=True))
        section = given[self.prober] or _SECTIONS[self.prober]()
        return probes.ProbeModule(name, section.probe(), self.timeout, plain_yaml(self))


class ModulesFile(Section):
    modules: Annotated[Mapping[str, ModuleSection], Field(min_length=1)]


_BUILT_IN = """\
modules:
  http_2xx: {timeout: 10s, prober: http}
  http_post_2xx: {timeout: 10s, prober: http, http: {method: POST}}
  tcp_connect: {timeout: 10s, prober: tcp}
  tls_connect: {timeout: 10s, prober: tcp, tcp: {tls: true}}
  icmp: {timeout: 10s, prober: icmp}
  grpc: {timeout: 10s, prober: grpc, grpc: {tls: true}}
  grpc_plain: {timeout: 10s, prober: grpc}
"""


def load_modules(path: Path | None) -> Mapping[str, probes.ProbeModule]:
    """The modules of a file, those that come with us without one. Paths in it begin where it lies.
    Raises InvalidDocument with every place."""
    if path is None:
        document = parse(_BUILT_IN, "built-in modules")
        return _modules(validate(ModulesFile, document))
    try:
        text = file_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(str(path), error) from None
    return _modules(anchored(validate(ModulesFile, parse(text, str(path))), path.parent))


def probe_problems(document: Document, config: Config) -> list[Problem]:
    """What is wrong in the file of modules, or with the names of modules that targets have."""
    section = config.probes
    try:
        known = load_modules(section.config_file)
    except InvalidDocument as error:
        return list(error.problems)
    where = section.config_file or "the modules that come with us; name a file in config_file"
    return [
        document.problem(
            ("probes", "targets", number, "module"),
            f'no module is called "{name}" in {where}{did_you_mean(name, known)}',
        )
        for number, name in unknown_modules(section, list(known)).items()
    ]


def _modules(file: ModulesFile) -> Mapping[str, probes.ProbeModule]:
    return {name: section.module(name) for name, section in file.modules.items()}
