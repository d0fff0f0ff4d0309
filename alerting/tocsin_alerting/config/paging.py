"""Whether a page reaches a person: what a configuration that is right may still not do."""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

from tocsin_alerting.config.config import BUNDLED_RULES, Config
from tocsin_alerting.config.load import external_url, incident_config
from tocsin_alerting.config.mailing import mail_receiver
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, Severity
from tocsin_alerting.notify.apprise import AppriseSettings
from tocsin_alerting.notify.log import LogSettings
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.webhook.refusal import service_refusing_in_body
from tocsin_alerting.notify.webhook.settings import WebhookSettings, target_url
from tocsin_exporter import listen

CONTAINER_ID = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}")
_URGENT = (Severity.P0, Severity.P1)
_HOW = "name your address in contacts and a mail server in smtp (docs/configuration.md#who-is-told)"


def nobody_paged(config: Config) -> bool:
    """Whether every message goes to the log, however bad things are."""
    return all(isinstance(receiver, LogSettings) for receiver in config.receivers.values())


def warnings(config: Config, vault: Vault) -> list[str]:
    """What somebody who relies on being paged should know, a sentence each."""
    besides = [*_no_files(config), *_passing_name(config), *_no_users(config)]
    if nobody_paged(config):
        return [f"nobody is paged: every message goes to the log alone; {_HOW}", *besides]
    return [
        *besides,
        *_no_rules(config),
        *_unpaged(config),
        *_unwritten(config),
        *_body_refusals(config, vault),
    ]


def _no_files(config: Config) -> Iterator[str]:
    for pattern in config.rule_files:
        if pattern != BUNDLED_RULES and not glob.glob(pattern):
            yield f"rule_files: no file is called {pattern}: it brings no rule; correct the pattern"


def _passing_name(config: Config) -> Iterator[str]:
    if CONTAINER_ID.fullmatch(config.instance):
        yield (
            f"instance: {config.instance} looks like a container's id, and the next container has"
            " another one; name the machine"
        )


def _no_users(config: Config) -> Iterator[str]:
    for name, near in config.discovery.unknown_users():
        meant = f'did you mean "{near}"?' if near else "correct it, or give the user's number"
        yield (
            f'discovery.allow_users: no user of this machine is called "{name}", so no engine is'
            f" found by it; {meant}"
        )


def notes(config: Config, listen_addresses: Sequence[str] = ()) -> list[str]:
    """What is right and works, and still makes messages worse than they could be.

    `listen_addresses` are those of the command line, which come before the configuration's.
    """
    addresses = listen_addresses or [config.web.listen_address]
    if config.external_url or nobody_paged(config) or not all(map(_is_local, addresses)):
        return []
    return [
        f"links in messages point to {external_url(config)}, and the agent listens on"
        f" {', '.join(addresses)}, which only this machine can reach; set external_url"
    ]


def _is_local(address: str) -> bool:
    host = listen.parse(address)[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_rules(config: Config) -> Iterator[str]:
    if not config.rule_files:
        yield "nobody is paged: rule_files names no rules; `rule_files: [bundled]` has ours"


def _unpaged(config: Config) -> Iterator[str]:
    incidents = incident_config(config)
    for severity in _URGENT:
        if not _people(incidents.policies[severity.value], config):
            yield f"{severity} pages nobody: its policy tells the log alone; name a receiver in it"
    p0 = _people(incidents.policies[Severity.P0.value], config)
    if p0 and all(isinstance(config.receivers[name], AppriseSettings) for name in p0):
        yield (
            "P0 goes out by apprise alone, which counts some refused messages as told; name mail or"
            " a webhook beside it"
        )
    for number, route in enumerate(config.routes, 1):
        name = route.policy
        policy = incidents.policies.get(name) if name and name not in Severity.__members__ else None
        added = any(_reaches_people(addressee, config) for addressee in route.receivers_add)
        if policy and not added and not _people(policy, config):
            yield (
                f"route {number} pages nobody: policy {name} tells the log alone; whatever matches"
                " it is silent, P0 as well"
            )


def _people(policy: EscalationPolicy, config: Config) -> set[str]:
    """The receivers of the policy that are more than the log."""
    steps = [target for step in policy.steps for target in step.notify]
    targets = [*steps, *(policy.final.notify if policy.final else ())]
    return {
        addressee.receiver for addressee in targets if _reaches_people(addressee.receiver, config)
    }


def _reaches_people(receiver: str, config: Config) -> bool:
    return not isinstance(config.receivers.get(receiver), LogSettings | None)


def _unwritten(config: Config) -> Iterator[str]:
    if config.contacts and not mail_receiver(config):
        who = ", ".join(config.contacts)
        yield f"nothing can write to {who}: they are told nothing; add smtp (docs/channels.md)"


def _body_refusals(config: Config, vault: Vault) -> Iterator[str]:
    webhooks: Mapping[str, WebhookSettings] = {
        name: one for name, one in config.receivers.items() if isinstance(one, WebhookSettings)
    }
    for name, settings in webhooks.items():
        service = service_refusing_in_body(target_url(settings, vault).value)
        if service:
            yield (
                f'receiver "{name}": {service} does not read the body of a webhook: it answers 200'
                " and refuses in its answer, so no page arrives there; use mail, or apprise"
            )
