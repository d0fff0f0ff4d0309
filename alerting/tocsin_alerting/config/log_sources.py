"""The section `logs`: whose lines are read, and what is looked for in them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.settings import Bytes, Section, Words, several
from tocsin_alerting.yaml_document import file_text, parse, unreadable
from tocsin_alerting.yaml_model import validate
from tocsin_exporter.tailing.budget import Limits
from tocsin_exporter.tailing.levels import compiled, own_levels
from tocsin_exporter.tailing.library import GROUPS, known_patterns
from tocsin_exporter.tailing.settings import Containers, JournalUnits, LogPattern, LogSource

MOST_SOURCES = 16  # each has a thread
MOST_OWN_PATTERNS = 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PATTERN_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_KERNEL = ("kernel",)
_ELSEWHERE = ("engine", "gpu", "web", "system")


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no name: letters, digits, _ . and -, at most 64")
    return text


def _paths(paths: Sequence[str]) -> Sequence[str]:
    for path in paths:
        if not path.startswith("/") or "\0" in path:
            raise ValueError(
                f"{path!r} is no whole path; write it from / on, like /var/log/x/*.log"
            )
    return paths


def _level(text: str) -> str:
    if text:
        own_levels(text)
    return text


def _known(names: Sequence[str]) -> Sequence[str]:
    """Groups and names of patterns that come with us."""
    known = [*GROUPS, *known_patterns()]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"groups are {', '.join(GROUPS)}"
            raise ValueError(f"there is no pattern {name}; {hint}")
    return names


def _own(patterns: Mapping[str, str]) -> Mapping[str, str]:
    for name, regex in patterns.items():
        if _PATTERN_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name: small letters, digits and _, at most 60")
        if name in known_patterns() or name in GROUPS:
            raise ValueError(f"{name} is the name of a bundled pattern; take another one")
        try:
            matches_all = compiled(regex).search(b"") is not None
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if matches_all:
            raise ValueError(f"{name}: it matches an empty line, so it matches every line")
    if len(patterns) > MOST_OWN_PATTERNS:
        raise ValueError(f"more than {MOST_OWN_PATTERNS} patterns; make another source of some")
    return patterns


class JournaldSection(Section):
    """Messages of units, and of the kernel."""

    units: Words = ()
    kernel: bool = False

    @model_validator(mode="after")
    def _something(self) -> "JournaldSection":
        if not self.units and not self.kernel:
            raise ValueError("give units, kernel: true, or both")
        for unit in self.units:
            if re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,200}", unit) is None:
                raise ValueError(f"{unit!r} is no name of a unit; there is no * in it")
        return self


class ContainersSection(Section):
    """Names as Docker has them, and pods as `NAMESPACE/POD/CONTAINER`; both with `*`."""

    names: Words = ()
    pods: Words = ()

    @model_validator(mode="after")
    def _something(self) -> "ContainersSection":
        if not self.names and not self.pods:
            raise ValueError('give names or pods, like names: ["vllm*"]')
        for pod in self.pods:
            if pod.count("/") != 2:
                raise ValueError(f"{pod!r} is not NAMESPACE/POD/CONTAINER, like llm/vllm-*/*")
        return self


class LogLimitsSection(Section):
    """`lines` and `bytes` a second that are matched. Of a log that is more than `behind` late, the
    older lines are lost, and counted."""

    lines: Annotated[int, Field(ge=10, le=1_000_000)] = 20_000
    bytes: Bytes = 4 << 20
    behind: Bytes = 16 << 20


class LogSection(Section):
    """One of `paths`, `containers` and `journald`. `patterns` are ours by name or group;
    `own_patterns` are expressions of RE2 by name. With `evidence: send`, messages of incidents
    carry the last matching lines too."""

    name: Annotated[str, AfterValidator(_name)]
    paths: Annotated[Words, AfterValidator(_paths)] = ()
    containers: ContainersSection | None = None
    journald: JournaldSection | None = None
    patterns: Annotated[Words, AfterValidator(_known)] | None = None
    own_patterns: Annotated[Mapping[str, str], AfterValidator(_own)] = {}
    level: Annotated[str, AfterValidator(_level)] = ""
    limits: LogLimitsSection = LogLimitsSection()
    evidence: Literal["keep", "send"] = "keep"

    @model_validator(mode="after")
    def _one_way(self) -> "LogSection":
        ways = (bool(self.paths), self.containers is not None, self.journald is not None)
        if sum(ways) != 1:
            raise ValueError("give exactly one of paths, containers and journald")
        return self

    def source(self) -> LogSource:
        containers, journald, limits = self.containers, self.journald, self.limits
        return LogSource(
            self.name,
            self.paths,
            Containers(containers.names, containers.pods) if containers else None,
            JournalUnits(journald.units, journald.kernel) if journald else None,
            tuple(self._patterns()),
            self.level,
            Limits(limits.lines, limits.bytes, limits.behind),
        )

    def _patterns(self) -> Iterable[LogPattern]:
        wanted = self._usual() if self.patterns is None else self.patterns
        for name, one in known_patterns().items():
            if name in wanted or one.group in wanted:
                yield one
        for name, regex in self.own_patterns.items():
            yield LogPattern(name, regex)

    def _usual(self) -> Sequence[str]:
        if self.journald is None:
            return _ELSEWHERE
        return (*(_ELSEWHERE if self.journald.units else ()),
                *(_KERNEL if self.journald.kernel else ()))  # fmt: skip


def _several_names(sections: tuple[LogSection, ...]) -> tuple[LogSection, ...]:
    names = [section.name for section in sections]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two sources have the name {name}; give each a name of its own")
    if len(names) > MOST_SOURCES:
        raise ValueError(f"more than {MOST_SOURCES} sources; one takes several paths")
    return sections


Logs = Annotated[tuple[LogSection, ...], BeforeValidator(several), AfterValidator(_several_names)]


class LogsFile(Section):
    """The file of `tocsin exporter --logs.config`."""

    logs: Logs = ()


def load_logs_file(path: Path | None) -> list[LogSource]:
    """Raises InvalidDocument, with every place."""
    if path is None:
        return []
    try:
        document = parse(file_text(path), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(str(path), error) from None
    return [section.source() for section in validate(LogsFile, document).logs]
