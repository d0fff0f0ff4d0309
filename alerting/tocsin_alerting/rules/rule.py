"""What a rule file says, read and checked: groups of alerting and recording rules."""

from dataclasses import dataclass, field
from typing import TypeAlias

from tocsin_alerting.promql.parser.ast import Expr
from tocsin_exporter.series import Labels


@dataclass(frozen=True, slots=True)
class FilePosition:
    """Where something stands; `line` and `column` count from 1."""

    file: str
    line: int
    column: int


NOWHERE = FilePosition("", 1, 1)


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """`uid` is `group/alertname/n`, n counting equal names in the group.

    `labels` are the group's with the rule's over them, sorted, not yet expanded. Places take no
    part in equality: a rule that moved in its file is the same rule.
    """

    uid: str
    name: str
    expr: str
    query: Expr
    for_ms: int = 0
    keep_firing_for_ms: int = 0
    labels: Labels = ()
    annotations: Labels = ()
    place: FilePosition = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """`name` is the metric that it writes; the rest is as in AlertingRule."""

    uid: str
    name: str
    expr: str
    query: Expr
    labels: Labels = ()
    place: FilePosition = field(default=NOWHERE, compare=False)


Rule: TypeAlias = AlertingRule | RecordingRule


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that run one after the other at one time. None means the global setting."""

    file: str
    name: str
    rules: tuple[Rule, ...]
    interval_ms: int | None = None
    query_offset_ms: int | None = None
    limit: int = 0
    labels: Labels = ()
    place: FilePosition = field(default=NOWHERE, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        return self.file, self.name


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The groups of one file, in its order."""

    path: str
    groups: tuple[RuleGroup, ...]
