"""Slack as its documents describe it (docs.slack.dev): incoming webhooks, the four methods of the
Web API that we call, and Socket Mode.

Limits: reference/block-kit/blocks and composition-objects; errors: reference/methods; envelopes:
apis/events-api/using-socket-mode.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self
from uuid import uuid4

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

BOT_TOKEN, APP_TOKEN = "xoxb-1-the-bot-of-ours", "xapp-1-the-app-of-ours"
HOOK_PATH = "/services/T0AAA/B0BBB/hookSecret123"
CHANNEL = "C0CHANNEL1"
REAL_LIMIT = 13_200  # slackapi/bolt-js issue 2509
_CONTROL = re.compile(r"<[!@#]")
_BARE = re.compile(r"&(?!(amp|lt|gt);)")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def blocks_of(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from message.get("blocks", ())
    for attachment in message.get("attachments", ()):
        yield from attachment.get("blocks", ())


def elements_of(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Those of rich text, in their order."""
    for block in blocks_of(message):
        if block["type"] == "rich_text":
            for section in block["elements"]:
                yield from section["elements"]


def buttons_of(message: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The buttons by their `action_id`."""
    actions = [block for block in blocks_of(message) if block["type"] == "actions"]
    return {one["action_id"]: one for block in actions for one in block["elements"]}


def shown_text(message: Mapping[str, Any]) -> str:
    """What a reader sees: rich text has no markup, so it is what its elements say."""
    return "".join(
        str(element.get("text", "")) + (f" {element['url']}" if element["type"] == "link" else "")
        for element in elements_of(message)
    )


def called(message: Mapping[str, Any]) -> list[str]:
    """Who gets a notification because of it."""
    kinds = {"broadcast": "range", "user": "user_id", "usergroup": "usergroup_id"}
    return [one[kinds[one["type"]]] for one in elements_of(message) if one["type"] in kinds]


def faults_of(message: Mapping[str, Any]) -> list[str]:
    """What the documents forbid in it; the word is the one that Slack answers."""
    faults = []
    text = message.get("text", "")
    blocks = list(blocks_of(message))
    if not text and not blocks:
        faults.append("no_text")
    if len(text) > 40_000:
        faults.append("msg_too_long")
    if _CONTROL.search(text) or _BARE.search(text):
        faults.append("text is not escaped")
    if len(blocks) > 50:
        faults.append("invalid_blocks: more than 50")
    if len(json.dumps([message.get("blocks"), message.get("attachments")])) > 10 * REAL_LIMIT or (
        len(json.dumps([message.get("blocks"), message.get("attachments")], ensure_ascii=False))
        > REAL_LIMIT
    ):
        faults.append("msg_blocks_too_long")
    for attachment in message.get("attachments", ()):
        if not _COLOUR.fullmatch(attachment.get("color", "#000000")):
            faults.append("invalid_attachments")
    return faults + [
        f"invalid_blocks: {fault}" for block in blocks for fault in _block_faults(block)
    ]


def _block_faults(block: Mapping[str, Any]) -> Iterator[str]:
    if block["type"] == "actions":
        yield from (fault for one in block["elements"] for fault in _button_faults(one))
        if not 1 <= len(block["elements"]) <= 25:
            yield "actions: 1 to 25 elements"
        return
    if block["type"] != "rich_text" or not block["elements"]:
        yield f"a block of type {block['type']}"
        return
    for section in block["elements"]:
        if section["type"] != "rich_text_section" or not section["elements"]:
            yield "rich text without elements"
        for element in section["elements"]:
            yield from _element_faults(element)


def _element_faults(element: Mapping[str, Any]) -> Iterator[str]:
    needed = {
        "text": "text",
        "link": "url",
        "broadcast": "range",
        "user": "user_id",
        "usergroup": "usergroup_id",
    }
    key = needed.get(element["type"])
    if key is None or not element.get(key):
        yield f"an element of type {element['type']} without {key}"
    if len(element.get("text", "")) > 3000:
        yield "an element of more than 3000 characters"
    if element["type"] == "link" and not re.match(r"https?://", element["url"]):
        yield "a link that is none"


def _button_faults(button: Mapping[str, Any]) -> Iterator[str]:
    if button["type"] != "button" or button["text"]["type"] != "plain_text":
        yield "a button must be plain text"
    if not 1 <= len(button["text"]["text"]) <= 75:
        yield "a button's text has 75 characters"
    if len(button["action_id"]) > 255 or len(button.get("value", "")) > 2000:
        yield "action_id has 255 characters, value 2000"
    if button.get("style", "primary") not in ("primary", "danger"):
        yield "no such style"


class SlackDouble(JudgingSink):
    """`messages` are those in the channel by their time, as they stand now; `replies` their threads
    in order; `whispers` what one user alone was shown. `press` is what a user does.

    Socket Mode is at `socket_port`; `acknowledged` holds the envelopes that were acknowledged."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.messages: dict[str, dict[str, Any]] = {}
        self.replies: dict[str, list[dict[str, Any]]] = {}
        self.whispers: list[dict[str, Any]] = []
        self.acknowledged: list[str] = []
        self.sockets: list[ServerConnection] = []
        self.socket_opens = asyncio.Condition()
        self.refusals: dict[str, str] = {}  # method -> the error that it answers
        self._tickets: set[str] = set()
        self._count = 0

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def hook_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{HOOK_PATH}"

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._sockets = await serve(self._socket, "127.0.0.1", 0)
        self.socket_port = next(iter(self._sockets.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, *about: object) -> None:
        self._sockets.close(close_connections=True)
        await self._sockets.wait_closed()
        await super().__aexit__(*about)

    def judge(self, request: Received) -> Answer:
        if request.path.startswith("/services/"):
            return self._hook(request)
        return self._api(request)

    def _hook(self, request: Received) -> Answer:
        if request.path != HOOK_PATH:
            return self._refused(404, "no_service")
        try:
            message = request.json()
        except ValueError:
            return self._refused(400, "invalid_payload")
        faults = faults_of(message)
        if faults or buttons_of(message):
            return self._refused(400, faults[0] if faults else "buttons that nobody can press")
        self._post(message, "")
        return Answer(200, {"Content-Type": "text/html"}, b"ok")

    def _refused(self, status: int, word: str) -> Answer:
        self.complaints.append(word)
        return Answer(status, {"Content-Type": "text/html"}, word.encode())

    def _api(self, request: Received) -> Answer:
        method = request.path.removeprefix("/api/")
        said = self._called(method, request)
        if said.get("ok") is not True and method not in self.refusals:
            self.complaints.append(f"{method}: {said.get('error')}")
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(said).encode())

    def _called(self, method: str, request: Received) -> dict[str, Any]:
        if method in self.refusals:
            return {"ok": False, "error": self.refusals[method]}
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token != (APP_TOKEN if method == "apps.connections.open" else BOT_TOKEN):
            return {"ok": False, "error": "invalid_auth" if token else "not_authed"}
        if method == "apps.connections.open":
            ticket = uuid4().hex
            self._tickets.add(ticket)
            return {"ok": True, "url": f"ws://127.0.0.1:{self.socket_port}/link/?ticket={ticket}"}
        if "charset=utf-8" not in request.headers.get("content-type", ""):
            return {"ok": False, "error": "missing_charset"}
        sent = request.json()
        methods = {
            "chat.postMessage": self._post_message,
            "chat.update": self._update,
            "chat.postEphemeral": self._whisper,
        }
        return (
            methods[method](sent) if method in methods else {"ok": False, "error": "unknown_method"}
        )

    def _post_message(self, sent: dict[str, Any]) -> dict[str, Any]:
        if sent.get("channel") not in (CHANNEL, "alerts"):
            return {"ok": False, "error": "channel_not_found"}
        if faults := faults_of(sent):
            return {"ok": False, "error": faults[0]}
        thread = sent.get("thread_ts", "")
        if thread and thread not in self.messages:
            return {"ok": False, "error": "thread_not_found"}
        return {"ok": True, "channel": CHANNEL, "ts": self._post(sent, thread), "message": sent}

    def _post(self, message: dict[str, Any], thread: str) -> str:
        self._count += 1
        ts = f"17672256{self._count:02d}.{self._count:06d}"
        if thread:
            self.replies.setdefault(thread, []).append(message)
        else:
            self.messages[ts] = message
        return ts

    def _update(self, sent: dict[str, Any]) -> dict[str, Any]:
        if sent.get("channel") != CHANNEL:  # an ID, never a name
            return {"ok": False, "error": "channel_not_found"}
        if sent.get("ts") not in self.messages:
            return {"ok": False, "error": "message_not_found"}
        if faults := faults_of(sent):
            return {"ok": False, "error": faults[0]}
        self.messages[sent["ts"]] = sent
        return {"ok": True, "channel": CHANNEL, "ts": sent["ts"], "text": sent.get("text", "")}

    def _whisper(self, sent: dict[str, Any]) -> dict[str, Any]:
        if not sent.get("user") or not sent.get("text"):
            return {"ok": False, "error": "no_text"}
        self.whispers.append(sent)
        return {"ok": True, "message_ts": "1.2"}

    async def _socket(self, connection: ServerConnection) -> None:
        request = connection.request
        ticket = request.path.rpartition("ticket=")[2] if request else ""
        if ticket not in self._tickets:
            await connection.close(1008, "a ticket is good once")
            return
        self._tickets.discard(ticket)
        await connection.send(
            json.dumps({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
        )
        self.sockets.append(connection)
        async with self.socket_opens:
            self.socket_opens.notify_all()
        try:
            async for text in connection:
                self.acknowledged.append(json.loads(text)["envelope_id"])
                async with self.socket_opens:
                    self.socket_opens.notify_all()
        except ConnectionClosed:
            pass

    async def until(self, happened: Any, within: float = 10.0) -> None:
        """Wait until `happened()` is true after something came in by a socket."""
        async with asyncio.timeout(within), self.socket_opens:
            await self.socket_opens.wait_for(happened)

    async def connected(self, count: int = 1, within: float = 10.0) -> ServerConnection:
        """The newest socket, once so many have been opened."""
        await self.until(lambda: len(self.sockets) >= count, within)
        return self.sockets[-1]

    async def press(
        self,
        ts: str,
        verb: str,
        user: str = "U0LI",
        *,
        socket: ServerConnection | None = None,
        at: str = "1767225700.000100",
        value: str | None = None,
        envelope: str = "",
    ) -> str:
        """A user presses that button of the message, or one that it had when it was seen: then
        `value` is what that carried. Gives the envelope's ID."""
        message = self.messages[ts]
        button = {"action_id": verb} if value is not None else buttons_of(message)[verb]
        envelope = envelope or str(uuid4())
        action = {
            "type": "button",
            "action_id": button["action_id"],
            "block_id": "b1",
            "value": button["value"] if value is None else value,
            "action_ts": at,
        }
        payload = {
            "type": "block_actions",
            "user": {"id": user, "username": user.lower(), "name": user.lower(), "team_id": "T1"},
            "api_app_id": "A1",
            "trigger_id": "1.2.3",
            "channel": {"id": CHANNEL, "name": "alerts"},
            "container": {"type": "message_attachment", "message_ts": ts, "channel_id": CHANNEL},
            "message": message,
            "actions": [action],
            "response_url": "https://hooks.slack.com/actions/T1/1/x",
        }
        sent = {
            "envelope_id": envelope,
            "type": "interactive",
            "accepts_response_payload": False,
            "payload": payload,
        }
        await (socket or self.sockets[-1]).send(json.dumps(sent))
        return envelope
