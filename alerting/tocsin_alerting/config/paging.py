"""Whether a page reaches a person: what a configuration that is right may still not do."""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence

from tocsin_alerting.bundled import names_a_pack
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.link_reach import Resolves, unreachable_links
from tocsin_alerting.config.load import Calendars, external_url, incident_config, roster
from tocsin_alerting.config.oncall_lint import gap_warnings
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy
from tocsin_alerting.incidents.roster import Roster, possible_addressees
from tocsin_alerting.notify.apprise import AppriseSettings
from tocsin_alerting.notify.contact_ways import types_by, ways_by
from tocsin_alerting.notify.http_sender import target_url
from tocsin_alerting.notify.registry import RECORDS
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.twilio.settings import TwilioVoiceSettings
from tocsin_alerting.notify.twilio.voice import is_public_https
from tocsin_alerting.notify.webhook.http_outcome import receiver_type_for, service_refusing_in_body
from tocsin_alerting.notify.webhook.settings import WebhookSettings
from tocsin_alerting.rules.severity import Severity

CONTAINER_ID = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}")
_URGENT = (Severity.P0, Severity.P1)
_HOW = "set your address in contacts and smtp (docs/configuration.md#who-is-notified)"


def nobody_paged(config: Config) -> bool:
    """Whether every message goes to the log, however bad things are."""
    return all(isinstance(receiver, RECORDS) for receiver in config.receivers.values())


def warnings(
    config: Config, vault: Vault, now_ms: int, calendars: Calendars | None = None
) -> list[str]:
    """What somebody who relies on being paged should know, a sentence each; without `calendars`
    nothing about schedules that have one."""
    besides = [*_no_files(config), *_passing_name(config), *_no_users(config)]
    if nobody_paged(config):
        return [f"nobody is paged: every message goes to the log alone; {_HOW}", *besides]
    return [
        *besides,
        *_no_rules(config),
        *_unpaged(config),
        *_gaps(config, now_ms, calendars),
        *_unwritten(config),
        *_body_refusals(config, vault),
    ]


def _gaps(config: Config, now_ms: int, calendars: Calendars | None) -> Iterator[str]:
    schedules = config.schedules.items()
    unread = {name for name, section in schedules if section.has_calendar and calendars is None}
    yield from gap_warnings(incident_config(config, calendars), now_ms, unread)


def _no_files(config: Config) -> Iterator[str]:
    for pattern in config.rule_files:
        if not names_a_pack(pattern) and not glob.glob(pattern):
            yield f"rule_files: no file matches {pattern}: it loads no rules; correct the pattern"


def _passing_name(config: Config) -> Iterator[str]:
    if CONTAINER_ID.fullmatch(config.instance):
        yield (
            f"instance: {config.instance} looks like a container id, which changes with each"
            " container; name the machine"
        )


def _no_users(config: Config) -> Iterator[str]:
    for name, near in config.discovery.unknown_users():
        meant = f'did you mean "{near}"?' if near else "correct it, or give the user's number"
        yield (
            f'discovery.allow_users: this machine has no user "{name}", so the entry allows'
            f" no engine; {meant}"
        )


def notes(
    config: Config, listen_addresses: Sequence[str] = (), resolves: Resolves | None = None
) -> list[str]:
    """What is right and works, and still makes messages worse than they could be.

    `listen_addresses` are those of the command line, which come before the configuration's;
    `resolves` looks names up.
    """
    if nobody_paged(config):
        return []
    alone = unwatched(config)
    links = unreachable_links(config, listen_addresses, resolves)
    return [*filter(None, [alone, links]), *_keyless_calls(config)]


def _keyless_calls(config: Config) -> Iterator[str]:
    """Calls that nobody can acknowledge by a key."""
    public = is_public_https(external_url(config))
    for name, settings in config.receivers.items():
        if not isinstance(settings, TwilioVoiceSettings) or not settings.press_to_acknowledge:
            continue
        token = settings.auth_token_file is not None or settings.auth_token_env is not None
        if not public or not token:
            lack = "external_url is https at a public name" if not public else "it has auth_token"
            yield f'receiver "{name}": a call can be acknowledged by a key only where {lack}'


def unwatched(config: Config) -> str:
    """What is so until something outside watches this machine, "" once it does."""
    if config.heartbeats.out:
        return ""
    return "nobody is paged if this machine dies; set heartbeats.out (docs/heartbeats.md)"


def _no_rules(config: Config) -> Iterator[str]:
    if not config.rule_files:
        yield (
            "rule_files is empty: only alerts that others send page anybody; for Tocsin's own write"
            " `rule_files: [bundled]`"
        )


def _unpaged(config: Config) -> Iterator[str]:
    incidents = incident_config(config)
    for severity in _URGENT:
        if not _people(incidents.policies[severity.value], config, incidents.roster):
            yield f"{severity} pages nobody: its policy notifies only the log; add a receiver"
    p0 = _people(incidents.policies[Severity.P0.value], config, incidents.roster)
    if p0 and all(isinstance(config.receivers[name], AppriseSettings) for name in p0):
        yield (
            "P0 goes out by apprise alone, which reports some refused messages as delivered; add"
            " mail or a webhook"
        )
    for number, route in enumerate(config.routes, 1):
        name = route.policy
        policy = incidents.policies.get(name) if name and name not in Severity.__members__ else None
        added = any(_reaches_people(addressee, config) for addressee in route.receivers_add)
        if policy and not added and not _people(policy, config, incidents.roster):
            yield (
                f"route {number} pages nobody: policy {name} notifies only the log; no alert"
                " that matches it pages, not even P0"
            )


def _people(policy: EscalationPolicy, config: Config, people: Roster) -> set[str]:
    """The receivers of the policy that are more than the log."""
    recipients = [recipient for step in policy.steps for recipient in step.notify]
    recipients += policy.final.notify if policy.final else ()
    return {
        addressee.receiver
        for addressee in possible_addressees(recipients, people)
        if _reaches_people(addressee.receiver, config)
    }


def _reaches_people(receiver: str, config: Config) -> bool:
    return not isinstance(config.receivers.get(receiver), (*RECORDS, type(None)))


def _unwritten(config: Config) -> Iterator[str]:
    people = roster(config).contacts
    sections = config.contacts.items()
    by_mail = [name for name, one in sections if one.email and not people[name].ways]
    by_phone = {*ways_by(["phone"])}
    idle = [name for name, one in sections if one.phone and not by_phone & {*people[name].ways}]
    if by_mail:
        who = ", ".join(by_mail)
        yield f"no mail server for {who}: they get no notifications; add smtp (docs/channels.md)"
    if idle:
        alone = all(not people[name].ways for name in idle)
        then = "they get no notifications" if alone else "their numbers are not used"
        kinds = " or ".join(types_by("phone"))
        yield f"no receiver calls {', '.join(idle)} or sends SMS: {then}; add one of type {kinds}"
    logged = [
        name
        for name, contact in roster(config).contacts.items()
        if contact.ways
        and not any(_reaches_people(way.receiver, config) for way in contact.ways.values())
    ]
    if logged:
        yield f"{', '.join(logged)} get no notifications: their ways lead to the log; add email"


def _body_refusals(config: Config, vault: Vault) -> Iterator[str]:
    yield from refused_webhooks(config, vault).values()


def refused_webhooks(config: Config, vault: Vault) -> Mapping[str, str]:
    """By their names, the receivers of type `webhook` whose service takes no such body, and what to
    do about each."""
    return dict(_refused_webhooks(config, vault))


def _refused_webhooks(config: Config, vault: Vault) -> Iterator[tuple[str, str]]:
    webhooks: Mapping[str, WebhookSettings] = {
        name: settings
        for name, settings in config.receivers.items()
        if isinstance(settings, WebhookSettings)
    }
    for name, settings in webhooks.items():
        url = target_url(settings, vault).value
        service, kind = service_refusing_in_body(url), receiver_type_for(url)
        if service:
            use = f"use type: {kind}" if kind else "use mail or apprise"
            yield (
                name,
                f'receiver "{name}": {service} does not accept webhook bodies: it answers 200 and'
                f" refuses in the response, so no page arrives; {use}",
            )
