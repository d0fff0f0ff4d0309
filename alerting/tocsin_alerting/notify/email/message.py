"""An e-mail as the bytes that SMTP carries, threaded by incident in the reader's mail program."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import NOTICE_REASONS
from tocsin_alerting.notify.message_templates import MessageTemplates

# No quoting and no display name: what is in it goes into headers and commands as it stands.
_ADDRESS = re.compile(r'[^\s@<>()\[\],;:"\\]+@[^\s@<>()\[\],;:"\\]+')
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
    """Text and HTML; the Message-ID depends on the notification's key alone, so a retry has it."""
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
    return mail


def message_id(key: str, domain: str) -> str:
    return f"<{sha256(key.encode()).hexdigest()[:32]}@{domain}>"


def _without_surrogates(text: str) -> str:
    """Without lone surrogates, which no charset can carry."""
    return text.encode(errors="replace").decode()


def _header_value(text: str) -> str:
    """A header's value: never a line break, whatever a label held."""
    return _without_surrogates("".join(c if c.isprintable() else " " for c in text))
