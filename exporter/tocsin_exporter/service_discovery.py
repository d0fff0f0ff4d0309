"""Where the targets of a scrape job come from: its own list, files, and DNS.

What cannot be read keeps what was read last, also over a restart: a name server that is away, or
half of a file, must not end the watch over anything.
"""

import asyncio
import fnmatch
import glob
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import dns.asyncresolver
import dns.exception
import dns.resolver
import yaml

from tocsin_exporter.files import file_bytes
from tocsin_exporter.listen import joined
from tocsin_exporter.scrape_job import DnsDiscovery, FileDiscovery, ScrapeJob, TargetGroup
from tocsin_exporter.threads import Threads, in_thread

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # a changed file is read after so long, whatever `refresh_interval` says
_MOST_FILE_BYTES = 32 << 20
_META = "__meta_"
_FILE = f"{_META}filepath"
Records: TypeAlias = Sequence[tuple[str, int]]
"""Host and port of each record, the port 0 where its type has none."""
AskDns: TypeAlias = Callable[[str, str], Awaitable[Records]]
TakeGroups: TypeAlias = Callable[[Sequence[TargetGroup]], None]


async def dns_records(
    name: str, kind: str, resolver: dns.asyncresolver.Resolver | None = None
) -> Records:
    """By `resolver`, or the system's name servers. Raises OSError when none answers; a name that is
    not there has no records."""
    asked = resolver or dns.asyncresolver.get_default_resolver()
    try:
        answer = await asked.resolve(name, kind, search=True, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return []
    except (dns.exception.DNSException, ValueError) as error:
        raise OSError(f"{name} {kind}: {error}") from None
    return [_record(record, kind) for record in answer]


def _record(record: Any, kind: str) -> tuple[str, int]:
    if kind in ("A", "AAAA"):
        return str(record.address), 0
    named = record.exchange if kind == "MX" else record.target
    return str(named), record.port if kind == "SRV" else 0


def read_groups(path: str) -> list[TargetGroup]:
    """The target groups of a file in JSON or YAML. Raises OSError, and ValueError with what is
    wrong in it."""
    text = file_bytes(Path(path), _MOST_FILE_BYTES).decode("utf-8", "strict")
    try:
        data = json.loads(text) if path.endswith(".json") else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(data, list | None):
        raise ValueError(f"{path}: must be a list of {{targets: [...], labels: {{...}}}}")
    return [_group(path, number, entry) for number, entry in enumerate(data or ())]


def _group(path: str, number: int, entry: object) -> TargetGroup:
    where = f"{path}: group {number + 1}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: must have targets and may have labels")
    unknown = sorted(set(map(str, entry)) - {"targets", "labels"})
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; the keys are targets and labels")
    targets, labels = entry.get("targets") or [], entry.get("labels") or {}
    if not path.endswith(".json"):  # in YAML a number is a text too, as Go reads it
        targets, labels = _as_texts(targets, labels)
    if not (isinstance(targets, list) and all(isinstance(t, str) for t in targets)):
        raise ValueError(f"{where}: targets must be a list of HOST:PORT")
    if not isinstance(labels, dict) or not all(isinstance(t, str) for t in labels.values()):
        raise ValueError(f"{where}: labels must be names with texts; quote numbers")
    addresses = tuple({"__address__": target} for target in targets)
    return TargetGroup(f"{path}:{number}", addresses, {**labels, _FILE: path})


def _as_texts(targets: object, labels: object) -> tuple[object, object]:
    def text(value: object) -> object:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return str(value) if is_number else value

    return (
        [text(item) for item in targets] if isinstance(targets, list) else targets,
        {name: text(item) for name, item in labels.items()} if isinstance(labels, dict) else labels,
    )


class FileTargets:
    """The groups of one `file_sd_configs` entry; a file is read again when it has changed. `known`
    are the groups that were read last."""

    def __init__(self, config: FileDiscovery, known: Sequence[TargetGroup] = ()) -> None:
        self._config = config
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._groups: dict[str, list[TargetGroup]] = {}
        for group in known:
            path = group.labels.get(_FILE, "")
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in config.files):
                self._groups.setdefault(path, []).append(group)
        self._troubles: dict[str, str] = {}

    @property
    def groups(self) -> list[TargetGroup]:
        return [group for path in sorted(self._groups) for group in self._groups[path]]

    def look(self) -> None:
        """May wait for the disk; raises nothing."""
        paths = {path for pattern in self._config.files for path in glob.glob(pattern)}
        for path in set(self._groups) - paths:
            if _is_gone(path):  # Prometheus drops the targets of a removed file too
                del self._groups[path]
                self._stamps.pop(path, None)
            else:  # its directory cannot be listed: reading it says why
                paths.add(path)
        for path in sorted(paths):
            self._read(path)

    def _read(self, path: str) -> None:
        try:
            found = Path(path).stat()
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if self._stamps.get(path) == stamp:
                return
            self._groups[path] = read_groups(path)
        except (OSError, ValueError) as error:
            if self._troubles.get(path) != str(error):
                log.error("failed to read targets; those read before are kept: %s", error)
            self._troubles[path] = str(error)
            return
        self._stamps[path] = stamp
        self._troubles.pop(path, None)


def _is_gone(path: str) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


class DnsTargets:
    """The groups of one `dns_sd_configs` entry. `known` are those that were found last."""

    def __init__(
        self,
        config: DnsDiscovery,
        ask: AskDns = dns_records,
        known: Sequence[TargetGroup] = (),
    ) -> None:
        self._config, self._ask = config, ask
        found = {group.source: group for group in known}
        sources = {name: self._source(name) for name in config.names}
        self._groups = {name: found[said] for name, said in sources.items() if said in found}
        self._troubles: dict[str, str] = {}

    @property
    def groups(self) -> list[TargetGroup]:
        return list(self._groups.values())

    async def look(self) -> None:
        """Ask for every name at once; raises nothing."""
        await asyncio.gather(*map(self._look_up, self._config.names))

    async def _look_up(self, name: str) -> None:
        try:
            records = await self._ask(name, self._config.type)
        except OSError as error:
            if self._troubles.get(name) != str(error):
                log.warning("lookup failed; the targets found before are kept: %s", error)
            self._troubles[name] = str(error)
            return
        self._troubles.pop(name, None)
        targets = tuple(self._target(name, host, port) for host, port in sorted(records))
        self._groups[name] = TargetGroup(self._source(name), targets)

    def _source(self, name: str) -> str:
        return f"{name} {self._config.type} {self._config.port}"

    def _target(self, name: str, host: str, port: int) -> dict[str, str]:
        host = host.removesuffix(".") if not _is_address(host) else host
        labels = {
            "__address__": joined(host, port or self._config.port),
            f"{_META}dns_name": name,
        }
        if self._config.type == "SRV":
            labels[f"{_META}dns_srv_record_target"] = host
            labels[f"{_META}dns_srv_record_port"] = str(port)
        return labels


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class JobDiscovery:
    """The targets of one job; `take` gets its groups whenever they have changed. `known` are the
    groups that it had last."""

    def __init__(
        self,
        job: ScrapeJob,
        take: TakeGroups,
        ask: AskDns = dns_records,
        known: Sequence[TargetGroup] = (),
    ) -> None:
        self._job, self._take = job, take
        self._files = [FileTargets(config, known) for config in job.files]
        self._dns = [(DnsTargets(config, ask, known), config.refresh) for config in job.dns]
        self._thread = Threads(1, f"targets {job.name}")
        self._last: list[TargetGroup] | None = None

    def offer(self) -> None:
        """Hand on the groups that are known, if they are others than the last."""
        groups = list(self._job.static)
        for files in self._files:
            groups += files.groups
        for names, _ in self._dns:
            groups += names.groups
        if groups != self._last:
            self._last = groups
            self._take(groups)

    async def look(self) -> None:
        """Read the files once; names are asked for by `run`, as they may take their time."""
        for one in self._files:
            await in_thread(one.look, self._thread)
        self.offer()

    def close(self) -> None:
        """End its thread; what hangs in it ends by itself."""
        self._thread.close()

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as group:
            if self._files:
                group.create_task(self._follow_files())
            for names, seconds in self._dns:
                group.create_task(self._follow_dns(names, seconds))

    async def _follow_files(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _follow_dns(self, names: DnsTargets, seconds: float) -> None:
        while True:
            await names.look()
            self.offer()
            await asyncio.sleep(seconds)


def static_group(number: int, targets: Sequence[str], labels: Mapping[str, str]) -> TargetGroup:
    """An entry of `static_configs`."""
    return TargetGroup(str(number), tuple({"__address__": text} for text in targets), labels)
