"""The Bot API as https://core.telegram.org/bots/api describes it, with the words of refusals of
github.com/tdlib/telegram-bot-api (Client.cpp). What it refuses of a right client is in
`complaints`.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from support.webhook_sink import Answer, Received, WebhookSink
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.notify.telegram.channel import Telegram
from tocsin_alerting.notify.telegram.settings import TelegramSettings

BOT_TOKEN = "123456789:AAF-token_of_our_own_bot_0123456789"
GROUP, SUPERGROUP = -4001, -1001234567890
LI, WANG = 111111, 222222

_SEND = {
    "chat_id", "message_thread_id", "text", "parse_mode", "entities", "link_preview_options",
    "disable_notification", "protect_content", "reply_parameters", "reply_markup",
}  # fmt: skip
_PARAMETERS = {
    "sendMessage": _SEND,
    "editMessageText": {
        "chat_id", "message_id", "text", "parse_mode", "entities", "link_preview_options",
        "reply_markup",
    },
    "editMessageReplyMarkup": {"chat_id", "message_id", "reply_markup"},
    "getUpdates": {"offset", "limit", "timeout", "allowed_updates"},
    "answerCallbackQuery": {"callback_query_id", "text", "show_alert", "url", "cache_time"},
}  # fmt: skip
_TAGS = {"b", "strong", "i", "em", "u", "s", "a", "code", "pre", "blockquote", "tg-spoiler"}
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#[0-9]+|#x[0-9a-fA-F]+);")
_MENTION = re.compile(r"(?<![\w@])@([A-Za-z]\w{1,31})")


class BotApiRefusal(Exception):
    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters


class ShownHtml(HTMLParser):
    """What is shown of a text in "HTML style"; raises BotApiRefusal for what that style has not."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.links, self.open = "", list[str](), list[str]()
        for sign in re.finditer("[&<]", text):
            rest = text[sign.start() :]
            if rest[0] == "&" and not _ENTITY.match(rest):
                continue  # shown as it is
            if rest[0] == "<" and not re.match(r"</?[a-z-]+( [^<>]*)?>", rest):
                raise BotApiRefusal(400, "Bad Request: can't parse entities: unsupported start tag")
        self.feed(text)
        self.close()
        if self.open:
            raise BotApiRefusal(400, "Bad Request: can't parse entities: can't find end tag")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS:
            raise BotApiRefusal(400, f'Bad Request: can\'t parse entities: unsupported tag "{tag}"')
        self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise BotApiRefusal(400, "Bad Request: can't parse entities: unexpected end tag")

    def handle_data(self, data: str) -> None:
        self.text += data


class BotApiDouble(WebhookSink):
    """`answers` come first, as they stand. `messages` are those in the chats, by their number, as
    they stand now; `told` what people were shown who pressed a button; `mentioned` the names that
    Telegram would call. `webhook`, `hangs`: why nobody gets updates; `on_updates` is called once
    some were given."""

    def __init__(self, *answers: Any, port: int = 0, chat: int = GROUP) -> None:
        super().__init__(*answers, port=port)
        self.chat = chat
        self.messages: dict[int, dict[str, Any]] = {}
        self.told: list[str] = []
        self.mentioned: list[str] = []
        self.links: list[str] = []
        self.complaints: list[str] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.moved_to: int | None = None
        self.webhook = False
        self.updates: list[dict[str, Any]] = []
        self.confirmed = 0
        self.poll_answers: list[Answer] = []
        self.hangs = False
        self.on_updates: Callable[[], Awaitable[None]] | None = None
        self._polling: asyncio.Future[None] | None = None
        self._number = 0
        self._changed = asyncio.Event()

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def buttons(self, number: int) -> dict[str, str]:
        """What a button of a message carries, by what stands on it."""
        rows = self.messages[number].get("reply_markup", {}).get("inline_keyboard", [])
        return {button["text"]: button["callback_data"] for row in rows for button in row}

    def press(self, data: str, user: int = LI, at: int = 1, **more: Any) -> int:
        """A person presses what carries `data`; the number of the update."""
        number = 900_000 + len(self.updates) + self.confirmed
        chat = {"id": self.chat, "type": "group"}
        person = {"id": user, "is_bot": False, "first_name": "Li", "username": "li_w"}
        query = {
            "id": f"query-{number}",
            "from": person,
            "chat_instance": "1",
            "data": data,
            "message": {"message_id": at, "date": 1, "chat": chat},
            **more,
        }
        self.updates.append({"update_id": number, "callback_query": query})
        self._changed.set()
        return number

    async def until(self, count: int, what: str, within: float = 30.0) -> None:
        """Until so many calls of that method are done."""
        async with asyncio.timeout(within):
            while sum(method == what for method, _ in self.calls) < count:
                async with self._arrived:
                    await self._arrived.wait()

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        method = request.path.rpartition("/")[2]
        if method == "getUpdates" and self.poll_answers:
            answer = self.poll_answers.pop(0)
        elif method == "getUpdates" and self.hangs:
            await asyncio.Event().wait()
            return
        elif method != "getUpdates" and self.answers:
            await super()._answer(request, writer)
            return
        else:
            answer = await self._judged(method, request)
        self.requests.append(request)
        with suppress(OSError):
            writer.write(answer.encoded())
            await writer.drain()
        self.calls.append((method, request.json() if request.body else {}))
        if method == "getUpdates" and self.updates and self.on_updates is not None:
            await self.on_updates()
        async with self._arrived:
            self._arrived.notify_all()

    async def _judged(self, method: str, request: Received) -> Answer:
        try:
            result = await self._result(method, request)
        except BotApiRefusal as refusal:
            if refusal.code == 400 and not refusal.parameters:
                self.complaints.append(refusal.description)
            said: dict[str, Any] = {
                "ok": False, "error_code": refusal.code, "description": refusal.description,
            }  # fmt: skip
            if refusal.parameters:
                said["parameters"] = refusal.parameters
            return _json(refusal.code, said)
        return _json(200, {"ok": True, "result": result})

    async def _result(self, method: str, request: Received) -> Any:
        if request.path != f"/bot{BOT_TOKEN}/{method}":
            raise BotApiRefusal(401, "Unauthorized")
        if method not in _PARAMETERS or request.method != "POST":
            raise BotApiRefusal(404, "Not Found: method not found")
        if request.headers.get("content-type") != "application/json":
            raise BotApiRefusal(400, "Bad Request: message text is empty")
        body = request.json()
        if unknown := set(body) - _PARAMETERS[method]:
            raise BotApiRefusal(400, f"Bad Request: no such parameters: {sorted(unknown)}")
        if method == "getUpdates":
            return await self._updates(body)
        if method == "answerCallbackQuery":
            return self._answered(body)
        return self._written(method, body)

    def _written(self, method: str, body: Mapping[str, Any]) -> Any:
        chat = body["chat_id"]
        if self.moved_to is not None and chat == self.chat:
            raise BotApiRefusal(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=self.moved_to,
            )
        if chat not in (self.chat, self.moved_to):
            raise BotApiRefusal(400, "Bad Request: chat not found")
        if "reply_markup" in body:
            _check_keyboard(body["reply_markup"])
        if method == "sendMessage":
            self._number += 1
            number, kept = self._number, {}
            reply = body.get("reply_parameters", {})
            if reply and reply["message_id"] not in self.messages:
                if not reply.get("allow_sending_without_reply"):
                    raise BotApiRefusal(400, "Bad Request: message to be replied not found")
        else:
            number = body["message_id"]
            if number not in self.messages:
                raise BotApiRefusal(400, "Bad Request: message to edit not found")
            kept = {k: v for k, v in self.messages[number].items() if k != "reply_markup"}
        message = {**kept, **body, "message_id": number}
        if "text" in body:
            message["shown"] = self._shown(body)
        if message == self.messages.get(number):
            raise BotApiRefusal(400, "Bad Request: message is not modified: ...", same=1)
        self.messages[number] = message
        return {"message_id": number, "date": 1, "chat": {"id": chat, "type": "group"}}

    def _shown(self, body: Mapping[str, Any]) -> str:
        parsed = ShownHtml(body["text"]) if body.get("parse_mode") == "HTML" else None
        shown = parsed.text if parsed else str(body["text"])
        self.links += parsed.links if parsed else []
        if not shown.strip():
            raise BotApiRefusal(400, "Bad Request: message text is empty")
        if len(shown.encode("utf-16-le")) // 2 > 4096:
            raise BotApiRefusal(400, "Bad Request: message is too long")
        self.mentioned += _MENTION.findall(shown)
        return shown

    def _answered(self, body: Mapping[str, Any]) -> bool:
        if len(body.get("text", "")) > 200:
            raise BotApiRefusal(400, "Bad Request: MESSAGE_TOO_LONG")
        self.told.append(body.get("text", ""))
        return True

    async def _updates(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self.webhook:
            raise BotApiRefusal(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )
        if not 1 <= body.get("limit", 100) <= 100:
            raise BotApiRefusal(400, "Bad Request: limit out of range")
        if self._polling is not None and not self._polling.done():
            self._polling.set_result(None)
        if (offset := body.get("offset", 0)) > 0:
            before = len(self.updates)
            self.updates = [one for one in self.updates if one["update_id"] >= offset]
            self.confirmed += before - len(self.updates)
        await self._wait(body.get("timeout", 0))
        return self.updates[: body.get("limit", 100)]

    async def _wait(self, seconds: float) -> None:
        """Until there is one, or somebody else asks."""
        mine = self._polling = asyncio.get_running_loop().create_future()
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.updates and (left := deadline - asyncio.get_running_loop().time()) > 0:
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait(
                    {changed, mine}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                changed.cancel()
            if mine.done():
                raise BotApiRefusal(
                    409,
                    "Conflict: terminated by other getUpdates request; make sure that only one bot "
                    "instance is running",
                )


def _check_keyboard(markup: Mapping[str, Any]) -> None:
    if set(markup) != {"inline_keyboard"}:
        raise BotApiRefusal(400, "Bad Request: object expected as reply markup")
    for row in markup["inline_keyboard"]:
        for button in row:
            if set(button) != {"text", "callback_data"} or not button["text"].strip():
                raise BotApiRefusal(400, "Bad Request: inline keyboard button text is empty")
            if not 1 <= len(button["callback_data"].encode()) <= 64:
                raise BotApiRefusal(400, "Bad Request: BUTTON_DATA_INVALID")


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def settings(**changes: Any) -> TelegramSettings:
    given = {"type": "telegram", "token_env": "TOKEN", "chat_id": GROUP, "users": {LI: "li"}}
    return TelegramSettings.model_validate({**given, "timeout": "2s", **changes})


def telegram(double: BotApiDouble, tmp_path: Path, name: str = "ops", **changes: Any) -> Telegram:
    links = SignedLinks("https://tocsin.example.com")
    links.begin(tmp_path)
    deps = ChannelDeps(
        vault=Vault({"TOKEN": BOT_TOKEN}, lambda path: ""),
        templates=MessageTemplates(links=links),
        links=links,
    )
    return Telegram(name, settings(api_url=double.api_url, **changes), deps)


def refused(code: int, description: str, **parameters: int) -> Answer:
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    if parameters:
        body["parameters"] = parameters
    return Answer(code, {"Content-Type": "application/json"}, json.dumps(body).encode())
