"""Mattermost: an incoming webhook, whose message is an attachment in the colour of the state.

Sources: docs.mattermost.com/developers/integrate, pages webhooks/incoming, reference/message-
attachments and reference/message-priority; a post is as long as the server's PostMessageMaxRunesV2.
Unverified, for want of a document: which servers refuse `priority` (`priority: false` leaves it
out), and that a zero-width space after an `@` keeps the name from being a mention.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import chat_text, cut
from tocsin_alerting.notify.http_sender import HttpAnswer, HttpChannel, json_request
from tocsin_alerting.notify.markdown import MARKDOWN, escape_markdown
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.room import (
    SecretUrlSettings,
    calls_people,
    key_in,
    link_token,
    secret_url,
)
from tocsin_alerting.settings import Words

_MOST_POST = 16_383  # characters of a post, and of the text of an attachment
_MOST_SUBJECT = 1_000
_PRIORITIES = {"P0": "urgent", "P1": "important"}
_MENTION = re.compile(r"[a-z0-9._-]{1,64}")


def _names(mentions: tuple[str, ...]) -> tuple[str, ...]:
    for mention in mentions:
        if not _MENTION.fullmatch(mention):
            raise ValueError(
                f"{mention!r} is no name; give channel, here, all, or the name of a user or a "
                "group, without the @"
            )
    return mentions


class MattermostSettings(SecretUrlSettings):
    """`channel` is another than that of the webhook; `mention` is called when it pages."""

    type: Literal["mattermost"]
    channel: str = ""
    mention: Annotated[Words, AfterValidator(_names)] = ()
    priority: bool = True


class Mattermost(HttpChannel):
    """A webhook cannot change what it has posted: each message is a post of its own."""

    def __init__(self, name: str, settings: MattermostSettings, deps: ChannelDeps) -> None:
        self._settings, self._templates = settings, deps.templates
        self._url = secret_url(settings, deps.vault)
        super().__init__(name, settings, self._url.value, key_in(self._url))

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        body = mattermost_body(parts, calls_people(notification, self._settings.mention))
        if self._settings.channel:
            body["channel"] = self._settings.channel
        if not self._settings.priority:
            body.pop("priority", None)
        return await self._http.send(
            json_request(self._url.value, body),
            now_ms,
            transcript,
            mattermost_outcome,
            (link_token(parts),),
        )


def mattermost_body(parts: MessageParts, mentions: Sequence[str] = ()) -> dict[str, Any]:
    """The post, with a priority where P0 or P1 needs somebody."""
    called = "".join(f"@{mention} " for mention in mentions)
    subject = cut(parts.subject, _MOST_SUBJECT)
    attachment = {
        "fallback": subject,
        "color": parts.colour,
        "text": chat_text(parts, MARKDOWN, _MOST_POST, subject=False),
    }
    body: dict[str, Any] = {
        "text": f"{called}{MARKDOWN.bold(escape_markdown(subject))}",
        "attachments": [attachment],
    }
    if parts.kind in ("firing", "unknown") and (level := _PRIORITIES.get(parts.severity)):
        body["priority"] = {"priority": level}
    return body


def mattermost_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    """The server answers `ok`; else a JSON object with `id` and `message`."""
    if answer.status == 200:
        if answer.text.strip() == "ok":
            return Delivered(detail="HTTP 200: ok")
        return RetryAt(f"HTTP 200, but no webhook of Mattermost: {answer.text}")
    outcome = answer.refusal(now_ms)
    said = (answer.json() or {}).get("message")
    if isinstance(outcome, Permanent) and isinstance(said, str) and said:
        return Permanent(f"HTTP {answer.status}: {said}", outcome.final)
    return outcome
