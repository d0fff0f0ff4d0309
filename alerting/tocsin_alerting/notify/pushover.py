"""Pushover: a push message that, for P0, sounds again and again until somebody confirms it.

Sources: pushover.net/api (fields, limits, priorities, "Being Friendly to our API") and
pushover.net/api/receipts (the state of a receipt, at most every 5 s; ending its repetitions). Its
Python clients block, so none is used.

Who confirms a P0 in the app acknowledges its incident: the receipts of the last hours are asked for
in turn. Which ones they are is not kept over a restart.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from pydantic import AfterValidator, model_validator

from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.channel import AnswerIncident, ChannelDeps
from tocsin_alerting.notify.chat_text import PLAIN, chat_text, cut
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpChannel,
    HttpRequest,
    HttpSettings,
    SendFailed,
    ServiceUrl,
)
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret_keys import link_secrets, require_secrets, secret_of
from tocsin_alerting.settings import FilePath, Interval, RefusedKey

log = logging.getLogger(__name__)

_MOST_TEXT, _MOST_TITLE, _MOST_URL, _MOST_URL_TITLE = 1024, 250, 512, 100  # characters
_PRIORITIES = {"P0": 2, "P1": 1, "P2": 0, "P3": -1, "P4": -2}
EMERGENCY = 2
_MIN_RETRY_MS, _MAX_EXPIRE_MS = 30_000, 10_800_000
_FRIENDLY_MS = 5_000  # before the same request comes again, or the same receipt is asked for
_MOST_RECEIPTS = 100
_MOST_CONNECTIONS = 2
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _often_enough(retry_ms: int) -> int:
    if retry_ms < _MIN_RETRY_MS:
        raise ValueError("Pushover repeats every 30s at most")
    return retry_ms


def _short_enough(expire_ms: int) -> int:
    if expire_ms > _MAX_EXPIRE_MS:
        raise ValueError("Pushover repeats for 3h at most")
    return expire_ms


class PushoverSettings(HttpSettings):
    """`token` is the application's, `user` the key of a user or a group. A P0 sounds again every
    `retry` until it is confirmed, for `expire` in total. `contact` is who confirms it here; ""
    says `pushover:` and the name of the device."""

    type: Literal["pushover"]
    token: RefusedKey = None
    token_file: FilePath | None = None
    token_env: str | None = None
    user: RefusedKey = None
    user_file: FilePath | None = None
    user_env: str | None = None
    device: str = ""
    sound: str = ""
    retry: Annotated[Interval, AfterValidator(_often_enough)] = 60_000
    expire: Annotated[Interval, AfterValidator(_short_enough)] = 3_600_000
    contact: str = ""
    api_url: ServiceUrl = "https://api.pushover.net"

    @model_validator(mode="after")
    def _whole(self) -> "PushoverSettings":
        require_secrets(self, "token", "user")
        return self


@dataclass(frozen=True, slots=True)
class PushoverReceipt:
    """A P0 that sounds until somebody confirms it."""

    id: str
    incident: int
    generation: int = 0


class Pushover(HttpChannel):
    """`pause` waits so many seconds before the receipts are asked for again."""

    at_once = 1  # Pushover wants no more than two connections; a P0 may be the second one

    def __init__(self, name: str, settings: PushoverSettings, deps: ChannelDeps) -> None:
        self._settings, self._templates = settings, deps.templates
        self._token = secret_of(settings, "token", deps.vault).value
        self._user = secret_of(settings, "user", deps.vault).value
        self._base = f"{settings.api_url.rstrip('/')}/1"
        super().__init__(name, settings, settings.api_url, (self._token, self._user))
        self._receipts: dict[str, PushoverReceipt] = {}
        self._sending = 0
        self.pause: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        fields = pushover_fields(notification, parts, self._settings)
        request = self._form("messages.json", {"user": self._user, **fields})
        self._sending += 1
        try:
            outcome = await self._http.send(
                request, now_ms, transcript, pushover_outcome, link_secrets(parts)
            )
        finally:
            self._sending -= 1
        if isinstance(outcome, Delivered):
            if "retry" in fields and outcome.reference:
                about = (notification.incident, notification.generation)
                self._remember(PushoverReceipt(outcome.reference, *about))
            elif notification.incident and _is_answered(notification):
                await self._silence(notification)
        return outcome

    async def listen(self, answer: AnswerIncident) -> None:
        """Asks for one receipt after the other, none more often than every 5 s."""
        while True:
            await self.pause(_FRIENDLY_MS / 1000)
            for receipt in tuple(self._receipts.values()):
                if self._sending >= _MOST_CONNECTIONS:
                    break
                try:
                    await self._look(receipt, answer)
                except SendFailed as error:
                    log.info("pushover receipt not read: %s: %s", self.name, error)
                    break

    def _remember(self, receipt: PushoverReceipt) -> None:
        self._receipts[receipt.id] = receipt
        while len(self._receipts) > _MOST_RECEIPTS:
            del self._receipts[next(iter(self._receipts))]

    async def _look(self, receipt: PushoverReceipt, answer: AnswerIncident) -> None:
        """It is forgotten once it is confirmed, has ended, or is unknown."""
        url = f"{self._base}/receipts/{quote(receipt.id, safe='')}.json"
        request = HttpRequest(f"{url}?{urlencode({'token': self._token})}", method="GET")
        reply = await self._http.ask(request)
        state = reply.json() or {}
        if state.get("acknowledged") == 1:
            who = self._settings.contact or f"pushover:{_device(state)}"
            action = Action(
                Verb.ACK,
                receipt.incident,
                actor=who,
                via=self.name,
                request_id=f"pushover/{receipt.id}",
                generation=receipt.generation,
            )
            await answer(action)
        if state.get("acknowledged") == 1 or state.get("expired") == 1 or reply.status == 404:
            self._receipts.pop(receipt.id, None)

    async def _silence(self, notification: Notification) -> None:
        """End the repetitions of this incident's pages: somebody answered elsewhere. That it fails
        costs noise and no page."""
        tag = quote(_tag(notification), safe="")
        for receipt in tuple(self._receipts.values()):
            if receipt.incident == notification.incident:
                self._receipts.pop(receipt.id, None)
        try:
            await self._http.ask(self._form(f"receipts/cancel_by_tag/{tag}.json", {}))
        except SendFailed as error:
            log.warning("pushover repetitions not ended, failed: %s: %s", self.name, error)

    def _form(self, path: str, fields: Mapping[str, Any]) -> HttpRequest:
        content = urlencode({"token": self._token, **fields}, errors="replace").encode()
        return HttpRequest(f"{self._base}/{path}", content, _FORM)


def _tag(notification: Notification) -> str:
    return f"tocsin-{notification.key.partition('/')[0]}"


def _is_answered(notification: Notification) -> bool:
    return notification.reason in NOTICE_REASONS


def _device(state: Mapping[str, Any]) -> str:
    name = str(state.get("acknowledged_by_device") or "")
    return "".join(c for c in name if c.isprintable())[:64] or "unknown"


def pushover_fields(
    notification: Notification, parts: MessageParts, settings: PushoverSettings
) -> dict[str, Any]:
    """The form without the secrets. The link that answers stands in the text too, because the app
    shows a URL of its own only as long as it has 512 characters."""
    fields: dict[str, Any] = {
        "title": cut(parts.subject, _MOST_TITLE),
        "message": chat_text(parts, PLAIN, _MOST_TEXT, subject=False) or parts.head,
        "priority": _priority(notification),
        "timestamp": notification.at_ms // 1000,
    }
    if parts.answer_url and len(parts.answer_url) <= _MOST_URL:
        fields["url"] = parts.answer_url
        fields["url_title"] = cut(parts.answer_label, _MOST_URL_TITLE)
    fields |= {name: value for name in ("device", "sound") if (value := getattr(settings, name))}
    if fields["priority"] == EMERGENCY:
        fields["retry"] = settings.retry // 1000
        fields["expire"] = settings.expire // 1000
        fields["tags"] = _tag(notification)
    return fields


def _priority(notification: Notification) -> int:
    """What is acknowledged or over sounds once, and a message about none or many is not confirmed
    in the app."""
    priority = _PRIORITIES.get(notification.severity, 0)
    if notification.reason in NOTICE_REASONS:
        return min(priority, 0)
    return priority if notification.incident else min(priority, 1)


def pushover_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    """A refusal is for good: the document asks not to send the same again, and blocks who does."""
    body = answer.json()
    said = _errors(body) if body else answer.text
    if body is not None and answer.status == 200 and body.get("status") == 1:
        return Delivered(str(body.get("receipt") or ""), f"HTTP 200: {body.get('request', '')}")
    text = f"HTTP {answer.status}: {said}"
    is_theirs = body is not None and "status" in body
    if answer.status == 429 and is_theirs:
        used_up = "the application's messages of this month are used up"
        return Permanent(f"{text}; {used_up}", final=True)
    if is_theirs and (answer.status == 200 or 400 <= answer.status < 500):
        return Permanent(f"{text}; check token, user and device", final=True)
    outcome = answer.outcome(now_ms, said)
    if isinstance(outcome, Permanent):  # of somebody between us, or a redirect
        return outcome
    error = outcome.error if isinstance(outcome, RetryAt) else f"{text}: not from Pushover"
    later = outcome.not_before_ms if isinstance(outcome, RetryAt) else None
    return RetryAt(error, max(later or 0, now_ms + _FRIENDLY_MS))


def _errors(body: Mapping[str, Any]) -> str:
    errors = body.get("errors")
    return "; ".join(map(str, errors)) if isinstance(errors, list) else ""
