"""Matrix: a message in a room, by the client-server API of any homeserver.

Sources: github.com/matrix-org/matrix-spec, data/api/client-server/room_send.yaml (the request),
definitions/m.mentions.yaml and errors/rate_limited.yaml, content/client-server-api/_index.md (error
codes, transaction identifiers, an event has at most 65,536 bytes). The Python clients are whole
clients with a state to keep (matrix-nio, mautrix): for one PUT a message none is used. Encrypted
rooms take a message that is not encrypted; how their clients show it is unverified.
"""

import re
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    URGENT_SEVERITIES,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import HTML, PLAIN, Markup, chat_text, utf8_size
from tocsin_alerting.notify.http_sender import (
    MAX_WAIT_MS,
    HttpAnswer,
    HttpChannel,
    HttpSettings,
    ServiceUrl,
    json_request,
)
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret_keys import link_secrets, require_secrets, secret_of
from tocsin_alerting.settings import FilePath, RefusedKey

_MOST_BYTES = 16_000  # of the text, which stands in the event twice
_ROOM = re.compile(r"![^\s:]{1,200}(:[^\s]{1,200})?")
_ZERO_WIDTH_SPACE = "\u200b"
_ADVICE = {
    "M_UNKNOWN_TOKEN": "log in again and write the new access token",
    "M_MISSING_TOKEN": "write the access token",
    "M_FORBIDDEN": "invite the user of the token to the room, and let it join",
    "M_USER_DEACTIVATED": "the user of the token is deactivated; use another",
}


def _unlinked(text: str) -> str:
    """A homeserver older than m.mentions looks for `@room` in the text."""
    return text.replace("@", "@" + _ZERO_WIDTH_SPACE)


_MARKED = Markup(lambda text: HTML.escape(_unlinked(text)), HTML.bold, HTML.link)
_BARE = Markup(_unlinked, PLAIN.bold, PLAIN.link)


def _room_id(room: str) -> str:
    if not _ROOM.fullmatch(room):
        raise ValueError("room is the id of a room, `!abc:example.com`; an alias (`#...`) is none")
    return room


class MatrixSettings(HttpSettings):
    """`url` is the homeserver's. `mention_room` has everybody in the room told of pages of P0 and
    P1."""

    type: Literal["matrix"]
    url: ServiceUrl
    room: Annotated[str, AfterValidator(_room_id)]
    token: RefusedKey = None
    token_file: FilePath | None = None
    token_env: str | None = None
    mention_room: bool = False

    @model_validator(mode="after")
    def _one_token(self) -> "MatrixSettings":
        require_secrets(self, "token")
        return self


class MatrixRoom(HttpChannel):
    def __init__(self, name: str, settings: MatrixSettings, deps: ChannelDeps) -> None:
        self._templates, self._mention_room = deps.templates, settings.mention_room
        token = secret_of(settings, "token", deps.vault)
        room = quote(settings.room, safe="")
        base = settings.url.rstrip("/")
        self._url = f"{base}/_matrix/client/v3/rooms/{room}/send/m.room.message"
        headers = {"Authorization": f"Bearer {token.value}"}
        super().__init__(name, settings, settings.url, (), headers)

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        content = matrix_content(notification, parts, mention_room=self._mention_room)
        # the server takes a message with the same identifier once
        number = sha256(notification.key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        request = json_request(f"{self._url}/{number}", content, method="PUT")
        return await self._http.send(
            request, now_ms, transcript, matrix_outcome, link_secrets(parts)
        )


def matrix_content(
    notification: Notification, parts: MessageParts, *, mention_room: bool = False
) -> dict[str, Any]:
    """A page is `m.text`: of an `m.notice` a phone says nothing. With `m.mentions`, and nothing in
    it, no text calls anybody."""
    pages = notification.reason not in NOTICE_REASONS
    calls = mention_room and pages and notification.severity in URGENT_SEVERITIES
    content: dict[str, Any] = {
        "msgtype": "m.text" if pages else "m.notice",
        "body": chat_text(parts, _BARE, _MOST_BYTES, utf8_size),
        "format": "org.matrix.custom.html",
        "formatted_body": chat_text(parts, _MARKED, _MOST_BYTES, utf8_size).replace("\n", "<br>"),
        "m.mentions": {"room": True} if calls else {},
    }
    if notification.thread:
        content["m.relates_to"] = {"m.in_reply_to": {"event_id": notification.thread}}
    return content


def matrix_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    body = answer.json() or {}
    code, event = str(body.get("errcode", "")), body.get("event_id")
    said = ": ".join(str(body[key]) for key in ("errcode", "error") if body.get(key))
    if 200 <= answer.status < 300:
        if isinstance(event, str) and event:
            return Delivered(event, f"HTTP {answer.status}")
        return RetryAt(f"HTTP {answer.status}, but not from a homeserver: {said or answer.text}")
    outcome = answer.outcome(now_ms, said or answer.text)
    if code == "M_LIMIT_EXCEEDED" or answer.status == 429:
        return RetryAt(outcome_text(outcome), answer.not_before(now_ms) or _told_ms(body, now_ms))
    if code == "M_RESOURCE_LIMIT_EXCEEDED":  # of the server, whose operator makes room
        return RetryAt(outcome_text(outcome))
    if code in _ADVICE and isinstance(outcome, Permanent):
        return Permanent(f"{outcome.error}; {_ADVICE[code]}")
    return outcome


def outcome_text(outcome: Outcome) -> str:
    return outcome.detail if isinstance(outcome, Delivered) else outcome.error


def _told_ms(body: Any, now_ms: int) -> int | None:
    """Servers before version 1.10 of the API say it in the body."""
    wait_ms = body.get("retry_after_ms")
    if not isinstance(wait_ms, int) or wait_ms <= 0:
        return None
    return now_ms + min(wait_ms, MAX_WAIT_MS)
