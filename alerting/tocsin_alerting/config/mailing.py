"""How contacts are written to: by the first receiver of type email, else by the section `smtp`,
else by this machine's own mail server, if one answers and takes them."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.references import Findings, addressees, mailers, names, parts_at
from tocsin_alerting.notify.email.local_server import LOCAL_SERVER, CheckLocalServer
from tocsin_alerting.notify.email.message import bare_address
from tocsin_alerting.notify.email.settings import EmailSettings

_ADD = (
    'add `smtp: {smarthost: "smtp.example.com:587"}` with what your mail server asks for '
    "(docs/channels.md#contacts)"
)


def mail_receiver(config: Config) -> str:
    """The receiver that writes to contacts: the first of type email; "" without one."""
    kinds = config.receivers.items()
    return next((name for name, settings in kinds if isinstance(settings, EmailSettings)), "")


def with_mail_receiver(config: Config, hostname: str, why_not: CheckLocalServer) -> Config:
    """With a receiver that writes to contacts, if there are any and mail can be sent."""
    if not config.contacts or mail_receiver(config):
        return config
    settings = _own_mailer(config, f"tocsin@{hostname}", why_not)
    if settings is None:
        return config
    taken = config.receivers
    name = next(
        candidate for candidate in ("mail", "smtp", "contacts-by-mail") if candidate not in taken
    )
    return config.model_copy(update={"receivers": {**taken, name: settings}})


def _own_mailer(config: Config, sender: str, why_not: CheckLocalServer) -> EmailSettings | None:
    if config.smtp is not None:
        given = {name: getattr(config.smtp, name) for name in config.smtp.model_fields_set}
        given.pop("sender", None)
        made = {"type": "email", "from": config.smtp.sender or sender}
        return EmailSettings.model_validate(made | _as_written(given))
    if why_not(sender, [contact.email for contact in config.contacts.values()]):
        return None
    local = {"type": "email", "from": sender, "smarthost": LOCAL_SERVER, "tls": "none"}
    return EmailSettings.model_validate(local)


def _as_written(given: Mapping[str, Any]) -> dict[str, Any]:
    """Durations are text where a section is read."""
    return {n: f"{v}ms" if n == "timeout" else v for n, v in given.items() if v is not None}


def mail_problems(data: Any, hostname: str, why_not: CheckLocalServer) -> Findings:
    """Contacts to whom nothing can write, and mail servers that have nobody to write to."""
    yield from _idle_mailers(data)
    people = [one for _, one in parts_at(data, "contacts", "*", "email") if _is_address(one)]
    if mailers(data) or (isinstance(data, Mapping) and data.get("smtp")):
        return
    by_mail = [at for at, one in addressees(data) if isinstance(one, Mapping) and one.get("via")]
    if not people or (_has_other_channels(data) and not by_mail):
        return
    trouble = why_not(f"tocsin@{hostname}", people)
    if trouble:
        who = ", ".join(names(data, "contacts"))
        text = f"nothing can write to {who}: no receiver of type email, no section smtp, and"
        for path in [(*at, "via") for at in by_mail] or [("contacts",)]:
            yield path, f"{text} {trouble}; {_ADD}"


def _is_address(value: Any) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and bool(bare_address(value))
    except ValueError:
        return False


def _idle_mailers(data: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if names(data, "contacts"):
        return
    for name in mailers(data):
        if not any(parts_at(data, "receivers", name, "to", "*")):
            text = f'receiver "{name}" has no "to" and there are no contacts: it writes to nobody'
            yield ("receivers", name), f"{text}; add one of them"


def _has_other_channels(data: Any) -> bool:
    """Whether people are told by something else than mail and the log."""
    return any(kind != "log" for _, kind in parts_at(data, "receivers", "*", "type"))
