"""A homeserver of Matrix, as matrix-org/matrix-spec describes sending to a room: room_send.yaml,
m.mentions.yaml, "Transaction identifiers", "Size limits"."""

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from support.webhook_sink import Answer, Received, WebhookSink

MATRIX_TOKEN, MATRIX_ROOM = "syt_dG9jc2lu_ofOurs0123456789", "!YqXBrToGQEPsJHqDxa:example.com"
_PATH = "/_matrix/client/v3/rooms/"
_KEYS = {"msgtype", "body", "format", "formatted_body", "m.mentions", "m.relates_to"}


class Homeserver(WebhookSink):
    """`events` are in the room, `called` whom they notified by name. A request with an identifier
    that is known is answered as before, and adds no event."""

    def __init__(self) -> None:
        super().__init__(usual=self._judge_newest)
        self.events: list[dict[str, Any]] = []
        self.called: list[str] = []
        self.complaints: list[str] = []
        self._known: dict[str, str] = {}

    async def _judge_newest(self, writer: Any) -> None:
        writer.write(self.judge(self.requests[-1]).encoded())
        await writer.drain()

    def judge(self, request: Received) -> Answer:
        if request.headers.get("authorization") != f"Bearer {MATRIX_TOKEN}":
            return self._no(401, "M_UNKNOWN_TOKEN", "Invalid access token passed.")
        room, _, rest = request.path.removeprefix(_PATH).partition("/")
        sent, kind, number = (rest.split("/") + [""] * 3)[:3]
        if request.method != "PUT" or (sent, kind) != ("send", "m.room.message") or not number:
            return self._no(404, "M_UNRECOGNIZED", "Unrecognized request")
        if unquote(room) != MATRIX_ROOM:
            return self._no(403, "M_FORBIDDEN", "User not in room")
        content = json.loads(request.body.decode("utf-8"))
        if wrong := _wrong(content):
            return self._no(400, "M_BAD_JSON", wrong)
        event = {"room_id": MATRIX_ROOM, "type": kind, "sender": "@tocsin:example.com"}
        whole = json.dumps({**event, "content": content}, ensure_ascii=False)
        if len(whole.encode("utf-8", "surrogatepass")) > 65_536 - 1_000:  # hashes, signatures
            return self._no(413, "M_TOO_LARGE", "event too large")
        if number not in self._known:
            self._known[number] = f"${len(self._known) + 1}:example.com"
            self.events.append(content)
            self._notify(content)
        return _answer(200, {"event_id": self._known[number]})

    def _notify(self, content: dict[str, Any]) -> None:
        mentions = content["m.mentions"]
        self.called += mentions.get("user_ids", [])
        self.called += ["@room"] if mentions.get("room") else []
        # older servers look into the text, and clients make pills of these links
        self.called += ["@room"] if "@room" in content["body"] else []
        page = MatrixPage(content["formatted_body"])
        self.called += [url for url in page.links if url.startswith("https://matrix.to/")]
        self.called += page.other

    def _no(self, status: int, code: str, text: str) -> Answer:
        self.complaints.append(f"{code}: {text}")
        return _answer(status, {"errcode": code, "error": text})


class MatrixPage(HTMLParser):
    """Text and links of a formatted body; `other` is what it holds besides bold, links and line
    ends."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.links, self.other = "", list[str](), list[str]()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.text += "\n" if tag == "br" else ""
        self.links += [value or "" for name, value in attributes if (tag, name) == ("a", "href")]
        if tag not in ("a", "b", "br") or {name for name, _ in attributes} - {"href"}:
            self.other.append(f"<{tag}>")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.other.append("comment")


def _wrong(content: dict[str, Any]) -> str:
    if not {"msgtype", "body", "m.mentions"} <= set(content) <= _KEYS:
        return f"keys {sorted(content)}"
    if content["msgtype"] not in ("m.text", "m.notice"):
        return "msgtype"
    if content.get("format") != "org.matrix.custom.html" or not content.get("formatted_body"):
        return "format"
    replied = content.get("m.relates_to", {}).get("m.in_reply_to", {"event_id": "$"})
    return "" if replied["event_id"].startswith("$") else "m.relates_to"


def _answer(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())
