"""E-mail by SMTP: STARTTLS unless told otherwise, one connection a message."""

import base64
from collections import OrderedDict
from dataclasses import replace
from email.message import EmailMessage
from functools import partial

from aiosmtplib import SMTP

from tocsin_alerting.http import Lookup, tls_context
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome
from tocsin_alerting.notify.channel import ChannelDeps, describe_outcome, nobody
from tocsin_alerting.notify.contact_ways import EMAIL
from tocsin_alerting.notify.email.message import add_headers, email_message
from tocsin_alerting.notify.email.settings import EmailSettings
from tocsin_alerting.notify.email.smtp import Login, send_mail
from tocsin_alerting.notify.rehearsal import Rehearsed, rehearsed
from tocsin_alerting.notify.secret import masked

_MAX_PARTIAL_DELIVERIES = 1000


class PartialDeliveries:
    """Recipients that a message has not reached yet, when it reached others: on a retry it goes to
    them alone. Of more than `most` messages the oldest is forgotten."""

    def __init__(self, most: int = _MAX_PARTIAL_DELIVERIES) -> None:
        self._most = most
        self._unreached: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def recipients(self, key: str, to: tuple[str, ...]) -> tuple[str, ...]:
        """Whom the message goes to that is for `to`."""
        return self._unreached.get(key, to)

    def keep(self, key: str, unreached: tuple[str, ...]) -> None:
        self._unreached.pop(key, None)
        if unreached:
            self._unreached[key] = unreached
        if len(self._unreached) > self._most:
            self._unreached.popitem(last=False)


class Email:
    """Writes to the contact of a notification, or to its own addressees when it names none."""

    def __init__(self, name: str, settings: EmailSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 4
        self.send_resolved = settings.send_resolved
        self._settings, self._deps = settings, deps
        self.lookup = Lookup(name)
        secret = deps.vault.secret(settings.password_file, settings.password_env)
        self._login = Login(settings.username or "", secret.value) if secret else None
        ca_file = str(settings.ca_file) if settings.ca_file else None
        self._tls = tls_context(ca_file, verify=not settings.insecure_skip_verify)
        if settings.cert_file is not None:
            self._tls.load_cert_chain(settings.cert_file, settings.key_file)
        self._partial_deliveries = PartialDeliveries()

    def __repr__(self) -> str:
        return f"Email({self.name}, {self._settings.smarthost})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        to = self._addressees(notification)
        if not to:
            return nobody(notification, "e-mail address")
        settings, dialogue = self._settings, list[str]()
        mail = email_message(notification, self._deps.templates, settings.sender, to, now_ms)
        cc, bcc = ((), ()) if notification.contact else (settings.cc, settings.bcc)
        add_headers(mail, cc, settings.reply_to, settings.headers)
        if rehearsed(partial(self._shown, mail, (*to, *cc, *bcc)), self._secrets()):
            return Delivered()
        rest = self._partial_deliveries.recipients(notification.key, (*to, *cc, *bcc))
        limit_s = settings.timeout / 1000
        connect = partial(self.lookup.connect, settings.host, settings.port)
        handed = await send_mail(
            self._client(), connect, self._login, mail, rest, dialogue, limit_s
        )
        self._partial_deliveries.keep(notification.key, handed.unreached)
        result = self._without_secrets(handed.outcome)
        if transcript is not None:
            transcript += [
                masked(line, self._secrets()) for line in (*dialogue, describe_outcome(result))
            ]
        return result

    def _shown(self, mail: EmailMessage, to: tuple[str, ...]) -> Rehearsed:
        text, page = (mail.get_body((kind,)) for kind in ("plain", "html"))
        return Rehearsed(
            f"{self._settings.smarthost} for {', '.join(to)}",
            text.get_content() if text else "",
            {name: str(value) for name, value in mail.items()},
            page.get_content() if page else "",
        )

    def begin(self) -> None:
        self.lookup.begin(self._settings.host)

    async def close(self) -> None:
        """Nothing stays open between messages."""

    def _addressees(self, notification: Notification) -> tuple[str, ...]:
        if not notification.contact:
            return self._settings.to
        address = self._deps.own_address(notification.contact, EMAIL)
        return (address,) if address else ()

    def _client(self) -> SMTP:
        settings = self._settings
        return SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname=settings.hello or self._deps.hostname,
            timeout=settings.timeout / 1000,
            use_tls=settings.tls == "implicit",
            start_tls=False,
            tls_context=None if settings.tls == "none" else self._tls,
        )

    def _without_secrets(self, outcome: Outcome) -> Outcome:
        secrets = self._secrets()
        if isinstance(outcome, Delivered):
            return Delivered(outcome.reference, masked(outcome.detail, secrets))
        error = masked(f"{self._settings.smarthost}: {outcome.error}", secrets)
        return replace(outcome, error=error)

    def _secrets(self) -> tuple[str, ...]:
        if self._login is None:
            return ()
        password = self._login.password
        plain = f"\0{self._login.username}\0{password}"
        return (
            password,
            *(base64.b64encode(secret.encode()).decode() for secret in (password, plain)),
        )
