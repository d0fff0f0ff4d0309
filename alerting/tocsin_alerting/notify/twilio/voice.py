"""Calls by Twilio: the message is spoken, and the call is followed until somebody answers it."""

import asyncio
import base64
import hmac
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.channel import ChannelDeps, describe_outcome, nobody
from tocsin_alerting.notify.twilio.api import (
    Progress,
    ReadState,
    TwilioAccount,
    TwilioClient,
    numbers_for,
)
from tocsin_alerting.notify.twilio.settings import TwilioVoiceSettings
from tocsin_alerting.notify.twilio.spoken import Twiml, sentence

NOT_CALLED = "only pages ring"
CALL_PATH = "call"
_LONGEST_CALL_S = 180
# How long a call may wait at Twilio before it rings: one a second, so ten people take ten.
_QUEUE_S = 20.0
_PRIVATE_NAMES = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".test", ".invalid")


def is_public_https(url: str) -> bool:
    """Whether Twilio can reach us there, as far as the address itself tells."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if parts.scheme != "https" or not host:
        return False
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_PRIVATE_NAMES)


def signature(token: str, url: str, fields: Sequence[tuple[str, str]]) -> str:
    """X-Twilio-Signature: HMAC-SHA1 of the URL with the sorted fields of the form behind it, each
    value once. Source: www.twilio.com/docs/usage/security, and twilio-python's RequestValidator."""
    told = url + "".join(name + value for name, value in sorted(set(fields)))
    mac = hmac.digest(token.encode(), told.encode("utf-8", "surrogatepass"), "sha1")
    return base64.b64encode(mac).decode()


def is_signed(token: str, url: str, fields: Sequence[tuple[str, str]], given: str) -> bool:
    """Twilio signs the URL with or without the port that a scheme has anyway."""
    if not token or not given.isascii():
        return False
    parts = urlsplit(url)
    bare = parts._replace(netloc=_without_port(parts.netloc)).geturl()
    port = parts.port or 443
    whole = parts._replace(netloc=f"{_without_port(parts.netloc)}:{port}").geturl()
    right = [
        hmac.compare_digest(signature(token, form, fields), given)
        for form in dict.fromkeys((url, bare, whole))
    ]
    return any(right)


def _without_port(netloc: str) -> str:
    host, colon, port = netloc.rpartition(":")
    return host if colon and port.isdigit() else netloc


def call_state(redial_ms: int, *, detect_machine: bool) -> ReadState:
    """How a state of the call resource is read. Who answered is a person, unless Twilio was asked
    to find out and says that it is a machine."""

    def read(data: Mapping[str, Any], shown: str, now_ms: int) -> Progress:
        status, by = data.get("status"), str(data.get("answered_by") or "")
        later = now_ms + redial_ms
        if status in ("in-progress", "completed"):
            if detect_machine and by.startswith(("machine", "fax")):
                words = f"{shown}: answered by a machine"
                return Progress(RetryAt(words, later), over=True, missed=True)
            if detect_machine and not by and status == "in-progress":
                return Progress(None)
            return Progress(Delivered(str(data.get("sid") or ""), f"{shown}: answered"), over=True)
        if status in ("busy", "no-answer", "failed", "canceled"):
            return Progress(RetryAt(f"{shown}: {status}", later), over=True, missed=True)
        return Progress(None)

    return read


class TwilioVoice:
    """Calls the contact of a notification, or its own numbers when it names none."""

    def __init__(self, name: str, settings: TwilioVoiceSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 16
        self.queue_s = _QUEUE_S
        self.send_resolved = settings.send_resolved
        self._settings, self._deps = settings, deps
        self._account = TwilioAccount.of(settings, deps)
        self._client = TwilioClient(name, "Calls", settings, self._account)
        self.twiml = Twiml(deps.templates.language, settings.voice)

    def __repr__(self) -> str:
        return f"TwilioVoice({self.name}, {self._client.http.address})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        if not self._rings_for(notification):
            return Delivered(detail=NOT_CALLED, unsent=True)
        numbers = numbers_for(notification, self._settings.to, self._deps)
        if not numbers:
            return nobody(notification, "telephone number")
        dialogue = transcript if transcript is not None else []
        fields = self._fields(notification, now_ms)
        calls = (self._call(notification, number, fields, now_ms, dialogue) for number in numbers)
        outcome = self._client.settled(notification, numbers, await asyncio.gather(*calls))
        dialogue.append(describe_outcome(outcome))
        return outcome

    def is_from(self, account_sid: str) -> bool:
        return account_sid == self._account.sid

    def is_signed(self, url: str, fields: Sequence[tuple[str, str]], given: str) -> bool:
        """Whether Twilio itself asks, for this account."""
        return is_signed(self._account.token, url, fields, given)

    def answer_url(self, notification: Notification) -> str:
        """Where Twilio tells us of a key, "" where it cannot: we are not on the public network, or
        could not know that it is Twilio who asks."""
        url = self._deps.links.url(notification)
        can = self._settings.press_to_acknowledge and self._account.token and is_public_https(url)
        if not can or not url or notification.reason in NOTICE_REASONS:
            return ""
        return f"{url}/{CALL_PATH}?generation={notification.generation}"

    def begin(self) -> None:
        self._client.http.begin()

    async def close(self) -> None:
        await self._client.http.close()

    def _rings_for(self, notification: Notification) -> bool:
        if self._settings.calls_for == "everything" or notification.reason is Reason.TEST:
            return True
        asked = self.send_resolved and notification.reason is Reason.RESOLVED
        return asked or notification.reason not in NOTICE_REASONS

    def _fields(self, notification: Notification, now_ms: int) -> dict[str, str]:
        parts = self._deps.templates.parts(notification, now_ms)
        said = sentence(parts, notification.incident, self._deps.templates.language)
        return {
            "From": self._settings.sender,
            "Twiml": self.twiml.call(said, self.answer_url(notification)),
            "Timeout": str(self._settings.ring // 1000),
            "TimeLimit": str(_LONGEST_CALL_S),
            **({"MachineDetection": "Enable"} if self._settings.detect_machine else {}),
        }

    async def _call(
        self,
        notification: Notification,
        number: str,
        fields: Mapping[str, str],
        now_ms: int,
        transcript: list[str],
    ) -> Outcome:
        settings = self._settings
        # A phone that rings is left to ring: Twilio itself adds some seconds to the time.
        patience_s = settings.ring / 1000 + self.queue_s
        outcome = await self._client.send_to(
            notification,
            number,
            fields,
            now_ms,
            transcript,
            call_state(settings.redial, detect_machine=settings.detect_machine),
            patience_s,
            [self._deps.links.url(notification).rpartition("/")[2]],
        )
        if isinstance(outcome, RetryAt | Permanent):
            await self._client.end(notification, number)
        return outcome
