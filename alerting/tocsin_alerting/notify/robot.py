"""What the group robots of WeCom, DingTalk and Feishu share: a URL that is the secret, mentions, an
answer of HTTP 200 whose body refuses, and Markdown for which no service documents an escape.

httpx2 and no client of theirs: none is asynchronous, and a message is one POST.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    NOTICE_REASONS,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpChannel,
    HttpRequest,
    HttpSettings,
    ReadAnswer,
    usable_url,
)
from tocsin_alerting.settings import FilePath, RefusedKey, Words
from tocsin_alerting.time_format import elapsed_text

UNKNOWN_RETRIES = 3  # of a message whose refusal nobody knows
_SKEW_MS = 300_000  # less is no reason for a refused signature: they allow an hour
_USER_ID = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_MOBILE = re.compile(r"\+?[0-9][0-9-]{4,19}")
# What a robot's Markdown could read as its own, and a character that looks alike.
_TWINS = str.maketrans("<>[]`*~|\\", "＜＞［］｀＊～｜＼")
_ENTITY = re.compile(r"&(?=[#A-Za-z])")
_INDENT = re.compile(r"(?m)^[^\S\n]+")
_HEADING = re.compile(r"(?m)^#+(?=\s|$)")  # not the number of an incident
_RULE = re.compile(r"(?m)^[-=]{2,}[^\S\n]*$")
_EMPHASIS = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
_WIDE = str.maketrans("#-=_", "＃－＝＿")


def _user_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    for one in ids:
        if (
            not isinstance(one, str)
            or not _USER_ID.fullmatch(one)
            or one.lower().lstrip("@") == "all"
        ):
            raise ValueError(f"{one!r} is no id of a user; for everybody set mention_all: true")
    return ids


def _mobiles(numbers: tuple[str, ...]) -> tuple[str, ...]:
    for number in numbers:
        if not isinstance(number, str) or not _MOBILE.fullmatch(number):
            raise ValueError('not a list of phone numbers; write them in quotes, as "13800000000"')
    return numbers


UserIds = Annotated[Words, AfterValidator(_user_ids)]
Mobiles = Annotated[Words, AfterValidator(_mobiles)]


class RobotSettings(HttpSettings):
    """The URL is the secret: who has it writes to the group. `mention` says in which messages the
    people of the lists are mentioned; everybody is, only where `mention_all` says so."""

    url: RefusedKey = None
    url_file: FilePath | None = None
    url_env: str | None = None
    mention: Literal["on_page", "never", "always"] = "on_page"
    mention_all: bool = False

    @model_validator(mode="after")
    def _one_url(self) -> "RobotSettings":
        if (self.url_file is None) == (self.url_env is None):
            raise ValueError("give exactly one of url_file and url_env")
        return self

    def mentions(self, notification: Notification) -> bool:
        """Whether this message may mention somebody."""
        digest = notification.reason is Reason.DIGEST
        page = notification.reason not in NOTICE_REASONS and not digest
        return self.mention == "always" or (self.mention == "on_page" and page)


class Robot(HttpChannel):
    """Posts to one robot. What stands in a message, its signature and what an answer means are the
    service's."""

    def __init__(
        self, name: str, settings: RobotSettings, deps: ChannelDeps, *secrets: str
    ) -> None:
        url = deps.vault.secret(settings.url_file, settings.url_env)
        self._url = usable_url(url.value if url else "")
        self._templates, self._links = deps.templates, deps.links
        super().__init__(name, settings, self._url, secrets)

    async def _post(
        self,
        url: str,
        body: Mapping[str, Any],
        notification: Notification,
        now_ms: int,
        transcript: list[str] | None,
        read: ReadAnswer,
    ) -> Outcome:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        request = HttpRequest(url, body_bytes(body), headers)
        # one that echoes what it got tells the link
        secrets = (self._links.url(notification).rpartition("/")[2],)
        return await self._http.send(request, now_ms, transcript, read, secrets)


class SignedRobotSettings(RobotSettings):
    """Of one that may demand a signature by `secret`, and a `keyword` in each message."""

    secret: RefusedKey = None
    secret_file: FilePath | None = None
    secret_env: str | None = None
    keyword: str = ""


class SignedRobot(Robot):
    """`_secret` is "" where nothing is signed."""

    def __init__(self, name: str, settings: SignedRobotSettings, deps: ChannelDeps) -> None:
        secret = deps.vault.secret(settings.secret_file, settings.secret_env)
        self._secret = secret.value if secret else ""
        super().__init__(name, settings, deps, self._secret)


def body_bytes(body: Mapping[str, Any]) -> bytes:
    """UTF-8 as it is: an escaped Chinese character would count twice against a limit."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def defused(text: str) -> str:
    """`text` so that no robot's Markdown makes a link, a heading, a colour or a mention of it."""
    text = _ENTITY.sub("＆", text.translate(_TWINS))
    text = _INDENT.sub("", text)
    for pattern in (_HEADING, _RULE, _EMPHASIS):
        text = pattern.sub(lambda match: match[0].translate(_WIDE), text)
    return text


def markdown_link(label: str, url: str) -> str:
    """`url` cannot end the link before its end."""
    for char in "()<>[]\\":
        url = url.replace(char, f"%{ord(char):02X}")
    return f"[{label}]({url})"


@dataclass(frozen=True, slots=True)
class RobotAnswers:
    """How a service says what came of a message: in `keys`, the first that is there, 0 is done.
    `waits_ms` are of codes that are worth another try, `words` what to do about refusals. A code
    that is in neither may mean either."""

    service: str
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    waits_ms: Mapping[int, int] = field(default_factory=dict)
    words: Mapping[int, str] = field(default_factory=dict)

    def outcome(self, answer: HttpAnswer, now_ms: int) -> Outcome:
        """HTTP 2xx is no delivery here: only the code is."""
        by_status = answer.outcome(now_ms)
        if not isinstance(by_status, Delivered):
            return by_status
        body = answer.json()
        if body is None:  # half of one, or a page of somebody between us
            return RetryAt(f"HTTP {answer.status}, no answer of {self.service}: {answer.text[:80]}")
        code = self.code(body)
        if code is None:
            return Permanent(
                f"HTTP {answer.status} without {self.keys[0]} in the answer: this is no robot of"
                f" {self.service}; correct the URL: {answer.text[:80]}"
            )
        if code == 0:
            return Delivered(detail=f"{self.keys[0]} 0")
        said = next((str(body[key]) for key in self.texts if body.get(key)), "")
        error = f"{self.keys[0]} {code}: {said[:160]}"
        if code in self.waits_ms:
            return RetryAt(error, now_ms + self.waits_ms[code])
        if code not in self.words:
            return RetryAt(error, retries=UNKNOWN_RETRIES)
        advice = self.words[code]
        return Permanent(f"{advice}: {error}" if advice else error)

    def code(self, body: Mapping[str, Any]) -> int | None:
        """A relay of one's own may write the number as text."""
        value = next((body[key] for key in self.keys if key in body), None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        is_number = isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value, re.ASCII)
        return int(value) if is_number and isinstance(value, str) else None


def skew_words(answer: HttpAnswer, now_ms: int) -> str:
    """What is wrong with this machine's clock, by the other side's; "" when nothing is."""
    try:
        theirs_ms = int(parsedate_to_datetime(answer.headers.get("date", "")).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return ""
    if abs(now_ms - theirs_ms) < _SKEW_MS:
        return ""
    side = "ahead of" if now_ms > theirs_ms else "behind"
    return f"this machine's clock is {elapsed_text(abs(now_ms - theirs_ms))} {side} theirs; set it"
