"""What channels share that write into a room of a chat service: the URL that is a secret, whom a
message calls, and what of it nobody must repeat."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import NOTICE_REASONS
from tocsin_alerting.notify.http_sender import HttpSettings, usable_url
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret import Secret, Vault
from tocsin_alerting.settings import FilePath, RefusedKey


class SecretUrlSettings(HttpSettings):
    """The URL is all that it takes to write there, so it comes from `url_file` or `url_env`."""

    url: RefusedKey = None
    url_file: FilePath | None = None
    url_env: str | None = None

    @model_validator(mode="after")
    def _one_url(self) -> "SecretUrlSettings":
        if (self.url_file is None) == (self.url_env is None):
            raise ValueError("give exactly one of url_file and url_env")
        return self


def secret_url(settings: SecretUrlSettings, vault: Vault) -> Secret:
    """Raises ValueError, which does not show it."""
    secret = vault.secret(settings.url_file, settings.url_env)
    return Secret(usable_url(secret.value if secret else ""))


def key_in(url: Secret) -> tuple[str, ...]:
    """What these services hand out as a password: the end of the path, whatever it looks like."""
    return (urlsplit(url.value).path.rstrip("/").rpartition("/")[2],)


def calls_people(notification: Notification, mentions: Sequence[str]) -> Sequence[str]:
    """Those of `mentions` whom the message calls: all of them while it pages and nobody is on it,
    else none."""
    pages = notification.reason not in NOTICE_REASONS and notification.state != "ACKED"
    return mentions if pages else ()


def link_token(parts: MessageParts) -> str:
    """What is secret of the link that answers."""
    return parts.answer_url.rpartition("/")[2]
