"""From a file to a configuration, and from that to what the stages are given."""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import psutil

from tocsin_alerting.bundled import names_a_pack
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.elsewhere import EMBEDDED, ServerSection
from tocsin_alerting.config.files import (
    anchored,
    file_problems,
    rule_problems,
    secrets_of,
    with_fallbacks,
)
from tocsin_alerting.config.mailing import (
    contact_receivers,
    mail_problems,
    mail_receiver,
    with_mail_receiver,
)
from tocsin_alerting.config.policies import (
    GroupTimes,
    PolicySection,
    default_policies,
    escalation_policy,
)
from tocsin_alerting.config.probe_modules import probe_problems
from tocsin_alerting.config.references import reference_problems
from tocsin_alerting.config.scraping import job_problems
from tocsin_alerting.config.web_file import serves_tls, web_config
from tocsin_alerting.http import alertctl_command
from tocsin_alerting.incidents.calendar_times import time_zone
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.oncall import CalendarShifts
from tocsin_alerting.incidents.rates import Rates, read_rates
from tocsin_alerting.incidents.roster import Roster
from tocsin_alerting.incidents.routing import GroupBy, IncidentConfig
from tocsin_alerting.notify.channel import Channel, ChannelDeps
from tocsin_alerting.notify.contact_ways import contact_key
from tocsin_alerting.notify.email.local_server import CheckLocalServer, why_unusable
from tocsin_alerting.notify.heartbeat import HeartbeatPing
from tocsin_alerting.notify.log import LogSettings
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.own_address import OwnAddresses, guarded_lookup
from tocsin_alerting.notify.own_templates import OwnTemplates
from tocsin_alerting.notify.registry import CHANNELS, UNKNOWN_TYPE_MESSAGE, own_rates
from tocsin_alerting.notify.secret import ReadFile, Vault
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.yaml_document import (
    Document,
    InvalidDocument,
    Problem,
    file_text,
    parse,
    unreadable,
)
from tocsin_alerting.yaml_model import validate
from tocsin_exporter import listen
from tocsin_exporter.clock import Clock

Calendars = Mapping[str, CalendarShifts]


def load(
    path: Path | None,
    env: Mapping[str, str] = os.environ,
    read_file: ReadFile = file_text,
    local_mail: CheckLocalServer = why_unusable,
    missing_rules: bool = False,
    receiver: str = "",
) -> Config:
    """The configuration in `path`, complete with defaults; the defaults alone without a path.

    `local_mail` asks this machine's own mail server, where nothing else can write to contacts.
    `missing_rules`: a rule file that is not there is no error here. `receiver`: only it is to be
    used, and its fallbacks; the secrets of all else may be missing.
    Raises InvalidDocument with everything that is wrong, in the rule files that it names as well:
    whoever corrects it is to see all of it at once.
    """
    if path is None:
        return _with_policies(Config(), local_mail)
    vault, document = Vault(env, read_file), _parsed(path, read_file)
    files = list(file_problems(document.data, path.parent, vault))
    if missing_rules:
        files = [(at, message) for at, message in files if at[0] != "rule_files"]
    used = with_fallbacks(document.data, receiver)
    files = secrets_of(used, document.data, files) if receiver else files
    problems = reference_problems(document)
    local_mail = _memoised(local_mail)
    mail = mail_problems(document.data, _ascii(socket.gethostname()), local_mail)
    problems += [document.problem(at, message) for at, message in (*mail, *files)]
    try:
        config = _with_policies(_anchored(validate(Config, document), path.parent), local_mail)
    except InvalidDocument as error:
        problems += [*_without_covered(error.problems), *rule_problems(document.data, path.parent)]
        raise InvalidDocument(problems) from None
    known = {at[1] for at, _ in files if at[1:]}
    if any(at[0] == "smtp" for at, _ in files):
        known |= {*filter(None, [mail_receiver(config)])}
    unused = set(config.receivers).difference(used) if receiver else set[str]()
    problems += _channel_problems(document, config, vault, known | unused)
    if not receiver:
        problems += [*_engine_problems(document, config, known), *probe_problems(document, config)]
        problems += _server_problems(document, config, {at[0] for at, _ in files})
        problems += job_problems(document, config.scrape_configs, {at[:2] for at, _ in files})
        problems += _heartbeat_problems(document, config, vault, {at[:3] for at, _ in files})
        problems += _web_problems(config)
    if problems:
        raise InvalidDocument([*problems, *rule_problems(document.data, path.parent)])
    return config


def build_channels(
    config: Config,
    env: Mapping[str, str],
    read_file: ReadFile = file_text,
    links: SignedLinks | None = None,
    own: OwnTemplates | None = None,
) -> dict[str, Channel]:
    """A channel for each receiver. Raises ValueError when a secret is missing or unusable. `own`
    are the operator's templates, those of the configuration by default."""
    deps = channel_deps(config, Vault(env, read_file), links, own or own_templates(config))
    return {
        name: CHANNELS[settings.type](name, settings, deps)
        for name, settings in config.receivers.items()
    }


def build_channel(
    config: Config, env: Mapping[str, str], links: SignedLinks | None, name: str, language: str
) -> Channel:
    """The channel of one receiver, whose messages are in a language ("": the configured one).
    Raises as `build_channels`, and KeyError where there is no such receiver."""
    told = config.model_copy(update={"language": language or config.language})
    settings = config.receivers[name]
    return CHANNELS[settings.type](
        name, settings, channel_deps(told, Vault(env, file_text), links, own_templates(told))
    )


def build_heartbeats(
    config: Config, env: Mapping[str, str], read_file: ReadFile = file_text
) -> tuple[HeartbeatPing, ...]:
    """A ping for each of `heartbeats.out`. Raises as `build_channels`."""
    vault = Vault(env, read_file)
    return tuple(HeartbeatPing(settings, vault) for settings in config.heartbeats.out)


def heartbeat_tokens(
    config: Config, env: Mapping[str, str], read_file: ReadFile = file_text
) -> dict[str, str]:
    """The names of `heartbeats.expected` by their tokens. Raises ValueError."""
    vault = Vault(env, read_file)
    expected = config.heartbeats.expected.items()
    return {section.token_text(vault): name for name, section in expected}


def incident_config(config: Config, calendars: Calendars | None = None) -> IncidentConfig:
    """What the incident layer is told; `calendars` are those that were read of schedules."""
    policies = {
        name: escalation_policy(name, section, config.group)
        for name, section in config.policies.items()
    }
    people = roster(config, calendars)
    return IncidentConfig(
        policies=policies,
        routes=tuple(route.route() for route in config.routes),
        group=GroupBy(config.group.by),
        inhibit=tuple(rule.rule() for rule in config.inhibit),
        maintenance=tuple(one.window(config.time_zone) for one in config.maintenance),
        heartbeats=tuple(
            section.expected(name) for name, section in config.heartbeats.expected.items()
        ),
        silence_warn_ms=config.silences.warn_before or None,
        storm=config.storm.limit(),
        zone=time_zone(config.time_zone),
        receiver_rules={
            name: settings.rules(own_rates(settings.type), isinstance(settings, LogSettings))
            for name, settings in config.receivers.items()
        },
        contact_rates=_contact_rates(config, people),
        channel_broken=config.channel_broken.limit(),
        reopen_within_ms=config.reopen_within,
        reopen_keeps_ack=config.reopen_keeps_ack,
        flap=config.flap.damping(),
        unknown_max_ms=config.unknown_max,
        severity_words=dict(config.severities),
        external_url=external_url(config),
        addressees=_addressees(config, people),
        local_names=_local_names(config),
        roster=people,
    )


def roster(config: Config, calendars: Calendars | None = None) -> Roster:
    """Who the recipients of policies are, hour by hour."""
    read = calendars or {}
    zone, by_way = time_zone(config.time_zone), contact_receivers(config)
    return Roster(
        contacts={
            name: section.contact(name, by_way, zone) for name, section in config.contacts.items()
        },
        schedules={
            name: section.schedule(name, zone, read.get(name))
            for name, section in config.schedules.items()
        },
        policy_hours={
            name: section.hours.interval(zone)
            for name, section in config.policies.items()
            if section.hours
        },
    )


def emails(config: Config) -> dict[str, str]:
    """Of each contact that has an address."""
    return {name: contact.email for name, contact in config.contacts.items() if contact.email}


def phones(config: Config) -> dict[str, str]:
    """The telephone number of each contact that has one."""
    return {name: contact.phone for name, contact in config.contacts.items() if contact.phone}


def _has_addressees(settings: Any) -> bool:
    """Whether a receiver reaches somebody when no contact is named."""
    return not contact_key(settings.type) or bool(settings.to)


def _addressees(config: Config, people: Roster) -> frozenset[Addressee]:
    """Everybody whom a message can reach: receivers with addressees of their own, and contacts."""
    own = {name for name, settings in config.receivers.items() if _has_addressees(settings)}
    ways = {way for contact in people.contacts.values() for way in contact.ways.values()}
    return frozenset({*map(Addressee, own), *ways})


def _contact_rates(config: Config, people: Roster) -> dict[Addressee, Rates]:
    """By the name of the way, for each contact that has it."""
    return {
        to: read_rates(config.rate_limits.per_contact[way])
        for contact in people.contacts.values()
        for way, to in contact.ways.items()
        if way in config.rate_limits.per_contact
    }


def _local_names(config: Config) -> frozenset[str]:
    """By what names an instance may call this machine."""
    host = socket.gethostname()
    addresses = _interfaces()
    named = {config.instance, host, host.partition(".")[0], *addresses}
    bracketed = {f"[{address}]" for address in addresses if ":" in address}
    return frozenset(name.lower() for name in named | bracketed if name)


def external_url(config: Config) -> str:
    """Where people reach the agent: by the machine's name and the port served, as Prometheus
    has it, unless the configuration says where."""
    port = config.web.listen_address.rpartition(":")[2]
    scheme = "https" if serves_tls(config) else "http"
    return config.external_url or f"{scheme}://{_ascii(socket.gethostname())}:{port}"


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
        path if names_a_pack(path) else str(directory / Path(path).expanduser())
        for path in config.rule_files
    )
    return anchored(config, directory).model_copy(update={"rule_files": rules})


def _with_policies(config: Config, local_mail: CheckLocalServer) -> Config:
    """With a policy for each severity: those not given tell everybody who can be told."""
    receivers = config.receivers or {"log": LogSettings(type="log")}
    config = config.model_copy(update={"receivers": receivers})
    config = with_mail_receiver(config, _ascii(socket.gethostname()), local_mail)
    first, later = _default_recipients(config)
    policies = {**default_policies(first, later), **config.policies}
    own = policies["P0"].group or GroupTimes()
    if not {"wait"} & {*own.model_fields_set, *config.group.model_fields_set}:
        # The wait gathers what belongs together; nobody who writes steps means to page P0 late.
        at_once = {"wait": 0, **own.model_dump(include=own.model_fields_set)}
        policies["P0"] = policies["P0"].model_copy(
            update={"group": GroupTimes.model_construct({"wait", *own.model_fields_set}, **at_once)}
        )
    whole = {name: _with_times(section, config.group) for name, section in policies.items()}
    return config.model_copy(update={"policies": whole})


def _with_times(section: PolicySection, every: GroupTimes) -> PolicySection:
    """What is shown as the configuration that runs says of each policy what it has."""
    if section.group is None:
        return section
    return section.model_copy(update={"group": section.group.filled_from(every)})


def _default_recipients(config: Config) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Whom the default policies tell: in the first step receivers and who is on call in the first
    schedule, later everybody."""
    people = roster(config)
    own = {way.receiver for contact in people.contacts.values() for way in contact.ways.values()}
    receivers: list[dict[str, Any]] = [
        {"receiver": name}
        for name, settings in config.receivers.items()
        if _has_addressees(settings) and (contact_key(settings.type) or name not in own)
    ]
    everyone = [{"everyone": True}] if any(one.ways for one in people.contacts.values()) else []
    on_call = [{"schedule": name} for name in list(config.schedules)[:1]]
    log = [{"receiver": "log"}]
    return receivers + (on_call or everyone) or log, receivers + everyone or log


def _memoised(local_mail: CheckLocalServer) -> CheckLocalServer:
    """It may take seconds, and is asked by the check and for the receiver."""
    known: dict[tuple[str, ...], str] = {}

    def ask(sender: str, recipients: Sequence[str]) -> str:
        key = (sender, *recipients)
        if key not in known:
            known[key] = local_mail(sender, recipients)
        return known[key]

    return ask


def signed_links(config: Config) -> SignedLinks:
    """Those of messages; there are none before it has its key."""
    return SignedLinks(external_url(config), config.links.enabled)


def channel_deps(
    config: Config,
    vault: Vault,
    links: SignedLinks | None = None,
    own: OwnTemplates | None = None,
) -> ChannelDeps:
    """What the channels of the configuration are built from, besides their sections."""
    links = links or SignedLinks()
    return ChannelDeps(
        vault=vault,
        templates=message_templates(config, links, own),
        addresses=emails(config),
        phones=phones(config),
        hostname=_ascii(socket.gethostname()),
        links=links,
        own=own_addresses(config),
    )


def own_addresses(config: Config) -> OwnAddresses:
    host, port = listen.parse(config.web.listen_address)
    return OwnAddresses(host, port, socket.gethostname(), config.external_url, _interfaces)


def _interfaces() -> frozenset[str]:
    several = psutil.net_if_addrs().values()
    return frozenset(one.address.partition("%")[0] for interface in several for one in interface)


def own_templates(config: Config, failures: Counter[str] | None = None) -> OwnTemplates:
    """What stands in the directory `templates`; never raises: a page goes out with our texts.
    `failures` are counted on."""
    counted = Counter[str]() if failures is None else failures
    return OwnTemplates(config.templates, Clock().monotonic, failures=counted)


def message_templates(
    config: Config,
    links: SignedLinks | None = None,
    own: OwnTemplates | None = None,
    language: str = "",
) -> MessageTemplates:
    """What messages say, in the language, the zone and under the name that the file gives."""
    machine = config.instance or socket.gethostname()
    scheme = "https" if serves_tls(config) else "http"
    alertctl = alertctl_command(f"{scheme}://{config.web.listen_address}")
    zone = ZoneInfo(config.time_zone)
    language = language or config.language
    return MessageTemplates(language, zone, machine, alertctl, links, own)


def _ascii(hostname: str) -> str:
    return hostname if hostname.isascii() and hostname.isprintable() and hostname else "localhost"


def _without_covered(problems: Iterable[Problem]) -> list[Problem]:
    """Without those that the checks between the parts say better."""
    return [problem for problem in problems if UNKNOWN_TYPE_MESSAGE not in problem.message]


def _channel_problems(
    document: Document, config: Config, vault: Vault, known: set[str | int]
) -> list[Problem]:
    """Receivers that cannot be built, besides those of which it is known why."""
    deps, problems = channel_deps(config, vault), list[Problem]()
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


def _server_problems(document: Document, config: Config, known: set[str | int]) -> list[Problem]:
    """Servers elsewhere that cannot be asked, besides sections of which it is known why."""
    own, problems = own_addresses(config), []
    for at, section in servers(config):
        try:
            if at[0] not in known:
                section.access.check()
            if at[0] in ("alertmanagers", "remote_write"):
                guarded_lookup(str(at[0]), section.url, own)
        except ValueError as error:
            problems.append(document.problem(at, str(error)))
    return problems


def servers(config: Config) -> Iterator[tuple[tuple[str | int, ...], ServerSection]]:
    """Each that the configuration names, with its place there."""
    if config.datasource is not None and not config.datasource.embedded:
        yield ("datasource",), config.datasource
    lists: dict[str, Sequence[ServerSection]] = {
        "group_datasources": config.group_datasources,
        "alertmanagers": config.alertmanagers,
        "remote_write": config.remote_write,
    }
    for name, several in lists.items():
        for number, one in enumerate(several):
            if one.url != EMBEDDED:
                yield (name, number), one


def _web_problems(config: Config) -> list[Problem]:
    """What is wrong in the file of `web.config_file`, at its places there."""
    try:
        web_config(config)
    except InvalidDocument as error:
        return error.problems
    return []


def _heartbeat_problems(
    document: Document, config: Config, vault: Vault, covered: set[tuple[str | int, ...]]
) -> list[Problem]:
    """Heartbeats that cannot be sent or told apart, besides those of which it is known why."""
    problems = []
    for number, settings in enumerate(config.heartbeats.out):
        at = ("heartbeats", "out", number)
        try:
            if at not in covered:
                HeartbeatPing(settings, vault)
        except (ValueError, OSError) as error:
            problems.append(document.problem(at, str(error)))
    names: dict[str, str] = {}
    for name, section in config.heartbeats.expected.items():
        place = ("heartbeats", "expected", name)
        try:
            if (
                place not in covered
                and (other := names.setdefault(section.token_text(vault), name)) != name
            ):
                raise ValueError(f'"{other}" has the same token: nobody could tell which one came')
        except ValueError as error:
            problems.append(document.problem(place, str(error)))
    return problems
