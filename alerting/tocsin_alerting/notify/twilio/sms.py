"""SMS by Twilio: a text of a few segments, followed until the carrier or the phone has it."""

import asyncio
from collections.abc import Mapping
from typing import Any

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps, describe_outcome, nobody
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.twilio.api import (
    Progress,
    TwilioAccount,
    TwilioClient,
    numbers_for,
    refusal,
)
from tocsin_alerting.notify.twilio.settings import TwilioSmsSettings

# 3GPP TS 23.038, 6.2.1: what an SMS carries in seven bits; of the second row each costs two.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = frozenset("\f^{}\\[~]|€")
_TYPED = str.maketrans({"…": "...", "–": "-", "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'"})
_ONE, _MORE = {7: 160, 16: 70}, {7: 153, 16: 67}
MAX_BODY = 1600
_SHORTEST_HEAD = 40


def segments(text: str) -> int:
    """In how many SMS it goes out: seven bits a character where all are of that alphabet, else
    sixteen. A pair of surrogates and an extended character are two, and are not divided."""
    if all(char in _GSM or char in _GSM_EXTENDED for char in text):
        bits, sizes = 7, [2 if char in _GSM_EXTENDED else 1 for char in text]
    else:
        bits, sizes = 16, [2 if ord(char) > 0xFFFF else 1 for char in text]
    if sum(sizes) <= _ONE[bits]:
        return 1
    count, used = 1, 0
    for size in sizes:
        if used + size > _MORE[bits]:
            count, used = count + 1, 0
        used += size
    return count


def sms_text(parts: MessageParts, max_segments: int) -> str:
    """The subject (severity, machine, what, number), details as far as they fit, and the link by
    which it is answered, which is never cut; the subject then is, before its number."""
    link = parts.answer_url or parts.command

    def fits(head: str, *details: str) -> bool:
        text = _joined(head, *details, link)
        return segments(text) <= max_segments and len(text) <= MAX_BODY

    subject = _typed(parts.subject)
    if not fits(subject):
        subject = _shortened(subject, fits)
    kept: list[str] = []
    for label, value in parts.lines:
        line = _typed(f"{label}{parts.colon}{value}")
        if value not in parts.subject and fits(subject, *kept, line):
            kept.append(line)
    return _joined(subject, *kept, link)


def _shortened(subject: str, fits: Any) -> str:
    """Cut within, so that what the line begins with and the number at its end stay."""
    head, bracket, number = subject.rpartition(" (#")
    tail = f"... (#{number}" if bracket and len(number) < _SHORTEST_HEAD else "..."
    head = head if bracket else subject
    low, high = min(_SHORTEST_HEAD, len(head)), len(head)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(head[:middle].rstrip() + tail) else (low, middle - 1)
    return head[:low].rstrip() + tail


def _typed(text: str) -> str:
    """In one line, in characters that do not make an SMS dearer where others say the same."""
    line = "".join(char if char.isprintable() else " " for char in text.translate(_TYPED))
    return " ".join(line.encode("utf-8", "replace").decode().split())


def _joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def sms_state(wanted: str) -> Any:
    """How a state of the message resource is read, where `wanted` (sent, delivered) is enough."""

    def read(data: Mapping[str, Any], shown: str, now_ms: int) -> Progress:
        status, code = data.get("status"), data.get("error_code")
        if status in ("delivered", "read") or (status == wanted == "sent"):
            return Progress(Delivered(str(data.get("sid") or ""), f"{shown}: {status}"), over=True)
        if status in ("failed", "undelivered", "canceled"):
            words = f"{shown}: {status} {data.get('error_message') or ''}".rstrip()
            if isinstance(code, int):
                return Progress(refusal(code, words, None, now_ms), over=True)
            return Progress(RetryAt(words, now_ms + 60_000), over=True)
        return Progress(None)

    return read


class TwilioSms:
    """Writes to the contact of a notification, or to its own numbers when it names none."""

    def __init__(self, name: str, settings: TwilioSmsSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 16
        self.send_resolved = settings.send_resolved
        self._settings, self._deps = settings, deps
        self._account = TwilioAccount.of(settings, deps)
        self._client = TwilioClient(name, "Messages", settings, self._account)

    def __repr__(self) -> str:
        return f"TwilioSms({self.name}, {self._client.http.address})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        numbers = numbers_for(notification, self._settings.to, self._deps)
        if not numbers:
            return nobody(notification, "telephone number")
        settings, dialogue = self._settings, transcript if transcript is not None else []
        parts = self._deps.templates.parts(notification, now_ms)
        service = settings.messaging_service_sid
        fields = {
            **({"MessagingServiceSid": service} if service else {"From": settings.sender or ""}),
            "Body": sms_text(parts, settings.max_segments),
        }
        told = (
            self._client.send_to(
                notification,
                number,
                fields,
                now_ms,
                dialogue,
                sms_state(settings.delivered_when),
                settings.patience / 1000,
                [parts.answer_url.rpartition("/")[2]],
            )
            for number in numbers
        )
        outcome = self._client.settled(notification, numbers, await asyncio.gather(*told))
        dialogue.append(describe_outcome(outcome))
        return outcome

    def begin(self) -> None:
        self._client.http.begin()

    async def close(self) -> None:
        await self._client.http.close()
