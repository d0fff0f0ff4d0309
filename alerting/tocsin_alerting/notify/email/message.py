"""An e-mail as the bytes that SMTP carries, threaded by incident in the reader's mail program."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import NOTICE_REASONS
from tocsin_alerting.notify.message_templates import MessageTemplates, chart_id

# No quoting and no display name: what is in it goes into headers and commands as it stands.
_ADDRESS = re.compile(r'[^\s@<>()\[\],;:"\\]+@[^\s@<>()\[\],;:"\\]+')
_HEADER_NAME = re.compile("[!-9;-~]{1,70}")  # RFC 5322 section 3.6.8
_OWN_HEADERS = re.compile(
    "from|to|cc|bcc|sender|reply-to|subject|date|message-id|in-reply-to|references|mime-version"
    "|received|return-path|content-.*",
    re.IGNORECASE,
)
_PRIORITY = {"P0": "1 (Highest)", "P1": "2 (High)", "P3": "4 (Low)", "P4": "5 (Lowest)"}
_IMPORTANCE = {"P0": "high", "P1": "high", "P3": "low", "P4": "low"}


def bare_address(text: str) -> str:
    """A bare address, `li@example.com`. Raises ValueError for anything else."""
    if not _ADDRESS.fullmatch(text) or not text.isprintable():
        raise ValueError(f"{text!r} is not an address like li@example.com")
    return text


def email_message(
    notification: Notification,
    templates: MessageTemplates,
    sender: str,
    to: Sequence[str],
    now_ms: int,
) -> EmailMessage:
    """Text, and HTML with its chart; the Message-ID depends on the notification's key alone, so a
    retry has it."""
    domain = sender.rpartition("@")[2]
    thread = f"<incident-{notification.incident}-{notification.opened_at_ms}@{domain}>"
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Subject"] = _header_value(templates.subject(notification))
    mail["Date"] = datetime.fromtimestamp(now_ms // 1000, UTC)
    mail["Message-ID"] = message_id(notification.key, domain)
    mail["In-Reply-To"] = mail["References"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Incident-Id"] = str(notification.incident)
    pages = notification.reason not in NOTICE_REASONS
    mail["X-Priority"] = _PRIORITY.get(notification.severity if pages else "", "3 (Normal)")
    mail["Importance"] = _IMPORTANCE.get(notification.severity if pages else "", "normal")
    mail.set_content(_without_surrogates(templates.text(notification, now_ms)))
    mail.add_alternative(_without_surrogates(templates.html(notification, now_ms)), subtype="html")
    if notification.evidence and notification.evidence.chart:
        *_, page = mail.iter_parts()
        assert isinstance(page, EmailMessage)
        chart, name = notification.evidence.chart, chart_id(notification)
        page.add_related(chart, "image", "png", cid=f"<{name}>", disposition="inline")
    return mail


def usable_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Raises ValueError for what a mail cannot carry, or what is written here already."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or _OWN_HEADERS.fullmatch(name):
            raise ValueError(f"header {name!r} cannot be set; remove it")
        if not value.isprintable() or not value.strip():
            raise ValueError(f"header {name} needs a value in one line")
    return headers


def add_headers(
    mail: EmailMessage, cc: Sequence[str], reply_to: str | None, more: Mapping[str, str]
) -> None:
    """Who else gets it, where answers go, and what rules of a mail program look at. `List-Id` is
    what they look at first (RFC 2919); there is no list to leave."""
    if cc:
        mail["Cc"] = ", ".join(cc)
    if reply_to:
        mail["Reply-To"] = reply_to
    domain = str(mail["From"]).rpartition("@")[2].rstrip(">")
    names = {name.lower() for name in more}
    if domain.isascii() and "list-id" not in names:
        mail["List-Id"] = f"<tocsin.{domain}>"
    for name, value in more.items():
        del mail[name]
        mail[name] = _header_value(value)


def message_id(key: str, domain: str) -> str:
    return f"<{sha256(key.encode()).hexdigest()[:32]}@{domain}>"


def _without_surrogates(text: str) -> str:
    """Without lone surrogates, which no charset can carry."""
    return text.encode(errors="replace").decode()


def _header_value(text: str) -> str:
    """A header's value: never a line break, whatever a label held."""
    return _without_surrogates("".join(c if c.isprintable() else " " for c in text))
