"""Modules of blackbox_exporter: what a probe does and when it has succeeded.

Keys and defaults: blackbox_exporter's CONFIGURATION.md; those of TLS and of HTTP clients are of
prometheus/common. Times are seconds. Secrets are kept out of every repr.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Pattern: TypeAlias = Any  # a compiled regular expression of RE2, as Go's


@dataclass(frozen=True, slots=True)
class TlsClient:
    """As `tls_config`. `ca`, `cert` and `key` are PEM; `min_version` as TLS12."""

    ca: str = ""
    cert: str = ""
    key: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False
    min_version: str = ""
    max_version: str = ""


@dataclass(frozen=True, slots=True)
class IpChoice:
    """Which IP version is probed; with `fallback` the other one where that has no address."""

    preferred: str = "ip6"
    fallback: bool = True


@dataclass(frozen=True, slots=True)
class ProbeLogin:
    """What is sent as Authorization: a user and a password, or a scheme and credentials."""

    scheme: str = "Basic"
    username: str = ""
    username_file: Path | None = None
    secret: str = field(default="", repr=False)
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    header: str
    regexp: Pattern
    allow_missing: bool = False


@dataclass(frozen=True, slots=True)
class HttpProbe:
    family: IpChoice = IpChoice()
    valid_status_codes: tuple[int, ...] = ()
    valid_http_versions: tuple[str, ...] = ()
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    header_files: tuple[tuple[str, Path], ...] = ()
    secret_headers: frozenset[str] = frozenset()  # names in small letters
    body: str = field(default="", repr=False)
    body_file: Path | None = None
    fail_if_ssl: bool = False
    fail_if_not_ssl: bool = False
    fail_if_body_matches: tuple[Pattern, ...] = ()
    fail_if_body_not_matches: tuple[Pattern, ...] = ()
    fail_if_header_matches: tuple[HeaderMatch, ...] = ()
    fail_if_header_not_matches: tuple[HeaderMatch, ...] = ()
    compression: str = ""
    body_size_limit: int = 0
    follow_redirects: bool = True
    http2: bool = True
    login: ProbeLogin | None = None
    tls: TlsClient = TlsClient()


@dataclass(frozen=True, slots=True)
class TcpStep:
    """One step: what must come, what is sent then, whether TLS begins."""

    expect: Pattern | None = None
    send: str = ""
    starttls: bool = False


@dataclass(frozen=True, slots=True)
class TcpProbe:
    family: IpChoice = IpChoice()
    source_ip_address: str = ""
    query_response: tuple[TcpStep, ...] = ()
    use_tls: bool = False
    tls: TlsClient = TlsClient()


@dataclass(frozen=True, slots=True)
class RecordChecks:
    """Regular expressions for the records of one section of a DNS answer."""

    fail_if_matches: tuple[Pattern, ...] = ()
    fail_if_all_match: tuple[Pattern, ...] = ()
    fail_if_not_matches: tuple[Pattern, ...] = ()
    fail_if_none_matches: tuple[Pattern, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsProbe:
    query_name: str
    family: IpChoice = IpChoice()
    query_type: str = "ANY"
    query_class: str = "IN"
    recursion_desired: bool = True
    transport: str = "udp"
    over_tls: bool = False
    source_ip_address: str = ""
    valid_rcodes: tuple[str, ...] = ("NOERROR",)
    answer: RecordChecks = RecordChecks()
    authority: RecordChecks = RecordChecks()
    additional: RecordChecks = RecordChecks()
    tls: TlsClient = TlsClient()


@dataclass(frozen=True, slots=True)
class IcmpProbe:
    family: IpChoice = IpChoice()
    source_ip_address: str = ""
    payload_size: int = 0
    dont_fragment: bool = False
    ttl: int = 64


@dataclass(frozen=True, slots=True)
class GrpcProbe:
    service: str = ""
    family: IpChoice = IpChoice()
    use_tls: bool = False
    tls: TlsClient = TlsClient()


Probe: TypeAlias = HttpProbe | TcpProbe | DnsProbe | IcmpProbe | GrpcProbe


@dataclass(frozen=True, slots=True)
class ProbeModule:
    """`timeout` in seconds, 0 for none of its own; `shown` is the configuration in words, without
    secrets, for `debug=true`."""

    name: str
    probe: Probe
    timeout: float = 0.0
    shown: str = ""
