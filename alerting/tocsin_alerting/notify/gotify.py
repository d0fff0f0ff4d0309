"""Gotify: a push message by a server of one's own.

Sources: github.com/gotify/server, docs/spec.json (fields, answers); github.com/gotify/website,
docs/msgextras.md (Markdown, what a click opens); github.com/gotify/android, README (priorities).
Its Python clients block, so none is used. Unverified, for want of a document: how long a text may
be; 8,000 characters are what a phone still shows well.
"""

from typing import Any, Literal

from pydantic import model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import chat_text, cut
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpChannel,
    HttpSettings,
    ServiceUrl,
    json_request,
)
from tocsin_alerting.notify.markdown import MARKDOWN
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret_keys import link_secrets, require_secrets, secret_of
from tocsin_alerting.settings import FilePath, RefusedKey

_MOST_TEXT, _MOST_TITLE = 8_000, 250  # characters
_PRIORITIES = {"P0": 10, "P1": 8, "P2": 5, "P3": 2, "P4": 0}
_NOTICE_PRIORITY = 4  # of what nobody has to get up for: a sound, no vibration


class GotifySettings(HttpSettings):
    """`url` is the server's, `token` that of an application there."""

    type: Literal["gotify"]
    url: ServiceUrl
    token: RefusedKey = None
    token_file: FilePath | None = None
    token_env: str | None = None

    @model_validator(mode="after")
    def _one_token(self) -> "GotifySettings":
        require_secrets(self, "token")
        return self


class Gotify(HttpChannel):
    def __init__(self, name: str, settings: GotifySettings, deps: ChannelDeps) -> None:
        self._templates = deps.templates
        token = secret_of(settings, "token", deps.vault)
        self._url = f"{settings.url.rstrip('/')}/message"
        super().__init__(name, settings, settings.url, (), {"X-Gotify-Key": token.value})

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        request = json_request(self._url, gotify_message(notification, parts))
        return await self._http.send(
            request, now_ms, transcript, gotify_outcome, link_secrets(parts)
        )


def gotify_message(notification: Notification, parts: MessageParts) -> dict[str, Any]:
    """Two spaces end a line in Markdown. A text that came from elsewhere could load pictures if it
    were not escaped."""
    text = chat_text(parts, MARKDOWN, _MOST_TEXT // 2, subject=False) or parts.head
    extras: dict[str, Any] = {"client::display": {"contentType": "text/markdown"}}
    if parts.answer_url:
        extras["client::notification"] = {"click": {"url": parts.answer_url}}
    priority = _PRIORITIES.get(notification.severity, _NOTICE_PRIORITY)
    if notification.reason in NOTICE_REASONS:
        priority = min(priority, _NOTICE_PRIORITY)
    return {
        "title": cut(parts.subject, _MOST_TITLE),
        "message": text.replace("\n", "  \n"),
        "priority": priority,
        "extras": extras,
    }


def gotify_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    body = answer.json() or {}
    said = ": ".join(str(body[key]) for key in ("error", "errorDescription") if body.get(key))
    said = said or answer.text
    if 200 <= answer.status < 300:
        if isinstance(body.get("id"), int):
            return Delivered(str(body["id"]), f"HTTP {answer.status}")
        return RetryAt(f"HTTP {answer.status}, but not from a Gotify server: {said}")
    outcome = answer.outcome(now_ms, said)
    if answer.status in (401, 403) and isinstance(outcome, Permanent):
        return Permanent(f"{outcome.error}; check that the token is that of an application")
    return outcome
