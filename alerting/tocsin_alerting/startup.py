"""From the command line to a checked setup: files read, an address taken, or a reason why not.

Everything that can be wrong is wrong here, before anything runs.
"""

import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin_alerting import malloc
from tocsin_alerting.agent_access import (
    access_words,
    has_credentials,
    load_credentials,
)
from tocsin_alerting.config.collectors import collector_settings
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.config_copy import FirstConfig, first_config
from tocsin_alerting.config.effective import without_user
from tocsin_alerting.config.elsewhere import stray_entries
from tocsin_alerting.config.exposure import exposure
from tocsin_alerting.config.load import load
from tocsin_alerting.config.paging import CONTAINER_ID, notes
from tocsin_alerting.config.reading import ConfigReader, ReadConfig, as_wanted, rule_patterns
from tocsin_alerting.config.way_lint import all_warnings
from tocsin_alerting.config.web_file import web_config
from tocsin_alerting.exporter_startup import check_files, engine_sections
from tocsin_alerting.gpu_options import GpuOptions
from tocsin_alerting.incidents.errors import SchemaTooNew
from tocsin_alerting.listeners import (
    CannotStart,
    WrongUsage,
    bind_all,
    check_address,
    check_telemetry_path,
    local_socket,
    take_over,
)
from tocsin_alerting.local import data_lock, ports
from tocsin_alerting.local.discovery import USUAL_PORTS
from tocsin_alerting.local.environment import variables_read, warn_of_unread, warn_of_variables
from tocsin_alerting.local.systemd import (
    HangupSignal,
    SystemdNotifier,
    drop_ambient_capabilities,
)
from tocsin_alerting.notify.email.local_server import why_unusable
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.promql.parser.types import refuse_unsupported
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.rule_file import RuleFileCache
from tocsin_alerting.rules.rule_file import load as load_rules
from tocsin_alerting.yaml_document import InvalidDocument, file_text
from tocsin_exporter import logs, output
from tocsin_exporter.clock import Clock
from tocsin_exporter.collector_settings import HostView, InvalidSetting
from tocsin_exporter.connections import (
    MOST_CONNECTIONS,
    ConnectionLimits,
    Connections,
    most_connections,
    raise_descriptor_limit,
)
from tocsin_exporter.server import ScrapeCounters
from tocsin_exporter.threads import room_for
from tocsin_exporter.web_config import live_web_config

if TYPE_CHECKING:
    from tocsin_alerting.agent_setup import Setup

log = logging.getLogger(__name__)

MIN_THREADS = 24  # the agent's own, with a few for the moment
RESERVED_THREADS = 8  # of them, those that begin when the loop runs


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The flags of `tocsin up`; None leaves what the configuration says."""

    config_file: Path | None = None
    storage_path: str | None = None
    listen_addresses: Sequence[str] = ()
    engine_urls: Sequence[str] = ()
    engine_ports: Sequence[int] = ()
    no_worker: bool = False
    worker_device: str | None = None
    load_rps: float | None = None
    promql_semantics: int | None = None
    max_requests: int = 40
    max_connections: int = MOST_CONNECTIONS
    web_open: bool = False
    web_config_file: Path | None = None
    strict: bool = False
    gpu_simulate: str = ""
    gpu_hostname_label: str = "none"
    drill: bool = False
    systemd_socket: bool = False
    telemetry_path: str = "/metrics"
    machine: HostView = HostView()
    sockets: Sequence[socket.socket] = ()  # those of systemd, once they are taken over

    @property
    def gpus(self) -> GpuOptions:
        return GpuOptions(self.gpu_simulate, self.gpu_hostname_label, self.drill)


def load_config(
    options: UpOptions, text: str | None = None, *, missing_rules: bool = False
) -> Config:
    """The configuration with the flags over it. Raises InvalidDocument and WrongUsage.
    `text` is what the file is taken to say, by default what it says. `missing_rules`: a rule file
    that is not there is no error here."""
    _check_flags(options, config_file=text is None)

    def read_file(path: str | Path) -> str:
        return file_text(path) if text is None or path != options.config_file else text

    config = load(
        options.config_file,
        read_file=read_file,
        local_mail=_mail_at_start,
        missing_rules=missing_rules,
    )
    if options.engine_ports and config.engines:
        raise WrongUsage(
            "--engine.port looks for engines on this machine, and the configuration lists engines: "
            "none would be looked for; leave out one of them"
        )
    sections: dict[str, Any] = {}
    if options.storage_path:
        sections["storage"] = config.storage.model_copy(update={"path": options.storage_path})
    web: dict[str, Any] = {"open": True} if options.web_open else {}
    if options.listen_addresses:
        web["listen_address"] = options.listen_addresses[0]
    if options.web_config_file:
        web["config_file"] = options.web_config_file
    if web:
        sections["web"] = config.web.model_copy(update=web)
    if options.promql_semantics:
        semantics = {"semantics": options.promql_semantics}
        sections["promql"] = config.promql.model_copy(update=semantics)
    worker: dict[str, Any] = {"enabled": False} if options.no_worker else {}
    worker |= {"device": options.worker_device} if options.worker_device else {}
    if worker:
        sections["worker"] = config.worker.model_copy(update=worker)
    if options.engine_urls:
        sections["engines"] = engine_sections(options.engine_urls)
    machine_view(options, config)
    options.gpus.check(config)
    return config.model_copy(update=sections)


def machine_view(options: UpOptions, config: Config) -> HostView:
    """What is read of this machine: the flags, and beside them the configuration. Raises WrongUsage
    where they rule each other out."""
    try:
        settings = options.machine.settings.over(collector_settings(config.collectors))
    except InvalidSetting as error:
        raise WrongUsage(f"{error}: the configuration has the other in collectors") from None
    return replace(options.machine, settings=settings)


def with_listeners(options: UpOptions) -> UpOptions:
    """The addresses that hold, with the sockets of systemd. Raises CannotStart."""
    given = options.systemd_socket, options.listen_addresses
    sockets, addresses = take_over(os.environ, *given)
    return replace(options, sockets=sockets, listen_addresses=addresses)


def _mail_at_start(sender: str, recipients: Sequence[str]) -> str:
    """A mail server that is not up yet after a reboot must not keep the pager down with it:
    `alertctl check` refuses what cannot be written to, here it is said and tried again."""
    trouble = why_unusable(sender, recipients)
    if trouble:
        log.error(
            "cannot send mail to contacts: %s; each message is retried. To use another mail"
            " server, set smtp (docs/channels.md#contacts)",
            trouble,
        )
    return ""


def first_of(options: UpOptions) -> FirstConfig:
    """What the start is to run: of a configuration file that is broken the last good copy, unless
    that is strict. Raises as `load_config`."""
    file = options.config_file
    load_text = partial(load_config, options, missing_rules=not options.strict)
    if file is None:
        return FirstConfig(load_text(None))
    return first_config(file, options.storage_path, load_text, strict=options.strict)


def _check_flags(options: UpOptions, *, config_file: bool) -> None:
    files = {"--web.config.file": options.web_config_file, **options.gpus.files}
    check_files({"--config.file": options.config_file, **files} if config_file else files)
    for address in options.listen_addresses:
        check_address(address)
    check_telemetry_path(options.telemetry_path)
    if options.engine_urls and options.engine_ports:
        raise WrongUsage(
            "--engine.port looks for engines on this machine, --engine.url names them: "
            "with both, none would be looked for; give one of them"
        )
    if options.worker_device and (options.no_worker or options.engine_urls):
        raise WrongUsage(
            "--worker.device is for the demo worker, which is not started with --no-worker or "
            "--engine.url; leave it out"
        )


def flags(options: UpOptions, config: Config, log_level: str, log_format: str) -> dict[str, str]:
    """Each flag of `tocsin up` with what holds, as `/api/v1/status/flags` tells it."""
    return {
        **machine_view(options, config).flags(),
        "collector.gpu.hostname-label": options.gpu_hostname_label,
        "collector.gpu.simulate": options.gpu_simulate,
        "config.file": str(options.config_file or ""),
        "drill": str(options.drill).lower(),
        "engine.port": ",".join(map(str, options.engine_ports or USUAL_PORTS)),
        "engine.url": ",".join(without_user(engine.url) for engine in config.engines),
        "load": str(options.load_rps or ""),
        "log.format": log_format,
        "log.level": log_level,
        "no-worker": str(not config.worker.enabled).lower(),
        "promql.semantics": str(config.promql.semantics),
        "storage.path": config.storage.path,
        "strict": str(options.strict).lower(),
        "web.config.file": str(config.web.config_file or ""),
        "web.listen-address": ",".join(options.listen_addresses or [config.web.listen_address]),
        "web.max-connections": str(options.max_connections),
        "web.max-requests": str(options.max_requests),
        "web.systemd-socket": str(options.systemd_socket).lower(),
        "web.telemetry-path": options.telemetry_path,
        "web.open": str(config.web.open).lower(),
        "worker.device": config.worker.device,
    }


def config_reader(options: UpOptions) -> ConfigReader:
    """Reads the configuration of this command line again for a reload."""

    def again(text: str | None) -> Config:
        try:
            return load_config(options, text)
        except CannotStart as error:
            raise ValueError(str(error)) from None

    return ConfigReader(again, options.config_file)


def rule_files(config: Config, ignore_unknown: bool = False) -> list[RuleFile]:
    """The files that `rule_files` names, packs among them; `ignore_unknown` lets them have keys
    that are somebody else's. Raises InvalidDocument."""
    semantics = config.promql.semantics
    known = RuleFileCache(refuse_unsupported, ignore_unknown).known(semantics)
    files = load_rules(rule_patterns(config), refuse_unsupported, semantics, known=known)
    return as_wanted(files, config)


def read_files(reader: ConfigReader, first: FirstConfig, strict: bool) -> ReadConfig:
    """Raises InvalidDocument and ValueError."""
    read = reader.first(first.config, strict=strict, text=first.text, broken=first.broken)
    for broken in read.broken_rules:
        instead = "its last good copy runs" if broken.replaced else (
            "its rules are missing, and what they said is unknown"
        )  # fmt: skip
        problems = "\n".join(map(str, broken.problems))
        log.error("rule file failed to load, %s: %s\n%s", instead, broken.path, problems)
    return read


def run(options: UpOptions, log_level: str, log_format: Any) -> int:
    """`tocsin up`: the exit code, with a message 2 for wrong flags, 1 when it cannot start."""
    import asyncio

    import uvloop

    from tocsin_alerting.agent_setup import Setup
    from tocsin_alerting.app import App

    os.umask(data_lock.PRIVATE_MASK)
    malloc.use_one_arena(os.environ)
    try:
        _prepare_process(log_level, log_format)
        (hangup := HangupSignal()).install()
        options = with_listeners(options)
        config = (first := first_of(options)).config
        warn_of_unread(os.environ, variables_read(config))
        lock = data_lock.DataLock(Path(config.storage.path))
        setup = Setup(
            read=read_files(reader := config_reader(options), first, options.strict),
            reader=reader,
            hangup=hangup,
            credentials=lambda: load_credentials(config),
            sockets=list(options.sockets)
            or bind_all(options.listen_addresses or [config.web.listen_address]),
            address=config.web.listen_address,
            instance=instance_name(config, socket.gethostname()),
            load_rps=options.load_rps,
            engine_ports=options.engine_ports or USUAL_PORTS,
            machine=machine_view(options, config),
            engine_owners=ports.trusted_users(config.discovery.user_ids(), os.environ),
            max_requests=options.max_requests,
            telemetry_path=options.telemetry_path,
            scrapes=ScrapeCounters(connections=Connections(connection_limits(options, config))),
            log_format=log_format,
            flags=flags(options, config, log_level, log_format),
            systemd=SystemdNotifier(os.environ),
            hold=lock.keep,
            exposure=access_words(config, options.listen_addresses),
            web=live_web_config(lambda: web_config(config)),
            **options.gpus.setup(),
        )
        _hold_directory(lock)
        setup.sockets.extend(local_socket(config.storage.path))
        _warn_of_paging(setup, options.listen_addresses)
        malloc.freeze_gc()
        setup.begin()
        app = App(setup)
        _need_threads(RESERVED_THREADS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(app.serve())
    except (InvalidDocument, CannotStart, SchemaTooNew, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, WrongUsage) else 1
    except RuntimeError as error:
        if "new thread" not in str(error):
            raise
        sys.stderr.write(f"{_no_threads(room_for(MIN_THREADS))}\n")
        return 1
    return 0


def _prepare_process(log_level: str, log_format: Any) -> None:
    """Raises CannotStart."""
    _need_threads(MIN_THREADS)
    output.install()
    raise_descriptor_limit()
    logs.configure(log_level, log_format)
    warn_of_variables(os.environ)
    drop_ambient_capabilities()


def _need_threads(least: int) -> None:
    """Raises CannotStart where there is no room for as many more."""
    if (room := room_for(least)) < least:
        raise CannotStart(_no_threads(room))


def _no_threads(room: int) -> str:
    return (
        f"there is room for {room} more threads, and pages need at least {MIN_THREADS} and one"
        " for each receiver given by name; raise the limit for this user or container"
        " (TasksMax= of the unit, pids limit of the container, ulimit -u)"
    )


def connection_limits(options: UpOptions, config: Config) -> ConnectionLimits:
    """What clients may take; proxies that are trusted come with those of everybody."""
    proxies = [ip_network(network, strict=False) for network in config.web.trusted_proxies]
    return ConnectionLimits(connections=most_connections(options.max_connections), exempt=proxies)


def instance_name(config: Config, host: str) -> str:
    """The name of this machine: as configured, else that of the host."""
    name = config.instance or host or "localhost"
    if not config.instance and CONTAINER_ID.fullmatch(name):
        log.warning(
            "host name looks like a container id, which changes with each container; give the"
            " container a hostname, or set instance in the configuration",
            extra={"hostname": name},
        )
    return name


def _warn_of_paging(setup: "Setup", listen_addresses: Sequence[str]) -> None:
    config, groups = setup.config, [group for file in setup.read.rules for group in file.groups]
    exposed = exposure(config, listen_addresses, has_credentials(config))
    said = all_warnings(config, Vault(os.environ, file_text), Clock().now_ms())
    stray = stray_entries(config.group_datasources, groups)
    about = (*said, *notes(config, listen_addresses), *stray, exposed)
    for warning in filter(None, about):
        log.warning("%s", warning)


def _hold_directory(lock: data_lock.DataLock) -> None:
    """Without it we page all the same: the journal says that it is down. Raises CannotStart."""
    try:
        lock.acquire()
    except (data_lock.DirectoryInUse, data_lock.UntrustedPath) as error:
        raise CannotStart(str(error)) from None
    except OSError as error:
        log.error(
            "data directory lock failed; incidents not recorded, paging continues: %s: %s%s",
            lock.path,
            error.strerror,
            _owner_of(lock.path),
        )


def _owner_of(path: Path) -> str:
    """Whose it is, if that is why we may not use it."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return ""
    if owner == os.geteuid():
        return ""
    owner_name, ours = ports.user_name(owner), ports.user_name(os.geteuid())
    return (
        f". It belongs to {owner_name}, and the agent runs as {ours}: chown it, or choose another"
    )
