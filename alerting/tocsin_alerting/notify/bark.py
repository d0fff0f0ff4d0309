"""Bark: pushes to an iPhone, by Bark's own server or one of one's own.

Read: github.com/Finb/bark-server docs/API_V2.md, route_push.go and apns.go (all answers; what Apple
takes is 4,096 bytes), github.com/Finb/Bark docs/en-us/tutorial.md (level, volume, call, id).
"""

import base64
import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import PLAIN, chat_text, cut
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpChannel,
    HttpSettings,
    HttpUrl,
    ServiceUrl,
    json_request,
)
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.settings import FilePath, RefusedKey

PAYLOAD_LIMIT, TITLE_LIMIT = 4096, 200  # bytes of Apple's, characters
_ENVELOPE = 400  # what their server adds for Apple
_LEVELS = {"P0": "critical", "P1": "timeSensitive"}
# Apple's words for a phone that is not there any more, or never takes this.
_HOPELESS = ("BadDeviceToken", "Unregistered", "DeviceTokenNotForTopic", "PayloadTooLarge")


class BarkSettings(HttpSettings):
    """`critical`: a P0 rings through a muted phone, with `volume` of 10."""

    type: Literal["bark"]
    api_url: ServiceUrl = "https://api.day.app"
    device_key: RefusedKey = None
    device_key_file: FilePath | None = None
    device_key_env: str | None = None
    username: str = ""
    password: RefusedKey = None
    password_file: FilePath | None = None
    password_env: str | None = None
    critical: bool = True
    volume: Annotated[int, Field(ge=0, le=10)] = 5
    call: bool = False
    sound: str = ""
    group: str = "tocsin"
    icon: HttpUrl | None = None
    badge: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_key(self) -> "BarkSettings":
        if (self.device_key_file is None) == (self.device_key_env is None):
            raise ValueError("give exactly one of device_key_file and device_key_env")
        if bool(self.username) != (self.password_file is not None or self.password_env is not None):
            raise ValueError("username and password_file (or password_env) belong together")
        return self


class Bark(HttpChannel):
    def __init__(self, name: str, settings: BarkSettings, deps: ChannelDeps) -> None:
        self._settings, self._templates, self._links = settings, deps.templates, deps.links
        key = deps.vault.secret(settings.device_key_file, settings.device_key_env)
        self._key = key.value if key else ""
        password = deps.vault.secret(settings.password_file, settings.password_env)
        headers: dict[str, str] = {}
        secrets = [self._key]
        if password:
            pair = base64.b64encode(f"{settings.username}:{password.value}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
            secrets += [password.value, pair]
        self._url = f"{settings.api_url.rstrip('/')}/push"
        super().__init__(name, settings, self._url, secrets, headers)

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        body = bark_body(parts, notification, self._settings)
        request = json_request(self._url, {**body, "device_key": self._key})
        secrets = (self._links.url(notification).rpartition("/")[2],)
        return await self._http.send(request, now_ms, transcript, read_bark, secrets)


def bark_body(
    parts: MessageParts, notification: Notification, settings: BarkSettings
) -> dict[str, Any]:
    """Plain text, in which nothing is markup. All values but `badge` are texts: their server ends a
    request whose `group` is none."""
    body: dict[str, Any] = {"title": cut(parts.subject, TITLE_LIMIT), "isArchive": "1"}
    body |= _ring(notification, settings)
    optional = {"group": settings.group, "sound": settings.sound, "icon": settings.icon}
    body |= {name: value for name, value in optional.items() if value}
    if parts.answer_url:
        body["url"] = parts.answer_url
    if settings.badge is not None:
        body["badge"] = settings.badge
    if notification.incident:  # the next message takes the place of this one on the phone
        uid = notification.key.partition("/")[0]
        body["id"] = f"tocsin-{hashlib.sha256(uid.encode()).hexdigest()[:24]}"
    room = PAYLOAD_LIMIT - _ENVELOPE - _size(json.dumps(body, ensure_ascii=False))
    shown = chat_text(parts, PLAIN, max(room, 0), _size, subject=False)
    return {**body, "body": shown or parts.head or parts.subject}


def _ring(notification: Notification, settings: BarkSettings) -> dict[str, str]:
    if notification.reason in NOTICE_REASONS:
        return {"level": "active"}
    level = _LEVELS.get(notification.severity, "active")
    ring = {"level": level}
    if level == "critical" and settings.call:
        ring["call"] = "1"
    if level == "critical" and settings.critical:
        return {**ring, "volume": str(settings.volume)}
    return {**ring, "level": "timeSensitive"} if level == "critical" else ring


def _size(text: str) -> int:
    """Bytes in what goes to Apple, where the server writes these as six characters each."""
    escaped = sum(text.count(char) for char in "<>&\u2028\u2029")
    quoted = json.dumps(text, ensure_ascii=False)
    return len(quoted.encode("utf-8", "replace")) + 5 * escaped


def read_bark(answer: HttpAnswer, now_ms: int) -> Outcome:
    body = answer.json() or {}
    code = body.get("code")
    said = str(body.get("message", ""))[:160]
    if not isinstance(code, int):
        outcome = answer.outcome(now_ms)
        if answer.status in (401, 418):  # 418 is how theirs refuses a password
            return Permanent(f"HTTP {answer.status}: the server refuses username and password")
        if isinstance(outcome, Delivered):
            if answer.json() is None:  # half of one, or a page of somebody between us
                return RetryAt(f"HTTP {answer.status}, no answer of Bark: {answer.text[:80]}")
            text = f"HTTP {answer.status} without a code in the answer: correct api_url"
            return Permanent(f"{text}: {answer.text[:80]}")
        return outcome
    if code == 200 and 200 <= answer.status < 300:
        return Delivered(detail="code 200")
    error = f"code {code}: {said}"
    if any(word in said for word in _HOPELESS):
        return Permanent(f"the phone does not take it; register it again in the app: {error}")
    if "device token" in said or "device key" in said:
        return Permanent(f"the server does not know the device key: {error}")
    if code == 400:
        return Permanent(error)
    return RetryAt(error, answer.not_before(now_ms))
