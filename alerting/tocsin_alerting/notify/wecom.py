"""A group robot of WeCom (企业微信群机器人).

Read: developer.work.weixin.qq.com/document/path/91770 and 99398, as quoted at
cnblogs.com/tiandi/p/17768525; error texts from reports of users (40058, 45009, 93000). Unverified:
that a bare `<@all>` in Markdown mentions everybody, so that it is not used; the codes 45033 and
93008.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import Markup, chat_text, utf8_size
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.robot import (
    Mobiles,
    Robot,
    RobotAnswers,
    RobotSettings,
    UserIds,
    defused,
    markdown_link,
)

TEXT_LIMIT, MARKDOWN_LIMIT = 2048, 4096  # bytes
ANSWERS = RobotAnswers(
    "WeCom",
    ("errcode",),
    ("errmsg",),
    waits_ms={-1: 5_000, 45009: 60_000, 45033: 5_000},
    words={
        **dict.fromkeys((40058, *range(41000, 42000)), "the robot does not take this body"),
        93000: "no robot has this key: it was removed, or the URL is wrong",
        93008: "the robot is not in the group any more",
    },
)
_COLOURS = {"firing": "warning", "unknown": "warning", "resolved": "info", "missed": "info"}
_PLAIN = Markup(
    lambda text: text.replace("<@", "＜@"),
    str,
    lambda label, url: f"{label}: {url}",
)


class WecomSettings(RobotSettings):
    type: Literal["wecom"]
    format: Literal["markdown", "text"] = "markdown"
    mentioned_users: UserIds = ()
    mentioned_mobiles: Mobiles = ()


class Wecom(Robot):
    rate = "20/min"

    def __init__(self, name: str, settings: WecomSettings, deps: ChannelDeps) -> None:
        super().__init__(name, settings, deps)
        self._settings = settings

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        """Of two messages the first is a whole page; the second, with the details, may fail."""
        parts = self._templates.parts(notification, now_ms)
        first, *others = wecom_bodies(parts, self._settings, self._settings.mentions(notification))
        read = ANSWERS.outcome
        outcome = await self._post(self._url, first, notification, now_ms, transcript, read)
        if not isinstance(outcome, Delivered):
            return outcome
        for body in others:
            more = await self._post(self._url, body, notification, now_ms, transcript, read)
            if isinstance(more, RetryAt | Permanent):
                return Delivered(detail=f"{outcome.detail}; the details failed: {more.error}")
        return outcome


def wecom_bodies(
    parts: MessageParts, settings: WecomSettings, mention: bool
) -> Sequence[dict[str, Any]]:
    """One message, or two. Markdown mentions users alone: to mention phone numbers or everybody, a
    P0 is a short text before it, which costs two of twenty a minute, and others are a text."""
    users = settings.mentioned_users if mention else ()
    rings = mention and bool(settings.mentioned_mobiles or settings.mention_all)
    urgent = parts.severity == "P0"
    if settings.format == "text" or (rings and not urgent):
        return [_text(parts, settings, mention)]
    if rings:
        short = replace(parts, lines=(), paragraphs=(), links=())
        return [_text(short, settings, mention), _markdown(parts, ())]
    return [_markdown(parts, users)]


def _text(parts: MessageParts, settings: WecomSettings, mention: bool) -> dict[str, Any]:
    text: dict[str, Any] = {"content": chat_text(parts, _PLAIN, TEXT_LIMIT, utf8_size)}
    if mention:
        everybody = ["@all"] if settings.mention_all else []
        text["mentioned_list"] = [*settings.mentioned_users, *everybody]
        text["mentioned_mobile_list"] = list(settings.mentioned_mobiles)
    return {"msgtype": "text", "text": {name: value for name, value in text.items() if value}}


def _markdown(parts: MessageParts, users: Sequence[str]) -> dict[str, Any]:
    colour = "comment" if parts.owned else _COLOURS.get(parts.kind, "comment")
    markup = Markup(defused, lambda text: f'<font color="{colour}">{text}</font>', markdown_link)
    called = "".join(f"<@{user}>" for user in users)
    after = f"\n{called}" if called else ""
    content = chat_text(parts, markup, MARKDOWN_LIMIT - utf8_size(after), utf8_size) + after
    return {"msgtype": "markdown", "markdown": {"content": content}}
