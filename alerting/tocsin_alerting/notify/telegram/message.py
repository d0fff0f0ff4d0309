"""A message as the Bot API takes it. Source: https://core.telegram.org/bots/api, sendMessage,
editMessageText, ReplyParameters, LinkPreviewOptions and "HTML style".
"""

import html
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.chat_text import HTML, Markup, chat_text, utf16_size
from tocsin_alerting.notify.message_parts import MessageParts

MOST_TEXT = 4096  # UTF-16 units, after entities are parsed
_TAG = re.compile(r"<[^<>]*>")
_ZERO_WIDTH_SPACE = "\u200b"
_QUIET = frozenset({"P3", "P4"})


def shown_size(text: str) -> int:
    """What Telegram counts: the text that is left when tags are entities and escapes characters."""
    return utf16_size(html.unescape(_TAG.sub("", text)))


def _link(label: str, url: str) -> str:
    """Telegram drops a link to a host that nobody else could reach, with its address; there the
    address itself is better than a word (unverified: which hosts those are)."""
    host = urlsplit(url).hostname or ""
    if "." in host and not host.startswith("127."):
        return HTML.link(label, url)
    return f"{label}: {html.escape(url)}"


def _escape(text: str) -> str:
    """Telegram calls the person whose name follows an `@`, marked or not."""
    return HTML.escape(text.replace("@", "@" + _ZERO_WIDTH_SPACE))


TELEGRAM_HTML = Markup(_escape, HTML.bold, _link)


def message_body(
    chat_id: int | str,
    notification: Notification,
    parts: MessageParts,
    *,
    thread: int | None = None,
    keyboard: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """For sendMessage, without what it replies to. No preview: Telegram would open the link that
    answers."""
    body: dict[str, Any] = {
        "chat_id": chat_id,
        "text": chat_text(parts, TELEGRAM_HTML, MOST_TEXT, shown_size),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
        "disable_notification": notification.severity in _QUIET,
    }
    if thread is not None:
        body["message_thread_id"] = thread
    if keyboard and keyboard["inline_keyboard"]:
        body["reply_markup"] = keyboard
    return body


def edit_body(
    chat_id: int | str, message_id: int, parts: MessageParts, keyboard: Mapping[str, Any] | None
) -> dict[str, Any]:
    """For editMessageText: how it stands now. No keyboard takes the buttons away."""
    body: dict[str, Any] = {
        "chat_id": chat_id,
        "message_id": message_id,
        "text": chat_text(parts, TELEGRAM_HTML, MOST_TEXT, shown_size),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    if keyboard is not None:
        body["reply_markup"] = keyboard
    return body


def as_plain(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same without markup, for a server that cannot read it."""
    plain = {name: value for name, value in body.items() if name != "parse_mode"}
    text = html.unescape(_TAG.sub("", str(body["text"])))
    while utf16_size(text) > MOST_TEXT:
        text = text[:-1]
    return {**plain, "text": text}


def message_reference(chat_id: int | str, message_id: int) -> str:
    return f"{chat_id}/{message_id}"


def message_of(reference: str, chat_id: int | str) -> int | None:
    """The number of a message in this chat; None for one of another chat. Telegram calls a chat by
    its number, also where we know its name."""
    chat, _, number = reference.rpartition("/")
    same = chat == str(chat_id) or isinstance(chat_id, str)
    return int(number) if same and number.isdecimal() else None
