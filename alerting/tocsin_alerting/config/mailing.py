"""How contacts are written to: by the first receiver of a type that does it. Mail goes without one
by the section `smtp`, else by this machine's own mail server, if one answers and takes them."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.references import (
    Findings,
    contact_writers,
    names,
    parts_at,
    recipients,
    ways_of,
)
from tocsin_alerting.notify.contact_ways import EMAIL, contact_key, way_receivers
from tocsin_alerting.notify.email.local_server import LOCAL_SERVER, CheckLocalServer
from tocsin_alerting.notify.email.message import bare_address
from tocsin_alerting.notify.email.settings import EmailSettings

_ADD = (
    'add `smtp: {smarthost: "smtp.example.com:587"}` with what your mail server asks for '
    "(docs/channels.md#contacts)"
)


def contact_receivers(config: Config) -> dict[str, str]:
    """The receivers that write to contacts, by the way: the first that can in the file."""
    return way_receivers({name: settings.type for name, settings in config.receivers.items()})


def mail_receiver(config: Config) -> str:
    """The one that writes mail to contacts; "" without one."""
    return contact_receivers(config).get(EMAIL, "")


def with_mail_receiver(config: Config, hostname: str, why_not: CheckLocalServer) -> Config:
    """With a receiver that writes to contacts, if there are any and mail can be sent."""
    if not _addresses(config) or mail_receiver(config):
        return config
    settings = _own_mailer(config, f"tocsin@{hostname}", why_not)
    if settings is None:
        return config
    taken = config.receivers
    name = next(
        candidate for candidate in ("mail", "smtp", "contacts-by-mail") if candidate not in taken
    )
    return config.model_copy(update={"receivers": {**taken, name: settings}})


def _addresses(config: Config) -> list[str]:
    return [contact.email for contact in config.contacts.values() if contact.email]


def _own_mailer(config: Config, sender: str, why_not: CheckLocalServer) -> EmailSettings | None:
    if config.smtp is not None:
        given = {name: getattr(config.smtp, name) for name in config.smtp.model_fields_set}
        given.pop("sender", None)
        made = {"type": "email", "from": config.smtp.sender or sender}
        return EmailSettings.model_validate(made | _as_written(given))
    if why_not(sender, _addresses(config)):
        return None
    local = {"type": "email", "from": sender, "smarthost": LOCAL_SERVER, "tls": "none"}
    return EmailSettings.model_validate(local)


def _as_written(given: Mapping[str, Any]) -> dict[str, Any]:
    """Durations are text where a section is read."""
    return {n: f"{v}ms" if n == "timeout" else v for n, v in given.items() if v is not None}


def mail_problems(data: Any, hostname: str, why_not: CheckLocalServer) -> Findings:
    """Contacts to whom nothing can write, and mail servers that have nobody to write to."""
    yield from _idle_writers(data)
    people = [
        address for _, address in parts_at(data, "contacts", "*", "email") if _is_address(address)
    ]
    if EMAIL in contact_writers(data) or (isinstance(data, Mapping) and data.get("smtp")):
        return
    by_mail = [
        (*at, "via") if recipient.get("via") else at
        for at, recipient in recipients(data)
        if _needs_mail(data, recipient)
    ]
    if not people or (_has_other_channels(data) and not by_mail):
        return
    trouble = why_not(f"tocsin@{hostname}", people)
    if trouble:
        who = ", ".join(names(data, "contacts"))
        text = f"no mail can be sent to {who}: no receiver of type email, no section smtp, and"
        for path in by_mail or [("contacts",)]:
            yield path, f"{text} {trouble}; {_ADD}"


def _needs_mail(data: Any, recipient: Any) -> bool:
    """Whether a recipient of a step is written to by mail, and by nothing else."""
    if not isinstance(recipient, Mapping):
        return False
    via, contact = recipient.get("via"), recipient.get("contact")
    if via:
        return EMAIL in (via if isinstance(via, list) else [via])
    return isinstance(contact, str) and not {*ways_of(data, contact)} - {EMAIL}


def _is_address(value: Any) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and bool(bare_address(value))
    except ValueError:
        return False


def _idle_writers(data: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Receivers without addressees of their own, where no contact brings any."""
    people = names(data, "contacts")
    for (_, name, _), kind in parts_at(data, "receivers", "*", "type"):
        key = contact_key(kind)
        needed = people if key == EMAIL else [*parts_at(data, "contacts", "*", key)]
        if key and not needed and not any(parts_at(data, "receivers", name, "to", "*")):
            lack = f"no contact has a {key}" if people else "there are no contacts"
            text = f'receiver "{name}" has no "to" and {lack}: it reaches nobody'
            yield ("receivers", name), f"{text}; add one of them"


def _has_other_channels(data: Any) -> bool:
    """Whether people are told by something else than mail and the log."""
    return any(kind != "log" for _, kind in parts_at(data, "receivers", "*", "type"))
