"""What is read of whom: one `LogSource` a name, as the configuration has it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin_exporter.tailing.budget import Limits

DOCKER = "/var/lib/docker/containers/*/*-json.log"
PODS = "/var/log/pods/*/*/*.log"


@dataclass(frozen=True, slots=True)
class JournalUnits:
    """The messages of these systemd units, and of the kernel."""

    units: tuple[str, ...] = ()
    kernel: bool = False


@dataclass(frozen=True, slots=True)
class Containers:
    """Containers by name (Docker's, or `NAMESPACE/POD/CONTAINER`), with `*` and `?`."""

    names: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    docker_logs: str = DOCKER
    pod_logs: str = PODS


@dataclass(frozen=True, slots=True)
class LogPattern:
    """A name, and an expression of RE2. Its group `value`, if it has one, is a label. `group` is
    where it is looked for by default."""

    name: str
    regex: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class LogSource:
    """One of `paths`, `containers` and `journal` is given. `level` is an expression whose group
    `level` is the level of a line; "" takes what logs usually have."""

    name: str
    paths: tuple[str, ...] = ()
    containers: Containers | None = None
    journal: JournalUnits | None = None
    patterns: Sequence[LogPattern] = ()
    level: str = ""
    limits: Limits = Limits()
    from_start: bool = False
