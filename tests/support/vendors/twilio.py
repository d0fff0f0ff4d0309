"""Twilio's API of 2010-04-01, as far as messages and calls need it, and the calls that it makes.

It judges by www.twilio.com/docs/messaging/api/message-resource, /docs/voice/api/call-resource,
/docs/voice/twiml and the pages of /docs/api/errors. What it asks of us it signs as
/docs/usage/security says, by the formula written out here.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

from support.webhook_sink import Answer, Received, WebhookSink

ACCOUNT = "AC" + "0123456789abcdef" * 2
AUTH_TOKEN = "twilio-t0ken-of-ours"
API_KEY, API_SECRET = "SK" + "fedcba9876543210" * 2, "twilio-api-secret-of-ours"
CALLER = "+15005550006"
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_PATH = re.compile(rf"/2010-04-01/Accounts/{ACCOUNT}/(Messages|Calls)(?:/(\w+))?\.json")
_MESSAGE = {"To", "From", "MessagingServiceSid", "Body"}
_CALL = {"To", "From", "Twiml", "Timeout", "TimeLimit", "MachineDetection"}
_LANGUAGES = {"en-US", "zh-CN"}


def sha1_mac(key: bytes, message: bytes) -> bytes:
    """RFC 2104 with SHA-1, from its text."""
    block = (hashlib.sha1(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha1(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def twilio_signature(token: str, url: str, fields: dict[str, str]) -> str:
    told = url
    for name in sorted(fields):
        told += name + fields[name]
    return base64.b64encode(sha1_mac(token.encode(), told.encode())).decode()


class TwilioDouble(WebhookSink):
    """`course` are the states through which what is made goes, one each time it is asked for; the
    last one stays; `courses` are those of single numbers, `message_course` that of SMS.
    `refuse` are the errors that the next
    requests for a new one get."""

    def __init__(self, *course: str | dict[str, Any]) -> None:
        super().__init__()
        self.course = list(course)
        self.courses: dict[str, list[str | dict[str, Any]]] = {}
        self.message_course: list[str | dict[str, Any]] = []
        self.refuse: list[tuple[int, int]] = []
        self.made: list[dict[str, str]] = []
        self.ended: list[str] = []
        self._states: dict[str, Iterator[str | dict[str, Any]]] = {}
        self._last: dict[str, dict[str, Any]] = {}

    @property
    def api_url(self) -> str:
        return f"http://localhost:{self.port}"

    async def wait_for_made(self, count: int, within: float = 60.0) -> list[dict[str, str]]:
        """What was made once there is so much of it; raises TimeoutError."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.made) >= count)
        return list(self.made)

    def remove(self) -> None:
        """As by hand in the console: it has nothing of what was made."""
        self._states.clear()

    def proceed(self, *course: str) -> None:
        """What is on its way goes on through these states."""
        for sid in self._states:
            self._states[sid] = iter(course)

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if not self.answers:
            self.usual = self._judged(request)
        await super()._answer(request, writer)

    def _judged(self, request: Received) -> Answer:
        match = _PATH.fullmatch(request.path)
        if match is None:
            return _error(404, 20404, "not found")
        allowed = [f"{ACCOUNT}:{AUTH_TOKEN}", f"{API_KEY}:{API_SECRET}"]
        basic = [f"Basic {base64.b64encode(one.encode()).decode()}" for one in allowed]
        if request.headers.get("authorization") not in basic:
            return _error(401, 20003, "Authenticate")
        what, sid = match[1], match[2]
        if sid is not None:
            return self._existing(sid, request)
        if request.method != "POST":
            return _error(405, 20004, "Method not allowed")
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return _error(400, 21603, "no form")
        if self.refuse:
            status, code = self.refuse.pop(0)
            return _error(status, code, "refused by the test")
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        wrong = self._wrong_message(form) if what == "Messages" else self._wrong_call(form)
        return wrong or self._create(what, form)

    def _create(self, what: str, form: dict[str, str]) -> Answer:
        sid = f"{'SM' if what == 'Messages' else 'CA'}{len(self.made):032x}"
        self.made.append(form)
        course = (self.message_course if what == "Messages" else []) or self.course
        self._states[sid] = iter(list(self.courses.get(form["To"], course)))
        self._last[sid] = {"sid": sid, "status": "queued", "error_code": None, "to": form["To"]}
        return _json(201, self._last[sid])

    def _existing(self, sid: str, request: Received) -> Answer:
        if sid not in self._states:
            return _error(404, 20404, "not found")
        if request.method == "POST":
            self.ended.append(sid)
            self._last[sid] |= {"status": "completed"}
            self._states[sid] = iter(())
        step = next(self._states[sid], None)
        if step is not None:
            self._last[sid] |= {"status": step} if isinstance(step, str) else step
        return _json(200, self._last[sid])

    def _wrong_message(self, form: dict[str, str]) -> Answer | None:
        if form.keys() - _MESSAGE or "Body" not in form:
            return _error(400, 21602, "Message body is required")
        if ("From" in form) == ("MessagingServiceSid" in form):
            return _error(400, 21603, "A 'From' phone number is required")
        if not _E164.fullmatch(form.get("To", "")):
            return _error(400, 21211, "Invalid 'To' Phone Number")
        if len(form["Body"]) > 1600:
            return _error(400, 21617, "The concatenated message body exceeds the limit")
        return None

    def _wrong_call(self, form: dict[str, str]) -> Answer | None:
        if form.keys() - _CALL or not _E164.fullmatch(form.get("From", "")):
            return _error(400, 21213, "Invalid 'From'")
        if not _E164.fullmatch(form.get("To", "")):
            return _error(400, 21211, "Invalid 'To' Phone Number")
        if not 1 <= int(form.get("Timeout", "60")) <= 600:
            return _error(400, 21208, "Invalid Timeout")
        if len(form["Twiml"]) > 4000:
            return _error(400, 32018, "Twiml size exceeded")
        if wrong := twiml_faults(form["Twiml"]):
            return _error(400, 12200, wrong)
        return None


def twiml_faults(text: str) -> str:
    """Why it is no TwiML that can be spoken, "" where it is."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        return f"Schema validation: {error}"
    if root.tag != "Response" or (root.text or "").strip():
        return "no Response"
    for element in root.iter():
        if element.tag not in ("Response", "Gather", "Say", "Pause", "Hangup"):
            return f"{element.tag} is not allowed"
        if element.tag == "Say":
            if len(element) or element.get("language") not in _LANGUAGES:
                return "Say holds more than text, or has no language"
            if not (element.text or "").strip() or len(element.text or "") > 3000:
                return "Say has no text, or too much"
    return ""


class KeyPressed:
    """The request that Twilio makes when a key is pressed in a call that it made."""

    def __init__(self, made: dict[str, str], call_sid: str, digits: str = "1") -> None:
        gather = ElementTree.fromstring(made["Twiml"]).find("Gather")
        assert gather is not None and gather.get("numDigits") == "1"
        self.url = gather.get("action") or ""
        self.fields = {
            "AccountSid": ACCOUNT,
            "CallSid": call_sid,
            "CallStatus": "in-progress",
            "Digits": digits,
            "From": made["From"],
            "To": made["To"],
            "msg": "Gather End",
        }

    def headers(self, token: str = AUTH_TOKEN) -> dict[str, str]:
        return {
            "X-Twilio-Signature": twilio_signature(token, self.url, self.fields),
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": "TwilioProxy/1.1",
        }


def spoken_by(twiml: str) -> list[str]:
    return [say.text or "" for say in ElementTree.fromstring(twiml).iter("Say")]


def _json(status: int, data: dict[str, Any]) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(data).encode())


def _error(status: int, code: int, words: str) -> Answer:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return _json(status, {"code": code, "message": words, "more_info": more, "status": status})
