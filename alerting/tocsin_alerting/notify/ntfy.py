"""ntfy: a push message by ntfy.sh or by a server of one's own, published as JSON.

Sources: github.com/binwiederhier/ntfy, docs/publish.md (fields, priorities, actions, 4,096 bytes of
text) and server/server.go, server/errors.go (a body of at most twice that, the codes of refusals).
Its Python clients are small and know less than this, so none is used. A button opens the page
behind the link: one that acknowledges by itself would need a token of this agent on every phone.
"""

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import model_validator

from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import PLAIN, chat_text, cut, utf8_size
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpChannel,
    HttpRequest,
    HttpSettings,
    ServiceUrl,
)
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.secret_keys import (
    link_secrets,
    refuse_both,
    require_secrets,
    secret_of,
)
from tocsin_alerting.settings import FilePath, RefusedKey

_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
_MOST_TEXT, _MOST_BODY = 4096, 8192  # bytes
_MOST_TITLE, _MOST_LABEL = 1000, 40  # bytes, which no subject has; characters
_MOST_ACTIONS = 3
_PRIORITIES = {"P0": 5, "P1": 4, "P2": 3, "P3": 2, "P4": 1}
_NOTICE_PRIORITY = 3  # of what nobody has to get up for
_TAGS = {"P0": "rotating_light", "P1": "warning", "P2": "large_orange_diamond"}
_TAGS_OF_REASONS = {
    Reason.ACKED: "eyes",
    Reason.RESOLVED: "white_check_mark",
    Reason.FIRED_AND_RESOLVED: "white_check_mark",
    Reason.TEST: "wrench",
}


class NtfySettings(HttpSettings):
    """Who knows the topic reads along and can write there, so it is a secret too. A `token`, or a
    `username` with its `password`, where the server asks for one."""

    type: Literal["ntfy"]
    url: ServiceUrl = "https://ntfy.sh"
    topic: RefusedKey = None
    topic_file: FilePath | None = None
    topic_env: str | None = None
    token: RefusedKey = None
    token_file: FilePath | None = None
    token_env: str | None = None
    username: str | None = None
    password: RefusedKey = None
    password_file: FilePath | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> "NtfySettings":
        require_secrets(self, "topic")
        refuse_both(self, "token")
        if self.username is not None or self.password_file or self.password_env:
            if self.username is None or ":" in self.username:
                raise ValueError("password goes with username, which has no colon in it")
            require_secrets(self, "password")
            if self.token_file or self.token_env:
                raise ValueError("give a token, or username and password, not both")
        return self


class Ntfy(HttpChannel):
    def __init__(self, name: str, settings: NtfySettings, deps: ChannelDeps) -> None:
        self._templates = deps.templates
        self._topic = secret_of(settings, "topic", deps.vault)
        if not _TOPIC.fullmatch(self._topic.value):
            raise ValueError("the topic has 1 to 64 letters, digits, - and _; write it again")
        self._url = settings.url.rstrip("/") + "/"
        headers = _authorization(settings, deps.vault)
        super().__init__(name, settings, settings.url, (self._topic.value,), headers)

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        content = ntfy_content(self._topic.value, notification, parts)
        request = HttpRequest(self._url, content, {"Content-Type": "application/json"})
        return await self._http.send(request, now_ms, transcript, ntfy_outcome, link_secrets(parts))


def _authorization(settings: NtfySettings, vault: Vault) -> dict[str, str]:
    if token := secret_of(settings, "token", vault).value:
        return {"Authorization": f"Bearer {token}"}
    if settings.username is None:
        return {}
    password = secret_of(settings, "password", vault).value
    pair = base64.b64encode(f"{settings.username}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def ntfy_content(topic: str, notification: Notification, parts: MessageParts) -> bytes:
    """The body. It has a limit of its own, and quotes and line ends need two bytes there: a text
    that is full of them is cut further."""
    room = _MOST_TEXT
    while True:
        message = ntfy_message(topic, notification, parts, room)
        content = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        if len(content) <= _MOST_BODY or room < _MOST_TEXT // 8:
            return content
        room -= 512


def ntfy_message(
    topic: str, notification: Notification, parts: MessageParts, room: int = _MOST_TEXT
) -> dict[str, Any]:
    """`room` is the bytes of the text."""
    message: dict[str, Any] = {
        "topic": topic,
        "title": cut(parts.subject, _MOST_TITLE, utf8_size),
        "message": chat_text(parts, PLAIN, room, utf8_size, subject=False) or parts.head,
        "priority": _priority(notification),
        "tags": list(_tags(notification)),
    }
    if parts.answer_url:
        message["click"] = parts.answer_url
    if actions := _actions(parts):
        message["actions"] = actions
    return message


def _priority(notification: Notification) -> int:
    priority = _PRIORITIES.get(notification.severity, _NOTICE_PRIORITY)
    is_notice = notification.reason in NOTICE_REASONS
    return min(priority, _NOTICE_PRIORITY) if is_notice else priority


def _tags(notification: Notification) -> Sequence[str]:
    """An emoji's name where ntfy knows it, which the title shows first."""
    picture = _TAGS_OF_REASONS.get(notification.reason) or _TAGS.get(notification.severity, "")
    if notification.status == "resolved":
        picture = _TAGS_OF_REASONS[Reason.RESOLVED]
    return [tag for tag in (picture, notification.severity) if tag]


def _actions(parts: MessageParts) -> list[dict[str, str]]:
    links = [(parts.answer_label, parts.answer_url), *parts.links]
    return [
        {"action": "view", "label": cut(label, _MOST_LABEL), "url": url}
        for label, url in links[: _MOST_ACTIONS + 1]
        if url
    ][:_MOST_ACTIONS]


def ntfy_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    body = answer.json() or {}
    said = str(body.get("error") or "") or answer.text
    if 200 <= answer.status < 300:
        if isinstance(body.get("id"), str) and body.get("event") == "message":
            return Delivered(body["id"], f"HTTP {answer.status}")
        return RetryAt(f"HTTP {answer.status}, but not from an ntfy server: {said}")
    code = body.get("code")
    outcome = answer.outcome(now_ms, f"{said} ({code})" if code else said)
    if answer.status in (401, 403) and isinstance(outcome, Permanent):
        return Permanent(
            f"{outcome.error}; check the token or the password, and the topic's access"
        )
    return outcome
