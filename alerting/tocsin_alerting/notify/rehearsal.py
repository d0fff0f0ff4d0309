"""What a channel would send, without sending it: all that it would say to the other side is kept
here, and the channel goes on as if it had been taken.

Who speaks to the outside asks `rehearsed` first: `HttpSender`, and the channels with a protocol of
their own. It holds for the task that rehearses and those that it makes, and for no other.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.secret import MASK, covered

_LIMIT_S = 5.0  # for a channel that asks again what became of its message
_TOKEN = re.compile(r"(?<=/links/)[\w-]+")  # of the link by which one answers, in `SignedLinks.url`


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """`to` is who would get it and how, `POST https://host`; `html` is what a mail has besides its
    text. No secret is in it."""

    to: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    html: str = ""

    def covered(self, secrets: Iterable[str]) -> "Rehearsed":
        hidden = tuple(secrets)

        def cover(said: str) -> str:
            return _TOKEN.sub(MASK, covered(said, hidden))

        headers = {name: cover(value) for name, value in self.headers.items()}
        to, text, html = map(cover, (self.to, self.text, self.html))
        return Rehearsed(to, text, headers, html)


_kept: ContextVar[list[Rehearsed] | None] = ContextVar("rehearsal", default=None)


def rehearsed(message: Callable[[], Rehearsed], secrets: Iterable[str] = ()) -> bool:
    """Whether this is a rehearsal: then `message` is kept without `secrets`, and not to be sent."""
    kept = _kept.get()
    if kept is None:
        return False
    kept.append(message().covered(secrets))
    return True


def rehearsing() -> bool:
    """Whether nothing becomes of a message, so that nobody need ask what did."""
    return _kept.get() is not None


async def rehearse(
    channel: Channel, notification: Notification, now_ms: int
) -> tuple[list[Rehearsed], str]:
    """What would be sent, in order; where that is nothing, why."""
    why = "the receiver takes too long to say what it would send"
    with _rehearsal() as kept, suppress(TimeoutError):
        async with asyncio.timeout(_LIMIT_S):
            outcome = await channel.send(notification, now_ms)
            why = outcome.detail if isinstance(outcome, Delivered) else outcome.error
    return kept, "" if kept else why


@contextmanager
def _rehearsal() -> Iterator[list[Rehearsed]]:
    kept: list[Rehearsed] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def readable(content: bytes, kind: str = "") -> str:
    """A body as a person reads it: JSON a key a line, a form (by its `kind`) a field a line."""
    text = content.decode("utf-8", "replace")
    if kind == "application/x-www-form-urlencoded":
        return "\n".join(f"{name}: {value}" for name, value in parse_qsl(text))
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


# To a channel that looks into the answer: each vendor's way to say that a message was taken.
TAKEN = json.dumps(
    {
        **{"ok": True, "success": True, "errcode": 0, "code": 0, "StatusCode": 0, "status": 1},
        **{"errmsg": "ok", "msg": "ok", "message": "ok", "id": "1", "ts": "1.0", "sid": "1"},
    }
)
