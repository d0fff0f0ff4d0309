"""What Aliyun's SMS and voice share: keys, the variables of approved templates, numbers, answers.

Read: help.aliyun.com document_detail 101346 (codes of SMS), 178344 (codes of voice), 44357 (a
variable of SMS has 1 to 35 characters), 114035 (the variables of a call have fewer than 250 in all,
and no links), 2806243 and the voice template specifications (characters); 51132 (Throttling),
30137 (InvalidAccessKeyId, SignatureDoesNotMatch) of other products, and the common codes as quoted
at developer.aliyun.com/ask/213973 (Inactive, InvalidTimeStamp). Unverified: that SMS and voice
give the same, and that a
variable of SMS may have every character that _UNSPOKEN and _BRACKETS leave.
"""

import json
import re
import secrets as random_source
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.aliyun.signature import signed_call
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import cut
from tocsin_alerting.notify.contact_ways import phone_number
from tocsin_alerting.notify.http_sender import HttpAnswer, HttpChannel, HttpSettings
from tocsin_alerting.notify.rehearsal import Rehearsed, rehearsed
from tocsin_alerting.notify.robot import skew_words
from tocsin_alerting.settings import FilePath, RefusedKey, Words

VERSION = "2017-05-25"
Field = Literal["severity", "number", "machine", "what", "state", "model", "engine", "gpu", "since"]
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_LINK = re.compile(r"://|(?i:(?<=\bwww)\.)")
_BRACKETS = re.compile(r"[【】\[\]{}<>$\\]")  # those of signatures and variables
_UNSPOKEN = re.compile(r"[#/:%&\-_*|`~^=]")
_NONE = "-"  # a variable may not be empty
_MINUTE_MS, _HOUR_MS = 60_000, 3_600_000
_LATER = ("Throttling", "ServiceUnavailable", "InternalError", "isp.SYSTEM_ERROR")
_HOURS = "no calls at this hour; have Aliyun lift the hours for the number"
_ADVICE = {
    "isv.AMOUNT_NOT_ENOUGH": "the account has no credit left; top it up",
    "isv.OUT_OF_SERVICE": "the account is suspended, mostly for want of credit; top it up",
    "isv.ACCOUNT_ABNORMAL": "the account is not in order; look into Aliyun's console",
    "isv.DAY_LIMIT_CONTROL": "the day's limit of the console is reached; raise it there",
    "isv.MONTH_LIMIT_CONTROL": "the month's limit of the console is reached; raise it there",
    "isp.RAM_PERMISSION_DENY": "the RAM user may not do this; give it the policy of the service",
    "isv.PRODUCT_UN_SUBSCRIPT": "the service is not activated for this account",
    "isv.PRODUCT_UNSUBSCRIBE": "the service is not activated for this account",
    "isv.SMS_TEMPLATE_ILLEGAL": "no approved template has this template_code",
    "isv.TTS_TEMPLATE_ILLEGAL": "no approved template has this template_code",
    "isv.TEMPLATE_ILLEGAL": "no approved template has this template_code",
    "isv.SMS_SIGNATURE_ILLEGAL": "no approved signature is called sign_name",
    "isv.TEMPLATE_MISSING_PARAMETERS": "params lacks a variable of the template",
    "isv.TEMPLATE_PARAMS_ILLEGAL": "the template refuses the value of a variable",
    "isv.INVALID_JSON_PARAM": "the template refuses the value of a variable",
    "isv.PARAM_LENGTH_LIMIT": "a variable is too long; set max_length",
    "isv.PARAM_NOT_SUPPORT_URL": "a variable holds what looks like a link",
    "isv.BLACK_KEY_CONTROL_LIMIT": "a variable holds a word that Aliyun does not send",
    "isv.DENY_IP_RANGE": "Aliyun does not serve this machine's address",
    "isv.DISPLAY_NUMBER_ILLEGAL": "show_number is no number of this account",
    "isv.VOICE_CALL_PERIOD_ERROR": _HOURS,
    "isv.VOICE_ROBOT_NOT_PERIOD": _HOURS,
    "InvalidAccessKeyId.NotFound": "no AccessKey has this access_key_id",
    "InvalidAccessKeyId.Inactive": "the AccessKey is switched off",
    "SignatureDoesNotMatch": "the signature is refused; correct access_key_secret_file",
}
_NO_NUMBER = "isv.MOBILE_NUMBER_ILLEGAL"


def _checked_params(params: Mapping[str, Field]) -> Mapping[str, Field]:
    for name in params:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a variable; write params as {{what: what}}")
    return params


def _checked_numbers(numbers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(phone_number(number) for number in numbers)


class AliyunSettings(HttpSettings):
    """`params` says which of our fields each variable of the approved template gets."""

    access_key_id: str
    access_key_secret: RefusedKey = None
    access_key_secret_file: FilePath | None = None
    access_key_secret_env: str | None = None
    template_code: str
    params: Annotated[Mapping[str, Field], AfterValidator(_checked_params)] = {}
    to: Annotated[Words, AfterValidator(_checked_numbers)] = ()

    @model_validator(mode="after")
    def _one_secret(self) -> "AliyunSettings":
        if (self.access_key_secret_file is None) == (self.access_key_secret_env is None):
            text = "give exactly one of access_key_secret_file and access_key_secret_env"
            raise ValueError(text)
        return self


class AliyunService(HttpChannel):
    """One API of Aliyun's, with one key. `nonce` makes what no request has twice."""

    at_once = 4
    action = ""

    def __init__(
        self,
        name: str,
        settings: AliyunSettings,
        api_url: str,
        deps: ChannelDeps,
        nonce: Callable[[], str] = lambda: random_source.token_hex(16),
    ) -> None:
        secret = deps.vault.secret(settings.access_key_secret_file, settings.access_key_secret_env)
        self._key = (settings.access_key_id, secret.value if secret else "")
        self._api_url, self._nonce = api_url, nonce
        self._to, self._templates = settings.to, deps.templates
        self._phones = deps.phones
        super().__init__(name, settings, f"{api_url.rstrip('/')}/", (self._key[1],))

    def _numbers(self, notification: Notification) -> tuple[str, ...]:
        """Of the contact that the message is for, else those of the receiver."""
        if not notification.contact:
            return self._to
        phone = self._phones.get(notification.contact, "")
        return (phone,) if phone else ()

    async def _call(
        self,
        query: Mapping[str, str],
        numbers: tuple[str, ...],
        now_ms: int,
        transcript: list[str] | None,
    ) -> Outcome:
        hidden = [part for number in numbers for part in (number, local_number(number))]
        if rehearsed(lambda: self._shown(query), hidden):
            return Delivered(detail="rehearsed")
        request = signed_call(
            self._api_url, self.action, VERSION, query, self._key, now_ms, self._nonce()
        )

        def read(answer: HttpAnswer, at_ms: int) -> Outcome:
            return read_aliyun(answer, at_ms, single=len(numbers) == 1)

        return await self._http.send(request, now_ms, transcript, read, hidden)

    def _shown(self, query: Mapping[str, str]) -> Rehearsed:
        """The parameters, which go in the URL."""
        text = json.dumps(query, indent=2, ensure_ascii=False)
        return Rehearsed(f"POST {self._http.address} {self.action}", text)


def no_number(notification: Notification, to: tuple[str, ...]) -> Permanent:
    """Nobody to write to: a contact without a phone, or a receiver without `to`."""
    whom = f"contact {notification.contact} has no phone" if notification.contact else "no `to`"
    return Permanent(f"{whom}; set one in the configuration", final=not to)


def local_number(number: str) -> str:
    """Without +86 for the mainland, with the country's number and no + for others."""
    return number.removeprefix("+86") if number.startswith("+86") else number.removeprefix("+")


def sms_value(text: str) -> str:
    """A value as a template of SMS takes it: nothing that is a link, none of the brackets of
    signatures."""
    kept = _BRACKETS.sub(" ", _LINK.sub(" ", text))
    plain = "".join(char if char.isprintable() and ord(char) < 0x10000 else " " for char in kept)
    return " ".join(plain.split()) or _NONE


def spoken_value(text: str) -> str:
    """A value as a voice says it: nothing that is no word."""
    return " ".join(_UNSPOKEN.sub(" ", sms_value(text)).split()) or _NONE


def template_values(
    fields: Mapping[str, str],
    params: Mapping[str, Field],
    value: Callable[[str], str],
    most_each: int,
    most: int,
) -> dict[str, str]:
    """The variables, each at most `most_each` long and all together `most`: the longest gives way
    first, so that the severity and the number of the incident stay."""
    values = {name: cut(value(fields[field]), most_each) for name, field in params.items()}
    while values and (over := sum(map(len, values.values())) - most) > 0:
        name = max(values, key=lambda one: len(values[one]))
        values[name] = cut(values[name], max(1, len(values[name]) - over))
        if len(values[name]) <= 1:
            break
    return values


def read_aliyun(answer: HttpAnswer, now_ms: int, *, single: bool) -> Outcome:
    """`Code` says it: OK is that Aliyun took the message, not that it arrived."""
    body: Mapping[str, Any] = answer.json() or {}
    code, said = str(body.get("Code", "")), str(body.get("Message", ""))[:160]
    if not code:
        by_status = answer.outcome(now_ms)
        if isinstance(by_status, Delivered):
            if answer.json() is None:  # half of one, or a page of somebody between us
                return RetryAt(f"HTTP {answer.status}, no answer of Aliyun: {answer.text[:80]}")
            return Permanent(f"HTTP {answer.status} without a Code: correct api_url")
        return by_status
    if code == "OK":
        reference = str(body.get("BizId") or body.get("CallId") or "")
        return Delivered(reference, f"taken by Aliyun, request {body.get('RequestId', '')}")
    error = f"{code}: {said}"
    if code == "isv.BUSINESS_LIMIT_CONTROL":
        wait_ms = _MINUTE_MS if "分钟" in said or "minute" in said.lower() else _HOUR_MS
        return RetryAt(f"too many to one number: {error}", now_ms + wait_ms)
    if code.startswith(_LATER) or answer.status >= 500 or answer.status == 429:
        return RetryAt(error, answer.not_before(now_ms))
    if code == _NO_NUMBER:
        return Permanent(f"no such number: {error}", final=single)
    advice = _ADVICE.get(code, "")
    if code.startswith(("InvalidTimeStamp", "Signature")):
        advice = skew_words(answer, now_ms) or advice or "set this machine's clock"
    return Permanent(f"{advice}: {error}" if advice else error)
