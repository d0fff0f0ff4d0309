"""Discord: a webhook, whose first message of an incident changes as the incident does.

Sources: discord/discord-api-docs, developers/resources/webhook.mdx (execute, edit), message.mdx
(embed limits, allowed mentions), topics/rate-limits. A character is not defined there; counted here
are units of UTF-16, which is never less than characters. Unverified: what 403 may say.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import AfterValidator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import chat_text, cut, utf16_size
from tocsin_alerting.notify.first_message import FirstMessages
from tocsin_alerting.notify.http_sender import MAX_WAIT_MS, HttpAnswer, HttpChannel, json_request
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

_MOST_CONTENT = 2000
_MOST_SUBJECT = 1500  # of the content; the rest is for mentions
_MOST_DESCRIPTION = 4096
_MENTION = re.compile(r"everyone|here|(user|role):[0-9]{1,20}")
_ID = re.compile(r"[0-9]{1,20}")
_MOST_MENTIONS = 15


def _callable(mentions: tuple[str, ...]) -> tuple[str, ...]:
    for mention in mentions:
        if not _MENTION.fullmatch(mention):
            raise ValueError(
                f"{mention!r} calls nobody; give everyone, here, user:ID or role:ID, where ID is a "
                "number that Discord shows in developer mode"
            )
    if len(mentions) > _MOST_MENTIONS:
        raise ValueError(f"more than {_MOST_MENTIONS} do not fit; give a role")
    return mentions


def _thread(text: str) -> str:
    if text and not _ID.fullmatch(text):
        raise ValueError("the ID of a thread is a number in quotes")
    return text


class DiscordSettings(SecretUrlSettings):
    """`thread_id`: a thread of the webhook's room; `mention` is called when it pages."""

    type: Literal["discord"]
    thread_id: Annotated[str, AfterValidator(_thread)] = ""
    mention: Annotated[Words, AfterValidator(_callable)] = ()
    edit: bool = True


class Discord(HttpChannel):
    """Whoever opens the room sees how the incident stands by its first message; later ones follow
    as messages of their own, because an edit tells nobody."""

    def __init__(self, name: str, settings: DiscordSettings, deps: ChannelDeps) -> None:
        self._settings, self._templates = settings, deps.templates
        self._url = secret_url(settings, deps.vault)
        super().__init__(name, settings, self._url.value, key_in(self._url))
        self.first_message = FirstMessages(name)

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        body = discord_body(parts, calls_people(notification, self._settings.mention))
        more = {"thread_id": self._settings.thread_id} if self._settings.thread_id else {}
        secrets = (link_token(parts),)
        request = json_request(_extended(self._url.value, "", {"wait": "true", **more}), body)
        outcome = await self._http.send(request, now_ms, transcript, discord_outcome, secrets)
        first = notification.thread
        if isinstance(outcome, Delivered) and self._settings.edit and _ID.fullmatch(first):
            edited = _extended(self._url.value, f"/messages/{first}", more)
            request = json_request(edited, discord_body(parts), method="PATCH")
            about = (request, now_ms, transcript, discord_outcome, secrets)
            await self.first_message.change(first, partial(self._http.send, *about), now_ms)
        return outcome

    async def close(self) -> None:
        await self.first_message.close()
        await super().close()


def _extended(url: str, path: str, query: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    pairs = [*parse_qsl(parts.query, keep_blank_values=True), *query.items()]
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path, query=urlencode(pairs)))


def discord_body(parts: MessageParts, mentions: Sequence[str] = ()) -> dict[str, Any]:
    """Nobody is called but `mentions`, whatever stands in the text."""
    called = "".join(f"{_mention(mention)} " for mention in mentions)
    subject = cut(parts.subject, _MOST_SUBJECT, lambda text: utf16_size(escape_markdown(text)))
    embed = {
        "description": chat_text(parts, MARKDOWN, _MOST_DESCRIPTION, utf16_size, subject=False),
        "color": int(parts.colour.removeprefix("#"), 16),
    }
    return {
        "content": f"{called}{MARKDOWN.bold(escape_markdown(subject))}",
        "embeds": [embed],
        "allowed_mentions": _allowed(mentions),
    }


def _mention(mention: str) -> str:
    kind, _, number = mention.partition(":")
    return {"user": f"<@{number}>", "role": f"<@&{number}>"}.get(kind, f"@{kind}")


def _allowed(mentions: Sequence[str]) -> dict[str, list[str]]:
    """`everyone` allows `@here` as well."""
    ids = [mention.partition(":")[::2] for mention in mentions]
    return {
        "parse": ["everyone"] if {"everyone", "here"} & set(mentions) else [],
        "users": [number for kind, number in ids if kind == "user"],
        "roles": [number for kind, number in ids if kind == "role"],
    }


def discord_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    """With `wait=true` the answer is the message as it was saved. A webhook that was deleted or
    whose token is wrong is not asked again: who goes on with invalid requests is shut out."""
    said = answer.json() or {}
    if answer.status == 429:
        wait_s = said.get("retry_after")
        if isinstance(wait_s, int | float) and 0 <= wait_s < MAX_WAIT_MS / 1000:
            return RetryAt(f"HTTP 429: {answer.text}", now_ms + int(wait_s * 1000) + 1)
        return answer.outcome(now_ms)
    if answer.status == 200:
        number = said.get("id")
        if isinstance(number, str) and _ID.fullmatch(number):
            return Delivered(number, f"HTTP 200: message {number}")
        return RetryAt(f"HTTP 200, but no message of Discord: {answer.text}")
    if answer.status in (401, 404):
        return Permanent(f"HTTP {answer.status}: {answer.text}; make a new webhook", final=True)
    return answer.outcome(now_ms) if answer.status == 204 else answer.refusal(now_ms)
