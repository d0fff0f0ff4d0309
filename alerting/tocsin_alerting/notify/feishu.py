"""A custom bot of Feishu or Lark (飞书自定义机器人).

Read: open.feishu.cn/document/client-docs/bot-v3/add-custom-bot (signature, 20 KB, 100 a minute and
5 a second), .../ukTMukTMukTM/uUzN04SN3QjL1cDN (99991400), the pages "card-json-v2" of that site.
The codes 9499, 19022 and 19024 as quoted at blog.csdn.net/qq_43108153/article/details/136166075.
Unverified, for want of a document: what 19001 says.
"""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import PLAIN, chat_text, cut
from tocsin_alerting.notify.http_sender import HttpAnswer, not_before
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.robot import (
    RobotAnswers,
    SignedRobot,
    SignedRobotSettings,
    UserIds,
    body_bytes,
    skew_words,
)

BODY_LIMIT, TITLE_LIMIT, MOST_BUTTONS = 20_000, 200, 4
SIGN_REFUSED, TOO_MANY, GATEWAY_LIMIT = 19021, 11232, 99991400
ANSWERS = RobotAnswers(
    "Feishu or Lark",
    ("code", "StatusCode"),
    ("msg", "StatusMessage"),
    # The page names no time: 5 a second are free again at once, 100 a minute within one.
    waits_ms={TOO_MANY: 15_000},
    words={
        9499: "the bot does not take this body",
        19001: "no bot has this URL: it was removed, or the URL is wrong",
        SIGN_REFUSED: "the signature is refused; set secret_file to the bot's secret",
        19022: "the bot does not take messages from this machine's address",
        19024: "the bot demands a keyword; set keyword to one of its keywords",
    },
)
_RED = {"P0": "red", "P1": "carmine", "P2": "orange", "P3": "yellow", "P4": "blue"}
_TEMPLATES = {"resolved": "green", "missed": "green", "acked": "turquoise", "test": "blue"}


class FeishuSettings(SignedRobotSettings):
    """For Feishu and Lark, which differ in the host of the URL."""

    type: Literal["feishu"]
    mentioned_users: UserIds = ()


class Feishu(SignedRobot):
    rate = ("5/s", "100/min")

    def __init__(self, name: str, settings: FeishuSettings, deps: ChannelDeps) -> None:
        super().__init__(name, settings, deps)
        self._settings = settings

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        body = feishu_body(parts, self._settings, self._settings.mentions(notification))
        signed = {**signature(self._secret, now_ms // 1000), **body}
        return await self._post(self._url, signed, notification, now_ms, transcript, read_feishu)


def signature(secret: str, now_s: int) -> dict[str, str]:
    """The key is the time and the secret, and nothing is signed by it: other than DingTalk's."""
    if not secret:
        return {}
    digest = hmac.digest(f"{now_s}\n{secret}".encode(), b"", "sha256")
    return {"timestamp": str(now_s), "sign": base64.b64encode(digest).decode()}


def feishu_body(parts: MessageParts, settings: FeishuSettings, mention: bool) -> dict[str, Any]:
    """Texts of others stand in elements of plain text, where nothing is Markdown or a mention."""
    called = list(settings.mentioned_users) if mention else []
    if mention and settings.mention_all:
        called.append("all")
    rest = _card(parts, "", called, settings.keyword)
    room = BODY_LIMIT - len(body_bytes(rest)) - len(body_bytes(signature("-", 10**10)))
    unlinked = replace(parts, links=(), answer_url="")  # they are buttons
    shown = chat_text(unlinked, PLAIN, max(room, 0), _json_size, subject=False)
    return _card(parts, shown, called, settings.keyword)


def _card(parts: MessageParts, text: str, called: Sequence[str], keyword: str) -> dict[str, Any]:
    title = cut(parts.subject, TITLE_LIMIT)
    kind = "acked" if parts.owned else parts.kind
    firing = kind in ("firing", "unknown")
    colour = _TEMPLATES.get(kind, _RED.get(parts.severity, "orange") if firing else "grey")
    elements: list[dict[str, Any]] = []
    if text:
        elements.append({"tag": "div", "text": _plain(text)})
    if called:
        mentions = " ".join(f"<at id={one}></at>" for one in called)
        elements.append({"tag": "markdown", "content": mentions})
    if keyword and keyword not in title and keyword not in text:
        elements.append({"tag": "div", "text": _plain(keyword)})
    if parts.answer_url:
        elements.append(_button(parts.answer_label, parts.answer_url, "primary"))
    elements += [_button(label, url, "default") for label, url in parts.links[:MOST_BUTTONS]]
    header = {"title": _plain(title), "template": colour}
    card = {"schema": "2.0", "header": header, "body": {"elements": elements}}
    return {"msg_type": "interactive", "card": card}


def _plain(text: str) -> dict[str, str]:
    return {"tag": "plain_text", "content": text}


def _button(label: str, url: str, kind: str) -> dict[str, Any]:
    opens = {"type": "open_url", "default_url": url}
    return {"tag": "button", "type": kind, "text": _plain(label), "behaviors": [opens]}


def _json_size(text: str) -> int:
    """What it takes in the body beyond the empty text that stands there already; the element itself
    takes less than 64 bytes more."""
    return len(body_bytes({"": text})) + 64


def read_feishu(answer: HttpAnswer, now_ms: int) -> Outcome:
    """The code says more than a status of 4xx, but for 429, whatever stands beside it. The gateway
    answers 429, or 400 from older parts of theirs."""
    code = ANSWERS.code(answer.json() or {})
    until_ms = not_before(answer.headers.get("x-ogw-ratelimit-reset"), now_ms)
    if code == GATEWAY_LIMIT or answer.status == 429:
        until_ms = until_ms or _usual_wait(answer, code, now_ms)
        return RetryAt(f"HTTP {answer.status}, code {code}: too many requests", until_ms)
    if code is not None and code != 0 and 400 <= answer.status < 500:
        answer = HttpAnswer(200, answer.text, answer.headers)
    outcome = ANSWERS.outcome(answer, now_ms)
    if code == TOO_MANY and isinstance(outcome, RetryAt):
        return replace(outcome, not_before_ms=until_ms or outcome.not_before_ms)
    if isinstance(outcome, Permanent) and code == SIGN_REFUSED:
        words = skew_words(answer, now_ms)
        return Permanent(f"{words}: {outcome.error}") if words else outcome
    return outcome


def _usual_wait(answer: HttpAnswer, code: int | None, now_ms: int) -> int | None:
    """What they say without their own header; None where the outbox knows better."""
    wait_ms = ANSWERS.waits_ms.get(code or 0)
    return answer.not_before(now_ms) or (None if wait_ms is None else now_ms + wait_ms)
