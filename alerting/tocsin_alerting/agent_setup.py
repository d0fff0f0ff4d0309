"""What a start of the agent is given, read and checked."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tocsin_alerting.config.config import Config
from tocsin_alerting.local.discovery import USUAL_PORTS
from tocsin_alerting.local.systemd import SystemdNotifier
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.rules.rule import RuleFile
from tocsin_exporter.server import ScrapeCounters


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a start needs, read and checked: nothing here can be wrong any more."""

    config: Config
    rules: Sequence[RuleFile]
    channels: Mapping[str, Channel]
    token: Callable[[], str | None]
    sockets: list[socket.socket]
    address: str
    instance: str
    load_rps: float | None = None
    engine_ports: Sequence[int] = USUAL_PORTS
    engine_owners: frozenset[int] | None = None
    max_requests: int = 40
    scrapes: ScrapeCounters = field(default_factory=ScrapeCounters)
    log_format: str = "logfmt"
    flags: Mapping[str, str] = field(default_factory=dict)
    systemd: SystemdNotifier = field(default_factory=lambda: SystemdNotifier({}))
    hold: Callable[[], None] = lambda: None
