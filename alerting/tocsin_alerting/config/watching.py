"""The sections that say what is watched, how often, and where it is kept and served."""

import pwd
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting import settings
from tocsin_alerting.settings import (
    SECRET,
    Bytes,
    Duration,
    FilePath,
    Interval,
    RefusedKey,
    Section,
    Words,
    several,
)
from tocsin_exporter.engine_access import BasicAuth, EngineAccess, Tls
from tocsin_exporter.engine_targets import EngineTargets
from tocsin_exporter.targets import ENGINE_AREA, SCRAPE_CONFIGS

WITH_FRAGMENT = "a server never sees what follows the # of a URL: leave it out, or write %23"
MAX_INSTANCE_LENGTH = 253  # as a host's name


def http_url(text: str) -> str:
    settings.http_url(text, "http://127.0.0.1:8000")
    if "#" in text:
        raise ValueError(WITH_FRAGMENT)
    return text


def _optional_http_url(text: str) -> str:
    return http_url(text) if text else text


def _network(text: str) -> str:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("not an address or network like 10.0.0.7 or 10.0.0.0/24") from None
    if getattr(network.network_address, "ipv4_mapped", None):  # clients have their IPv4 address
        raise ValueError("write it as one of IPv4, like 10.0.0.7 or 10.0.0.0/24")
    return text


def _listen_address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError("not a listen address like 127.0.0.1:4911")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address goes into brackets, like [::1]:4911")
    return text


def label_value(text: str) -> str:
    if not text.isprintable() or text != text.strip() or len(text) > MAX_INSTANCE_LENGTH:
        raise ValueError(f"not a name of at most {MAX_INSTANCE_LENGTH} printable characters")
    return text


def _metrics_path(text: str) -> str:
    if text and not (text.startswith("/") and text.isprintable() and not set(text) & set(" ?#")):
        raise ValueError('not a path like /metrics, nor "" for an engine without metrics')
    return text


def _one_or_several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _job(text: str) -> str:
    if text == SCRAPE_CONFIGS[ENGINE_AREA].job:
        raise ValueError(f"{text} is the job of our own translation; choose another")
    return text


def header_text(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("a header carries plain ASCII only")
    return value


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
        raise ValueError("not a header that can be set; remove it")
    return name


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED_HEADERS = ("host", "content-length", "transfer-encoding", "connection")
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderText = Annotated[str, AfterValidator(header_text)]
HttpUrl = Annotated[str, AfterValidator(http_url)]
OptionalHttpUrl = Annotated[str, AfterValidator(_optional_http_url)]


class CollectSection(Section):
    """How often each source is read; 0s turns one off."""

    host: Duration = 5_000
    gpu: Duration = 1_000
    engines: Duration = 5_000
    processes: Duration = 15_000


class BasicAuthSection(Section):
    """As Prometheus's `basic_auth`, with the password in a file alone."""

    username: str = Field(min_length=1)
    password: RefusedKey = None
    password_file: FilePath | None = None


class TlsSection(Section):
    """As Prometheus's `tls_config`."""

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False


def tls_settings(section: TlsSection) -> Tls:
    return Tls(**{name: getattr(section, name) for name in TlsSection.model_fields})


class TargetsSection(Section):
    """What an engine is to reach; a key that is null alerts nobody. Medians, but `latency_p95`."""

    latency_p50: Interval | None = None
    latency_p95: Interval | None = None
    first_token: Interval | None = None
    per_token: Interval | None = None
    tokens_per_second: Annotated[float, Field(gt=0)] | None = None

    @property
    def of_an_engine(self) -> EngineTargets:
        names = ("latency_p50", "latency_p95", "first_token", "per_token")
        times = {name: getattr(self, name) for name in names}
        seconds = {name: None if ms is None else ms / 1000 for name, ms in times.items()}
        return EngineTargets(**seconds, tokens_per_second=self.tokens_per_second)


class EngineSection(Section):
    """An inference engine to watch, by the URL below which it serves /metrics.

    `metrics_path` is where else its metrics are, "" that it has none. `params` go with requests for
    the metrics, `headers` and keys with every request. `keep_original` keeps the engine's own
    series as well, under `job` or else the type of the engine. `targets` are in place of the
    common ones. `log_file` is the file that vLLM logs to, for the memory that it has. `proxy` is
    where the metrics are of a `tocsin proxy` before it.
    """

    url: HttpUrl
    metrics_path: Annotated[str, AfterValidator(_metrics_path)] | None = None
    params: Annotated[Mapping[str, Annotated[Words, BeforeValidator(_one_or_several)]], SECRET] = {}
    headers: Annotated[
        Mapping[HeaderName, Annotated[str, AfterValidator(header_text)]], SECRET
    ] = {}
    bearer_token: RefusedKey = None
    bearer_token_file: FilePath | None = None
    basic_auth: BasicAuthSection | None = None
    tls: TlsSection = TlsSection()
    keep_original: bool = True
    job: Annotated[str, AfterValidator(_job)] = ""
    targets: TargetsSection | None = None
    log_file: FilePath | None = None
    proxy: HttpUrl | None = None

    @model_validator(mode="after")
    def _one_key(self) -> "EngineSection":
        named = any(name.lower() == "authorization" for name in self.headers)
        if sum(map(bool, (self.bearer_token_file, self.basic_auth, named))) > 1:
            raise ValueError("give one of bearer_token_file, basic_auth, Authorization in headers")
        return self

    @property
    def access(self) -> EngineAccess:
        """How it is reached; what the URL says is used where the keys say nothing."""
        access, given = EngineAccess.of(self.url), self.basic_auth
        login = BasicAuth(given.username, given.password_file) if given else access.basic_auth
        path = access.metrics_path if self.metrics_path is None else self.metrics_path
        params = ((name, value) for name, values in self.params.items() for value in values)
        return replace(
            access,
            metrics_path=path,
            params=tuple(params),
            headers=dict(self.headers),
            bearer_token_file=self.bearer_token_file,
            basic_auth=None if self.bearer_token_file else login,
            tls=tls_settings(self.tls),
            keep_original=self.keep_original,
            job=self.job,
            targets=self.targets.of_an_engine if self.targets else None,
            log_file=self.log_file,
            proxy=EngineAccess.of(self.proxy) if self.proxy else None,
        )


def engine_list(value: object) -> object:
    if isinstance(value, dict) and "allow_users" in value:
        raise ValueError("a list of engines; to allow users, write discovery: {allow_users: [...]}")
    return several(value)


def _users(value: object) -> object:
    """Names as they are, numbers as YAML has them."""
    if not isinstance(value, list):
        return value
    return tuple(str(user) if type(user) is int else user for user in value)


def _user_id(text: str) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, OSError, ValueError):
        return None


class DiscoverySection(Section):
    """Engines that are found by themselves belong to root, the agent's own user, the one who ran
    `tocsin service install`, or one of `allow_users`, by name or number.

    One who has left, or a directory of users that does not answer, must not keep the agent from
    starting: `unknown_users` are told, and nobody's engine is found by their names.
    """

    allow_users: Annotated[Words, BeforeValidator(_users)] = ()

    def user_ids(self) -> frozenset[int]:
        return frozenset(uid for user in self.allow_users if (uid := _user_id(user)) is not None)

    def unknown_users(self) -> list[tuple[str, str]]:
        """Each name that is nobody's here, and the user's that is the nearest, if any is near."""
        unknown = [user for user in self.allow_users if _user_id(user) is None]
        names = [user.pw_name for user in pwd.getpwall()] if unknown else []
        return [(user, next(iter(get_close_matches(user, names, 1)), "")) for user in unknown]


class RestartSection(Section):
    """After `max` restarts in a row the worker is given up; `backoff` doubles from one to next."""

    max: int = Field(default=5, ge=0)
    backoff: Interval = 1_000


class WorkerSection(Section):
    """Our own engine, a demo: started only where none is found, on a port that no engine wants."""

    enabled: bool = True
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=4912, ge=1, le=65535)
    device: Literal["cpu", "cuda"] = "cpu"
    model_path: str | None = Field(default=None, min_length=1)
    restart: RestartSection = RestartSection()


class ProcessGroupSection(Section):
    """Processes counted under one name: found by the process's name (`comm`), its executable or
    script, with or without a path (`exe`), or a regular expression on name and command line
    (`cmdline`)."""

    name: str = Field(min_length=1)
    comm: str | None = Field(default=None, min_length=1)
    exe: str | None = Field(default=None, min_length=1)
    cmdline: Annotated[str, AfterValidator(settings.regular_expression)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "ProcessGroupSection":
        if sum(key is not None for key in (self.comm, self.exe, self.cmdline)) != 1:
            raise ValueError("give exactly one of comm, exe and cmdline")
        return self


def _host_name(text: str) -> str:
    if re.fullmatch(r"[^\s\[\]:/?#@*,]+", text) is None:
        raise ValueError(f"{text!r} is no host name: give one name, without scheme and port")
    return text


class StorageSection(Section):
    """`path` is relative to the directory in which the agent is started. Samples are deleted when
    they are older than `retention`, and the oldest while they take more than `size`."""

    path: str = Field(default="data", min_length=1)
    retention: Interval = 15 * 86_400_000
    size: Bytes = 2 * 2**30


class LinksSection(Section):
    """`enabled`: messages carry a link by which their addressee answers."""

    enabled: bool = True


class WebSection(Section):
    """`token_file` holds a token of the role admin; `open` lets everybody read who can connect;
    `allow_hosts` are names, without a port, by which the agent may be asked besides its own.
    `trusted_proxies` are addresses and networks from which many may come at once. `config_file` is
    exporter-toolkit's web configuration, and `roles` those of its users."""

    listen_address: Annotated[str, AfterValidator(_listen_address)] = "127.0.0.1:4911"
    config_file: FilePath | None = None
    roles: dict[str, Literal["read", "respond", "admin"]] = {}
    token_file: FilePath | None = None
    open: bool = False
    allow_hosts: list[Annotated[str, AfterValidator(_host_name)]] = []
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = []
