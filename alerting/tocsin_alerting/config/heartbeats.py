"""The section of heartbeats: who outside hears that we live, and of whom we hear."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, model_validator

from tocsin_alerting.incidents.heartbeats import (
    DEFAULT_GRACE_MS,
    OWN_LABELS,
    ExpectedHeartbeat,
)
from tocsin_alerting.notify.heartbeat import HeartbeatOutSettings
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.settings import (
    Duration,
    FilePath,
    Interval,
    RefusedKey,
    Section,
    several,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LEAST_TOKEN = 16


def heartbeat_name(text: str) -> str:
    """It stands in a URL. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f'"{text[:80]}" is no name of a heartbeat; use up to 64 letters, digits, ".", "_"'
            ' and "-"'
        )
    return text


def heartbeat_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Raises ValueError for those that are ours, or none."""
    for name in labels:
        if name in OWN_LABELS:
            how = "set severity beside labels" if name == "severity" else "leave it out"
            raise ValueError(f'the label "{name}" is set by itself; {how}')
        if not _LABEL.fullmatch(name):
            raise ValueError(f'"{name[:80]}" is no name of a label; use letters, digits and "_"')
    return labels


def severity_named(value: object) -> Severity:
    """Raises ValueError."""
    if not isinstance(value, str) or value not in Severity.__members__:
        raise ValueError(f"must be one of {', '.join(Severity)}")
    return Severity(value)


class ExpectedHeartbeatSection(Section):
    """One of `token_file` and `token_env` holds its token."""

    every: Interval
    grace: Duration = DEFAULT_GRACE_MS
    severity: Annotated[Severity, BeforeValidator(severity_named)] = Severity.P2
    labels: Annotated[dict[str, str], AfterValidator(heartbeat_labels)] = {}
    annotations: dict[str, str] = {}
    token: RefusedKey = None
    token_file: FilePath | None = None
    token_env: str | None = None

    @model_validator(mode="after")
    def _one_token(self) -> "ExpectedHeartbeatSection":
        if (self.token_file is None) == (self.token_env is None):
            raise ValueError("give one of token_file and token_env")
        return self

    def expected(self, name: str) -> ExpectedHeartbeat:
        labels, annotations = (tuple(sorted(m.items())) for m in (self.labels, self.annotations))
        return ExpectedHeartbeat(name, self.every, self.grace, self.severity, labels, annotations)

    def token_text(self, vault: Vault) -> str:
        """Raises ValueError, which does not show it."""
        secret = vault.secret(self.token_file, self.token_env)
        assert secret is not None, "one of the keys is given"
        text = secret.value.strip()
        if len(text) < _LEAST_TOKEN or not text.isascii() or not text.isprintable():
            raise ValueError(
                f"the token must be at least {_LEAST_TOKEN} characters of printable ASCII; make"
                " one with `openssl rand -hex 32`"
            )
        return text


class HeartbeatsSection(Section):
    """`out` are pinged while all is well with us, `expected` come from others, by name."""

    out: Annotated[tuple[HeartbeatOutSettings, ...], BeforeValidator(several)] = ()
    expected: dict[Annotated[str, AfterValidator(heartbeat_name)], ExpectedHeartbeatSection] = {}
