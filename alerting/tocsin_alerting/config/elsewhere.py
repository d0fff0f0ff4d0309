"""The sections of what an agent has elsewhere: engines of its rules, Alertmanagers, receivers."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.watching import (
    BasicAuthSection,
    HeaderName,
    HeaderText,
    HttpUrl,
    TlsSection,
    http_url,
    tls_settings,
)
from tocsin_alerting.rules.rule import RuleGroup
from tocsin_alerting.settings import (
    SECRET,
    Duration,
    FilePath,
    Interval,
    RefusedKey,
    Section,
    Words,
    several,
)
from tocsin_alerting.yaml_document import did_you_mean
from tocsin_exporter.engine_access import BasicAuth, EngineAccess

EMBEDDED = "embedded"
BUNDLED_FILES = "bundled"


def _protocol(value: object) -> object:
    if type(value) is not int or value not in (1, 2):
        raise ValueError("must be 1 or 2, for remote write 1.0 or 2.0")
    return value


def _engine_url(text: str) -> str:
    return text if text == EMBEDDED else http_url(text)


class ServerSection(Section):
    """A server of the operator's own, and the keys to it, as Prometheus has them."""

    url: HttpUrl
    timeout: Interval = 10_000
    headers: Annotated[Mapping[HeaderName, HeaderText], SECRET] = {}
    bearer_token: RefusedKey = None
    bearer_token_file: FilePath | None = None
    basic_auth: BasicAuthSection | None = None
    tls: TlsSection = TlsSection()

    @model_validator(mode="after")
    def _one_key(self) -> "ServerSection":
        named = any(name.lower() == "authorization" for name in self.headers)
        if sum(map(bool, (self.bearer_token_file, self.basic_auth, named))) > 1:
            raise ValueError("give one of bearer_token_file, basic_auth, Authorization in headers")
        return self

    @property
    def access(self) -> EngineAccess:
        """How it is reached; what the URL says is used where the keys say nothing."""
        access, given = EngineAccess.of(self.url), self.basic_auth
        login = BasicAuth(given.username, given.password_file) if given else access.basic_auth
        return EngineAccess(
            url=access.url,
            target=access.target,
            query=access.query,
            headers=dict(self.headers),
            bearer_token_file=self.bearer_token_file,
            basic_auth=None if self.bearer_token_file else login,
            tls=tls_settings(self.tls),
        )


class DatasourceSection(ServerSection):
    """Whom rules ask: the API of a Prometheus below `url`, or `embedded`, our own store.

    Each is asked about the time `offset` before the evaluation, unless its group has a
    `query_offset`. One that has answered nothing for `unreachable_after` is an incident.
    """

    url: Annotated[str, AfterValidator(_engine_url)]
    offset: Duration = 30_000
    timeout: Interval = 30_000
    unreachable_after: Interval = 60_000

    @property
    def embedded(self) -> bool:
        return self.url == EMBEDDED


class GroupDatasourceSection(DatasourceSection):
    """The same for the groups in `files` (paths or names, with `*`; `bundled` are ours) that have
    one of the names `groups` (with `*`)."""

    files: Annotated[Words, Field(min_length=1)] = ("*",)
    groups: Annotated[Words, Field(min_length=1)] = ("*",)

    @model_validator(mode="after")
    def _of_some(self) -> "GroupDatasourceSection":
        if not {"files", "groups"} & self.model_fields_set:
            raise ValueError("name the groups or the files that it is for; datasource is for all")
        return self

    def is_for(self, group: RuleGroup) -> bool:
        named = any(fnmatchcase(group.name, pattern) for pattern in self.groups)
        return named and any(_is_file(group.file, pattern) for pattern in self.files)


class AlertmanagerSection(ServerSection):
    """An Alertmanager that gets all alerts of rules, as Prometheus sends them: again every
    `resend_delay` while they fire."""

    resend_delay: Interval = 60_000


class RemoteWriteSection(ServerSection):
    """A receiver of samples at `url`: of what rules record and ALERTS, or of `all`."""

    send: Literal["rules", "all"] = "rules"
    protocol: Annotated[int, BeforeValidator(_protocol)] = 1
    timeout: Interval = 30_000


GroupDatasources = Annotated[tuple[GroupDatasourceSection, ...], BeforeValidator(several)]


Alertmanagers = Annotated[tuple[AlertmanagerSection, ...], BeforeValidator(several)]


RemoteWrites = Annotated[tuple[RemoteWriteSection, ...], BeforeValidator(several)]


def datasource_of(
    group: RuleGroup, every: DatasourceSection | None, some: tuple[GroupDatasourceSection, ...]
) -> DatasourceSection | None:
    """Where `group` is evaluated: the first of `some` that is for it, else `every`; None is our
    own store."""
    found = next((one for one in some if one.is_for(group)), every)
    return None if found is None or found.embedded else found


def stray_entries(
    some: Sequence[GroupDatasourceSection], groups: Sequence[RuleGroup]
) -> Iterator[str]:
    """The entries that are for no group, in words."""
    names = {group.name for group in groups}
    for number, one in enumerate(some):
        if not any(map(one.is_for, groups)):
            near = "".join(did_you_mean(name, names) for name in one.groups if name not in names)
            of = f"groups {', '.join(one.groups)} of files {', '.join(one.files)}"
            yield f"group_datasources[{number}] is for no rule group: no {of}{near}"


def _is_file(path: str, pattern: str) -> bool:
    if pattern == BUNDLED_FILES:
        return PurePath(path).parent == PurePath(str(bundled("rules")))
    return fnmatchcase(path, pattern) or fnmatchcase(PurePath(path).name, pattern)
