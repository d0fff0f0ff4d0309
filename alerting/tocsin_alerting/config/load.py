"""From a file to a configuration, and from that to what the stages are given."""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import psutil

from tocsin_alerting.config.config import BUNDLED_RULES, Config
from tocsin_alerting.config.files import anchored, file_problems, rule_problems
from tocsin_alerting.config.mailing import mail_problems, mail_receiver, with_mail_receiver
from tocsin_alerting.config.policies import (
    AddresseeDirectory,
    GroupTimes,
    default_policies,
    escalation_policy,
)
from tocsin_alerting.config.references import reference_problems
from tocsin_alerting.http import alertctl_command
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.routing import GroupBy, IncidentConfig
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.deps import ChannelDeps
from tocsin_alerting.notify.email.local_server import CheckLocalServer, why_unusable
from tocsin_alerting.notify.email.settings import EmailSettings
from tocsin_alerting.notify.log import LogSettings
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.registry import CHANNELS, UNKNOWN_TYPE_MESSAGE
from tocsin_alerting.notify.secret import ReadFile, Vault
from tocsin_alerting.yaml_document import (
    Document,
    InvalidDocument,
    Problem,
    file_text,
    parse,
    unreadable,
    validate,
)


def load(
    path: Path | None,
    env: Mapping[str, str] = os.environ,
    read_file: ReadFile = file_text,
    local_mail: CheckLocalServer = why_unusable,
) -> Config:
    """The configuration in `path`, complete with defaults; the defaults alone without a path.

    `local_mail` asks this machine's own mail server, where nothing else can write to contacts.
    Raises InvalidDocument with everything that is wrong, in the rule files that it names as well:
    whoever corrects it is to see all of it at once.
    """
    if path is None:
        return _with_policies(Config(), local_mail)
    vault, document = Vault(env, read_file), _parsed(path, read_file)
    files = list(file_problems(document.data, path.parent, vault))
    problems = reference_problems(document)
    local_mail = _memoised(local_mail)
    mail = mail_problems(document.data, _ascii(socket.gethostname()), local_mail)
    problems += [document.problem(at, message) for at, message in mail]
    problems += [document.problem(at, message) for at, message in files]
    try:
        config = _with_policies(_anchored(validate(Config, document), path.parent), local_mail)
    except InvalidDocument as error:
        problems += [*_without_covered(error.problems), *rule_problems(document.data, path.parent)]
        raise InvalidDocument(problems) from None
    known = {at[1] for at, _ in files if at[1:]}
    if any(at[0] == "smtp" for at, _ in files):
        known |= {*filter(None, [mail_receiver(config)])}
    problems += _channel_problems(document, config, vault, known)
    problems += _engine_problems(document, config, known)
    if problems:
        raise InvalidDocument([*problems, *rule_problems(document.data, path.parent)])
    return config


def build_channels(
    config: Config, env: Mapping[str, str], read_file: ReadFile = file_text
) -> dict[str, Channel]:
    """A channel for each receiver. Raises ValueError when a secret is missing or unusable."""
    deps = _channel_deps(config, Vault(env, read_file))
    return {
        name: CHANNELS[settings.type](name, settings, deps)
        for name, settings in config.receivers.items()
    }


def incident_config(config: Config) -> IncidentConfig:
    """What the incident layer is told."""
    directory = AddresseeDirectory(config.contacts, mail_receiver(config))
    policies = {
        name: escalation_policy(name, section, config.group, directory)
        for name, section in config.policies.items()
    }
    return IncidentConfig(
        policies=policies,
        routes=tuple(route.route() for route in config.routes),
        group=GroupBy(config.group.by),
        inhibit=tuple(one.rule() for one in config.inhibit),
        reopen_within_ms=config.reopen_within,
        unknown_max_ms=config.unknown_max,
        severity_words=dict(config.severities),
        external_url=external_url(config),
        addressees=_addressees(config),
        local_names=_local_names(config),
    )


def _addressees(config: Config) -> frozenset[Addressee]:
    """Everybody whom a message can reach: receivers with addressees of their own, and contacts."""
    receivers = config.receivers.items()
    own = {n for n, receiver in receivers if not isinstance(receiver, EmailSettings) or receiver.to}
    by = mail_receiver(config)
    people = {Addressee(by, name) for name in config.contacts} if by else set()
    return frozenset({*map(Addressee, own), *people})


def _local_names(config: Config) -> frozenset[str]:
    """By what names an instance may call this machine."""
    host = socket.gethostname()
    interfaces = psutil.net_if_addrs().values()
    addresses = {
        interface.address.partition("%")[0] for several in interfaces for interface in several
    }
    named = {config.instance, host, host.partition(".")[0], *addresses}
    bracketed = {f"[{address}]" for address in addresses if ":" in address}
    return frozenset(name.lower() for name in named | bracketed if name)


def external_url(config: Config) -> str:
    """Where people reach the agent: by the machine's name and the port served, as Prometheus
    has it, unless the configuration says where."""
    port = config.web.listen_address.rpartition(":")[2]
    return config.external_url or f"http://{_ascii(socket.gethostname())}:{port}"


def host_names(config: Config) -> list[str]:
    """The names that a Host header may give us, besides addresses and this machine's own."""
    name = urlsplit(config.external_url).hostname
    return [*config.web.allow_hosts, *([name] if name else [])]


def _parsed(path: Path, read_file: ReadFile) -> Document:
    try:
        return parse(read_file(path), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(str(path), error) from None


def _anchored(config: Config, directory: Path) -> Config:
    rules = tuple(
        path if path == BUNDLED_RULES else str(directory / Path(path).expanduser())
        for path in config.rule_files
    )
    return anchored(config, directory).model_copy(update={"rule_files": rules})


def _with_policies(config: Config, local_mail: CheckLocalServer) -> Config:
    """With a policy for each severity: those not given tell everybody who can be told."""
    receivers = config.receivers or {"log": LogSettings(type="log")}
    config = config.model_copy(update={"receivers": receivers})
    config = with_mail_receiver(config, _ascii(socket.gethostname()), local_mail)
    notify: list[dict[str, Any]] = [
        {"receiver": name}
        for name, settings in config.receivers.items()
        if not isinstance(settings, EmailSettings) or settings.to
    ]
    if config.contacts and mail_receiver(config):
        notify.append({"everyone": True, "via": ["email"]})
    policies = {**default_policies(notify or [{"receiver": "log"}]), **config.policies}
    if policies["P0"].group is None and "wait" not in config.group.model_fields_set:
        # The wait gathers what belongs together; nobody who writes steps means to page P0 late.
        policies["P0"] = policies["P0"].model_copy(
            update={"group": GroupTimes.model_validate({"wait": "0s"})}
        )
    return config.model_copy(update={"policies": policies})


def _memoised(local_mail: CheckLocalServer) -> CheckLocalServer:
    """It may take seconds, and is asked by the check and for the receiver."""
    known: dict[tuple[str, ...], str] = {}

    def ask(sender: str, recipients: Sequence[str]) -> str:
        key = (sender, *recipients)
        if key not in known:
            known[key] = local_mail(sender, recipients)
        return known[key]

    return ask


def _channel_deps(config: Config, vault: Vault) -> ChannelDeps:
    return ChannelDeps(
        vault=vault,
        templates=_message_templates(config),
        addresses={name: contact.email for name, contact in config.contacts.items()},
        hostname=_ascii(socket.gethostname()),
    )


def _message_templates(config: Config) -> MessageTemplates:
    machine = config.instance or socket.gethostname()
    alertctl = alertctl_command(f"http://{config.web.listen_address}")
    return MessageTemplates(config.language, ZoneInfo(config.time_zone), machine, alertctl)


def _ascii(hostname: str) -> str:
    return hostname if hostname.isascii() and hostname.isprintable() and hostname else "localhost"


def _without_covered(problems: Iterable[Problem]) -> list[Problem]:
    """Without those that the checks between the parts say better."""
    return [problem for problem in problems if UNKNOWN_TYPE_MESSAGE not in problem.message]


def _channel_problems(
    document: Document, config: Config, vault: Vault, known: set[str | int]
) -> list[Problem]:
    """Receivers that cannot be built, besides those of which it is known why."""
    deps, problems = _channel_deps(config, vault), list[Problem]()
    for name, settings in config.receivers.items():
        try:
            if name not in known:
                CHANNELS[settings.type](name, settings, deps)
        except (ValueError, OSError) as error:
            problems.append(document.problem(("receivers", name), f"{name}: {error}"))
    return problems


def _engine_problems(document: Document, config: Config, known: set[str | int]) -> list[Problem]:
    """Engines that cannot be asked, besides those of which it is known why."""
    problems = []
    for number, engine in enumerate(config.engines):
        try:
            if number not in known:
                engine.access.check()
        except ValueError as error:
            problems.append(document.problem(("engines", number), str(error)))
    return problems
