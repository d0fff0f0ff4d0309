"""The section of a webhook receiver, and what of it becomes a request: URL, headers, secrets."""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from tocsin_alerting.incidents.notification_builder import MAX_ALERTS
from tocsin_alerting.notify.secret import Secret, Vault
from tocsin_alerting.settings import FilePath, Interval, RefusedKey, Section

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MIN_SECRET_LENGTH = 6  # a shorter path or query value is no secret, and hiding it hides the error
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection"}
)


def _usable_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise ValueError("the URL is not one like https://host:port/path; correct it")
    return url


def _checked_max_alerts(max_alerts: int) -> int:
    if max_alerts > MAX_ALERTS:
        most = f"a message has at most {MAX_ALERTS} alerts and counts the rest in truncatedAlerts"
        raise ValueError(
            f"{max_alerts} is too many: {most}; give 1 to {MAX_ALERTS}, or 0 for as many as fit"
        )
    return max_alerts


class WebhookSettings(Section):
    """One of `url`, `url_file` and `url_env` says where; a `secret` signs, a token authorises."""

    type: Literal["webhook"]
    url: Annotated[str, AfterValidator(_usable_url)] | None = None
    url_file: FilePath | None = None
    url_env: str | None = None
    secret: RefusedKey = None
    secret_file: FilePath | None = None
    secret_env: str | None = None
    bearer_token: RefusedKey = None
    bearer_token_file: FilePath | None = None
    bearer_token_env: str | None = None
    headers: Mapping[str, str] = {}
    header_files: Mapping[str, FilePath] = {}
    timeout: Interval = 10_000
    send_resolved: bool = True
    max_alerts: Annotated[int, AfterValidator(_checked_max_alerts)] = Field(default=0, ge=0)
    extra: bool = True
    ca_file: FilePath | None = None
    insecure_skip_verify: bool = False
    proxy_from_environment: bool = False

    @model_validator(mode="after")
    def _one_url(self) -> "WebhookSettings":
        if sum(key is not None for key in (self.url, self.url_file, self.url_env)) != 1:
            raise ValueError("give exactly one of url, url_file and url_env")
        return self


def target_url(settings: WebhookSettings, vault: Vault) -> Secret:
    """Where to post. Raises ValueError, which does not show it."""
    secret = vault.secret(settings.url_file, settings.url_env)
    return Secret(_usable_url(secret.value if secret else settings.url or ""))


def request_headers(settings: WebhookSettings, vault: Vault) -> dict[str, str]:
    """The configured headers with their secrets. Raises ValueError for what HTTP cannot carry."""
    secret = {name: vault.secret(file, None) for name, file in settings.header_files.items()}
    headers = {**settings.headers, **{name: one.value for name, one in secret.items() if one}}
    token = vault.secret(settings.bearer_token_file, settings.bearer_token_env)
    if token:
        headers["Authorization"] = f"Bearer {token.value}"
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"header {name!r} cannot be set; remove it")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"header {name} has a value that HTTP cannot carry; use plain ASCII")
    return headers


def secrets_of(url: str, headers: Iterable[str]) -> tuple[str, ...]:
    """Everything that an error must not repeat: the URL beyond its host, and header values."""
    parts = urlsplit(url)
    values = [pair.partition("=")[2] for pair in parts.query.split("&")]
    secrets = [
        secret
        for secret in (url, parts.query, parts.path, parts.fragment, *values)
        if len(secret) >= _MIN_SECRET_LENGTH
    ]
    if parts.password or parts.username:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        secrets += [basic, password, parts.password or "", parts.netloc.rpartition("@")[0]]
        secrets += [] if password else [user]
    for value in headers:
        secrets += [value, value.removeprefix("Bearer ")]
    return tuple(secret for secret in secrets if secret)


def without_secrets(url: str) -> str:
    """The part of a URL that is no secret: scheme, host and port."""
    parts: SplitResult = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
