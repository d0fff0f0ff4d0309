"""All that the files of a configuration say, read and checked as a whole; nothing of it holds yet.

The start reads it, and each reload again. What a running agent cannot change keeps the value with
which it was started, and is named (`needs_restart`).
"""

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel

from tocsin_alerting.bundled import bundled, names_a_pack, rule_packs
from tocsin_alerting.config.calendars import calendar_reader
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.config_copy import is_empty
from tocsin_alerting.config.load import (
    Calendars,
    channel_deps,
    heartbeat_tokens,
    message_templates,
    own_templates,
    signed_links,
)
from tocsin_alerting.config.probe_modules import load_modules
from tocsin_alerting.config.rule_copies import RuleCopies
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.contact_ways import contact_key
from tocsin_alerting.notify.heartbeat import HeartbeatPing
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.own_templates import OwnTemplates
from tocsin_alerting.notify.registry import CHANNELS
from tocsin_alerting.notify.secret import ReadFile, Vault
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.notify.template_check import template_problems
from tocsin_alerting.promql.parser.types import refuse_unsupported
from tocsin_alerting.rules.meta_alerts import switched
from tocsin_alerting.rules.rule import RuleFile, RuleGroup
from tocsin_alerting.rules.rule_file import BrokenRuleFile, KnownRuleFile, load_usable
from tocsin_alerting.rules.rule_file import load as load_rules
from tocsin_alerting.yaml_document import InvalidDocument, file_text, read_text, unreadable
from tocsin_exporter.files import file_bytes
from tocsin_exporter.probes.modules import ProbeModule

STARTED_WITH = (
    "collect",
    "collectors",
    "datasource",
    "external_url",
    "gpus",
    "group_datasources",
    "instance",
    "language",
    "links",
    "processes",
    "promql",
    "time_zone",
    "web",
    "worker",
)
"""The keys that a running agent cannot change; of `storage` that is the path, and of `engines`
whether there are any: without them, engines are looked for."""
_LOOKED_AT_WHERE_USED = (*STARTED_WITH, "alertmanagers", "engines", "remote_write")

_MOST_BYTES = 1 << 20  # of a file whose digest is compared

Stamps = Mapping[str, tuple[int, ...]]
"""Of each file what changes when it does; () where there is none."""


@dataclass(frozen=True, slots=True)
class BuiltChannel:
    """A receiver's channel with all that it was made of: its section, the digests of the files that
    it names, and the addresses of contacts."""

    channel: Channel
    settings: Any
    files: Mapping[Path, str]
    addresses: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """`config` is what holds once this is in force. `rule_texts` are the texts of rule files, by
    their paths; `needs_restart` are the keys whose new value takes one. `text` is what the
    configuration file said, None where there is none; `broken` is what is wrong in it, where its
    last good copy was read in its place. `stamps` are of all that was read."""

    config: Config
    rules: Sequence[RuleFile]
    broken_rules: Sequence[BrokenRuleFile] = ()
    rule_texts: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, BuiltChannel] = field(default_factory=dict)
    heartbeats: Sequence[HeartbeatPing] = ()
    heartbeat_files: Mapping[Path, str] = field(default_factory=dict)
    heartbeat_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    templates: OwnTemplates = field(default_factory=OwnTemplates)
    calendars: Calendars = field(default_factory=dict)
    probe_modules: Mapping[str, ProbeModule] = field(default_factory=dict)
    needs_restart: Sequence[str] = ()
    text: str | None = field(default=None, repr=False)
    broken: str = ""
    stamps: Stamps = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Nothing stands in the configuration file."""
        return self.text is not None and is_empty(self.text)


class ConfigReader:
    """`load` gives the configuration of the command line and its file, which says the text that it
    is given, and raises InvalidDocument. A method takes seconds, and may wait for the disk: it is
    for a thread."""

    def __init__(
        self,
        load: Callable[[str | None], Config],
        config_file: Path | None = None,
        env: Mapping[str, str] = os.environ,
        read_file: ReadFile = file_text,
    ) -> None:
        self._load, self._env, self._read_file = load, env, read_file
        self.config_file = config_file
        self.links = SignedLinks()
        self.started: Stamps = {}

    def first(
        self, config: Config, *, strict: bool, text: str | None = None, broken: str = ""
    ) -> ReadConfig:
        """For the start, which a bad rule file does not keep from paging, unless it is `strict`.
        `text` is what the configuration file says, or its last good copy where it is `broken`.
        Raises InvalidDocument and ValueError."""
        self.links, self.started = signed_links(config), self.stamps(config)
        copies, texts = RuleCopies.of(config.storage.path), dict[str, str]()
        patterns, semantics = rule_patterns(config), config.promql.semantics
        read = _noting(texts)
        rules, unusable = load_usable(patterns, refuse_unsupported, semantics, read, copies.text)
        if strict and unusable:
            raise InvalidDocument(problem for one in unusable for problem in one.problems)
        rules = as_wanted(rules, config)
        begun = ReadConfig(
            config,
            rules,
            unusable,
            texts,
            templates=own_templates(config),
            probe_modules=load_modules(config.probes.config_file),
            text=text,
            broken=broken,
        )
        return self._built(begun, None)

    def again(self, running: ReadConfig, now_ms: int) -> ReadConfig:
        """What the files say now. Of `running` what is equal is taken over, the object itself.
        Raises InvalidDocument and ValueError with everything that is wrong, and RuntimeError where
        a channel finds no thread."""
        own = self._own_stamp()
        text = self.text()
        wanted = self._load(text)
        config = started_with(running.config, wanted)
        # What changes from here on is another reload, also where it was not watched before.
        stamps = {**self.stamps(config), **own}
        texts = dict[str, str]()
        patterns, semantics = rule_patterns(config), config.promql.semantics
        known = _known_rules(running)
        rules = load_rules(patterns, refuse_unsupported, semantics, _noting(texts), known)
        begun = ReadConfig(
            config,
            reused(as_wanted(rules, config), running.rules),
            (),
            texts,
            templates=self._templates(config, running.templates),
            calendars=calendar_reader(config, keep=False).read(now_ms, online=False),
            probe_modules=load_modules(config.probes.config_file),
            needs_restart=needs_restart(running.config, wanted),
            text=text,
            stamps=stamps,
        )
        return self._built(begun, running)

    def text(self) -> str | None:
        """What the configuration file says, None where there is none. Raises InvalidDocument."""
        if self.config_file is None:
            return None
        try:
            return self._read_file(self.config_file)
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(str(self.config_file), error) from None

    def _own_stamp(self) -> Stamps:
        if self.config_file is None:
            return {}
        return {str(self.config_file): _stamp(str(self.config_file))}

    def _templates(self, config: Config, running: OwnTemplates) -> OwnTemplates:
        own = own_templates(config, running.failures)
        if (own.directory, own.sources, own.problems) == (
            running.directory,
            running.sources,
            running.problems,
        ):
            return running

        def texts(language: str) -> MessageTemplates:
            return message_templates(config, None, own, language)

        if problems := list(map(str, template_problems(own, texts))):
            raise ValueError("\n".join(problems))
        return own

    def _built(self, begun: ReadConfig, running: ReadConfig | None) -> ReadConfig:
        channels, fresh = dict[str, BuiltChannel](), list[Channel | HeartbeatPing]()
        for name, settings in begun.config.receivers.items():
            known = running.channels.get(name) if running else None
            same = running is not None and begun.templates is running.templates
            addresses = _addresses(begun.config, settings)
            made_of = (settings, _digests(settings), addresses)
            if known and same and (known.settings, known.files, known.addresses) == made_of:
                channels[name] = known
            else:
                channels[name] = self._channel(begun, name, settings, addresses)
                fresh.append(channels[name].channel)
        tokens = heartbeat_tokens(begun.config, self._env, self._read_file)
        pings, files = self._pings(begun.config, running)
        if running is not None:
            fresh += [ping for ping in pings if ping not in running.heartbeats]
            for one in fresh:
                one.begin()  # later there may be no thread
        return replace(
            begun,
            channels=channels,
            heartbeats=pings,
            heartbeat_files=files,
            heartbeat_tokens=tokens,
        )

    def _channel(
        self, begun: ReadConfig, name: str, settings: Any, addresses: Mapping[str, str]
    ) -> BuiltChannel:
        files = _digests(settings)
        vault = Vault(self._env, self._read_file)
        deps = channel_deps(begun.config, vault, self.links, begun.templates)
        channel = CHANNELS[settings.type](name, settings, deps)
        return BuiltChannel(channel, settings, files, addresses)

    def _pings(
        self, config: Config, running: ReadConfig | None
    ) -> tuple[Sequence[HeartbeatPing], Mapping[Path, str]]:
        out, files = config.heartbeats.out, _digests(config.heartbeats.out)
        if running and (running.config.heartbeats.out, running.heartbeat_files) == (out, files):
            return running.heartbeats, files
        vault = Vault(self._env, self._read_file)
        return tuple(HeartbeatPing(settings, vault) for settings in out), files

    def stamps(self, config: Config) -> Stamps:
        """Of every file of which a change is a reload."""
        return {path: _stamp(path) for path in self._watched(config)}

    def _watched(self, config: Config) -> Iterator[str]:
        if self.config_file is None:
            return
        yield str(self.config_file)
        for pattern in config.rule_files:
            if not names_a_pack(pattern):
                yield from sorted(glob.glob(pattern)) or [pattern]
        # The web configuration, tokens and the keys of engines are looked at where they are used.
        others = (name for name in Config.model_fields if name not in _LOOKED_AT_WHERE_USED)
        own = (getattr(config, name) for name in others)
        for path in sorted({path for section in own for path in _paths_in(section)}):
            yield from map(str, [path, *sorted(path.glob("*"))])


def rule_patterns(config: Config) -> list[str]:
    """What `rule_files` names; packs are ours."""
    packs = rule_packs()
    return [packs.get(path, path) for path in config.rule_files]


def as_wanted(files: Sequence[RuleFile], config: Config) -> list[RuleFile]:
    """The rule files, without those of our own rules that the configuration turns off."""
    ours, switches = bundled("rules"), config.meta_alerts.rule_switches()
    return [switched(file, switches) if Path(file.path).parent == ours else file for file in files]


def started_with(running: Config, wanted: Config) -> Config:
    """`wanted`, but for what takes a restart."""
    kept: dict[str, Any] = {name: getattr(running, name) for name in STARTED_WITH}
    kept["storage"] = wanted.storage.model_copy(update={"path": running.storage.path})
    if bool(running.engines) != bool(wanted.engines):
        kept["engines"] = running.engines
    return wanted.model_copy(update=kept)


def needs_restart(running: Config, wanted: Config) -> list[str]:
    """The keys of `wanted` that a restart would change, as `web.listen_address`."""
    holds = started_with(running, wanted)
    return [
        key
        for name in sorted(Config.model_fields)
        for key in _changed(name, getattr(holds, name), getattr(wanted, name))
    ]


def _changed(name: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    if not (isinstance(before, BaseModel) and isinstance(after, BaseModel)):
        return [name]
    fields = type(after).model_fields
    return [f"{name}.{key}" for key in fields if getattr(before, key) != getattr(after, key)]


def reused(rules: Sequence[RuleFile], running: Sequence[RuleFile]) -> list[RuleFile]:
    """`rules` with the very groups of `running` where they are equal: to find that out takes long,
    and the loop need not do it."""
    known = {group.key: group for file in running for group in file.groups}

    def same(group: RuleGroup) -> RuleGroup:
        before = known.get(group.key)
        return before if before is not None and before == group else group

    return [replace(file, groups=tuple(map(same, file.groups))) for file in rules]


def emptied(running: Sequence[RuleFile], wanted: Sequence[RuleFile]) -> list[str]:
    """The files that had rules and have none."""
    left = {file.path for file in wanted if any(group.rules for group in file.groups)}
    had = {file.path for file in running if any(group.rules for group in file.groups)}
    there = {file.path for file in wanted}
    return sorted((had - left) & there)


def unmatched(running: ReadConfig, wanted: ReadConfig) -> list[str]:
    """The patterns of both that matched rule files and match none any more: a directory that is
    not mounted, a checkout in the middle."""
    return [
        pattern
        for pattern in wanted.config.rule_files
        if pattern in running.config.rule_files
        and _matches(pattern, running.rules)
        and not _matches(pattern, wanted.rules)
    ]


def _matches(pattern: str, files: Sequence[RuleFile]) -> bool:
    return any(PurePath(file.path).match(pattern) for file in files)


def _addresses(config: Config, settings: Any) -> Mapping[str, str]:
    """Of contacts to whom this receiver writes."""
    key = contact_key(settings.type)
    if not key:
        return {}
    held = ((name, getattr(contact, key)) for name, contact in config.contacts.items())
    return {name: address for name, address in held if address}


def _known_rules(running: ReadConfig) -> KnownRuleFile:
    """A file that is as it was need not be read again: that takes a second for a thousand rules."""
    broken = {file.path for file in running.broken_rules}
    files = {file.path: file for file in running.rules if file.path not in broken}

    def known(path: str, text: str) -> RuleFile | None:
        return files.get(path) if running.rule_texts.get(path) == text else None

    return known


def _noting(texts: dict[str, str]) -> Callable[[str], str]:
    def read(path: str) -> str:
        texts[path] = read_text(path)
        return texts[path]

    return read


def _digests(settings: Any) -> dict[Path, str]:
    """Of the files that a section names: secrets, certificates."""
    return {path: _digest(path) for path in _paths_in(settings)}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(file_bytes(path, _MOST_BYTES)).hexdigest()
    except OSError:  # who needs it says so
        return ""


def _paths_in(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        yield from _paths_in([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, Mapping):
        yield from _paths_in([*value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths_in(item)


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    content = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return *content, found.st_mode, found.st_uid, found.st_gid  # whether it can be read at all
