"""A group robot of DingTalk (钉钉自定义机器人).

Read: open.dingtalk.com, "custom robot access" (自定义机器人接入) and its security settings, as
quoted at blog.csdn.net/lxw1844912514/article/details/125780346; answers from reports of users
(310000, 130101). Unverified: how long a message of these robots may be, so that it is kept to what
their list of error codes says of work notices (34016: 5,000 characters of Markdown, a title of 64,
a button of 20 with a URL of 500); the codes of _WORDS, and 410100.
"""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlencode

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Outcome, Permanent
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import Markup, chat_text, cut
from tocsin_alerting.notify.http_sender import HttpAnswer
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.robot import (
    Mobiles,
    RobotAnswers,
    SignedRobot,
    SignedRobotSettings,
    UserIds,
    defused,
    markdown_link,
    skew_words,
)

TEXT_LIMIT, TITLE_LIMIT, BUTTON_LIMIT, URL_LIMIT = 5_000, 64, 20, 500  # characters
REFUSED = 310000
_BLOCKED_MS = 600_000  # they answer `wait 5`, and block for ten minutes all the same
_WORDS = {
    REFUSED: "",  # its text says why
    400013: "the group was disbanded",
    400101: "no robot has this access_token: it was removed, or the URL is wrong",
    400102: "the robot is switched off",
    400106: "the robot was removed",
}
ANSWERS = RobotAnswers(
    "DingTalk",
    ("errcode",),
    ("errmsg",),
    waits_ms={-1: 5_000, 130101: _BLOCKED_MS, 410100: _BLOCKED_MS},
    words=_WORDS,
)
_MARKUP = Markup(defused, lambda text: f"### {text}", markdown_link)
# What the robot's security settings demand, by what their refusal says.
_DEMANDS = (
    (("keyword", "关键词"), "the robot demands a keyword; set keyword to one of its keywords"),
    (
        ("whitelist", "ip ", "白名单"),
        "the robot does not take messages from this machine's address",
    ),
    (
        ("sign", "timestamp", "签名", "时间戳"),
        "the signature is refused; set secret_file to the robot's secret (SEC...)",
    ),
)


class DingtalkSettings(SignedRobotSettings):
    type: Literal["dingtalk"]
    format: Literal["card", "markdown"] = "card"
    mentioned_users: UserIds = ()
    mentioned_mobiles: Mobiles = ()


class Dingtalk(SignedRobot):
    rate = "20/min"

    def __init__(self, name: str, settings: DingtalkSettings, deps: ChannelDeps) -> None:
        super().__init__(name, settings, deps)
        self._settings = settings

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        body = dingtalk_body(parts, self._settings, self._settings.mentions(notification))
        url = signed_url(self._url, self._secret, now_ms)
        return await self._post(url, body, notification, now_ms, transcript, read_dingtalk)


def signed_url(url: str, secret: str, now_ms: int) -> str:
    """With the time in milliseconds and the HMAC of it, where the robot demands a signature."""
    if not secret:
        return url
    digest = hmac.digest(secret.encode(), f"{now_ms}\n{secret}".encode(), "sha256")
    sign = base64.b64encode(digest).decode()
    query = urlencode({"timestamp": str(now_ms), "sign": sign})
    return f"{url}{'&' if '?' in url else '?'}{query}"


def dingtalk_body(parts: MessageParts, settings: DingtalkSettings, mention: bool) -> dict[str, Any]:
    """A card with a button that answers; Markdown where somebody is mentioned, because no card
    mentions anybody. Numbers are mentioned only where they stand in the text, too."""
    users = settings.mentioned_users if mention else ()
    mobiles = settings.mentioned_mobiles if mention else ()
    everybody = mention and settings.mention_all
    title = defused(cut(parts.subject, TITLE_LIMIT))
    card = settings.format == "card" and 0 < len(parts.answer_url) <= URL_LIMIT
    if card and not (users or mobiles or everybody):
        text = _text(replace(parts, answer_url=""), settings.keyword, ())
        label = cut(parts.answer_label, BUTTON_LIMIT)
        button = {"singleTitle": label, "singleURL": parts.answer_url}
        return {"msgtype": "actionCard", "actionCard": {"title": title, "text": text, **button}}
    text = _text(parts, settings.keyword, (*mobiles, *users))
    body: dict[str, Any] = {"msgtype": "markdown", "markdown": {"title": title, "text": text}}
    if users or mobiles or everybody:
        at = {"atMobiles": list(mobiles), "atUserIds": list(users), "isAtAll": everybody}
        body["at"] = at
    return body


def _text(parts: MessageParts, keyword: str, called: Sequence[str]) -> str:
    """A single line break is none in their Markdown."""
    demanded = keyword if keyword and keyword not in defused(parts.subject) else ""
    after = "\n".join(filter(None, (" ".join(f"@{one}" for one in called), demanded)))
    room = TEXT_LIMIT - _size(f"\n{after}")
    text = chat_text(parts, _MARKUP, room, _size)
    return (f"{text}\n{after}" if after else text).replace("\n", "\n\n")


def _size(text: str) -> int:
    return len(text) + text.count("\n")


def read_dingtalk(answer: HttpAnswer, now_ms: int) -> Outcome:
    outcome = ANSWERS.outcome(answer, now_ms)
    body = answer.json() or {}
    if not isinstance(outcome, Permanent) or ANSWERS.code(body) != REFUSED:
        return outcome
    said = str(body.get("errmsg", "")).lower()
    advice = next((what for words, what in _DEMANDS if any(word in said for word in words)), "")
    if "timestamp" in said or "时间戳" in said or "sign" in said or "签名" in said:
        advice = skew_words(answer, now_ms) or advice
    return Permanent(f"{advice}: {outcome.error}") if advice else outcome
