"""The section of a webhook receiver, and what of it becomes a request: URL, headers, secrets."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.incidents.notification import MAX_ALERTS
from tocsin_alerting.notify.http_sender import HttpSettings, UrlSettings
from tocsin_alerting.notify.secret import Secret, Vault
from tocsin_alerting.settings import SECRET, FilePath, RefusedKey, several

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FilePaths = Annotated[tuple[FilePath, ...], BeforeValidator(several), Field(max_length=4)]
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection"}
)


def _checked_max_alerts(max_alerts: int) -> int:
    if max_alerts > MAX_ALERTS:
        most = f"a message has at most {MAX_ALERTS} alerts and counts the rest in truncatedAlerts"
        raise ValueError(
            f"{max_alerts} is too many: {most}; give 1 to {MAX_ALERTS}, or 0 for as many as fit"
        )
    return max_alerts


class WebhookSettings(UrlSettings, HttpSettings):
    """A `secret` signs, a token authorises. `secret_files`: the new one first, while receivers
    change over. `cloudevents`: whether its attributes stand in the body or in headers. `template`:
    a file of the directory `templates`, which makes the body instead."""

    type: Literal["webhook"]
    format: Literal["alertmanager_v4", "cloudevents", "standard_webhooks"] = "alertmanager_v4"
    cloudevents: Literal["structured", "binary"] = "structured"
    template: str | None = None
    allow_link_local: bool = False
    secret: RefusedKey = None
    secret_file: FilePath | None = None
    secret_env: str | None = None
    secret_files: FilePaths = ()
    bearer_token: RefusedKey = None
    bearer_token_file: FilePath | None = None
    bearer_token_env: str | None = None
    headers: Annotated[Mapping[str, str], SECRET] = {}
    header_files: Mapping[str, FilePath] = {}
    max_alerts: Annotated[int, AfterValidator(_checked_max_alerts)] = Field(default=0, ge=0)
    extra: bool = True

    @model_validator(mode="after")
    def _one_way_to_sign(self) -> "WebhookSettings":
        given = (self.secret_file, self.secret_env, self.secret_files or None)
        if sum(key is not None for key in given) > 1:
            raise ValueError("give one of secret_file, secret_env and secret_files")
        if self.template is not None and self.format != "alertmanager_v4":
            raise ValueError("give one of format and template")
        return self


def signing_keys(settings: WebhookSettings, vault: Vault) -> tuple[Secret, ...]:
    """The secrets that sign, the newest first."""
    one = vault.secret(settings.secret_file, settings.secret_env)
    more = (vault.secret(file, None) for file in settings.secret_files)
    return tuple(secret for secret in (one, *more) if secret)


def request_headers(settings: WebhookSettings, vault: Vault) -> dict[str, str]:
    """The configured headers with their secrets. Raises ValueError for what HTTP cannot carry."""
    secrets = {name: vault.secret(file, None) for name, file in settings.header_files.items()}
    headers = {
        **settings.headers,
        **{name: value.value for name, value in secrets.items() if value},
    }
    token = vault.secret(settings.bearer_token_file, settings.bearer_token_env)
    if token:
        headers["Authorization"] = f"Bearer {token.value}"
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"header {name!r} cannot be set; remove it")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"header {name} has a value that HTTP cannot carry; use plain ASCII")
    return headers
