"""Aliyun's SMS and voice: V3 signatures as document 2593177 says, fields as 55284 and 393519 say.

The signature is checked from the request as it arrived: its parameters parsed and written again.
"""

import hashlib
import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

from support.vendors.double import answer_json, hmac_sha256
from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

ALIYUN_ID, ALIYUN_SECRET = "LTAI5tTocsinTest", "aliyun-secret-of-ours"
_SMS = {"PhoneNumbers", "SignName", "TemplateCode", "TemplateParam"}
_VOICE = {"CalledNumber", "TtsCode"}


class AliyunApi(JudgingSink):
    """`variables` are those of the one approved template, each at most `most_each` long in an SMS;
    `taken` are the parameters of what it took."""

    def __init__(self, now_ms: int, variables: tuple[str, ...], most_each: int = 35) -> None:
        super().__init__()
        self._now_s, self._variables = now_ms // 1000, variables
        self._most_each = most_each
        self._nonces: set[str] = set()
        self.taken: list[dict[str, str]] = []

    @property
    def api_url(self) -> str:
        return f"http://localhost:{self.port}"

    def judge(self, request: Received) -> Answer:
        query = dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))
        if wrong := self._unsigned(request, query):
            return _error(wrong, 400)
        action = request.headers.get("x-acs-action", "")
        if request.headers.get("x-acs-version") != "2017-05-25":
            return _error("InvalidVersion", 400)
        if action == "SendSms" and query.keys() >= _SMS:
            numbers, given = query["PhoneNumbers"].split(","), query["TemplateParam"]
            most_each, most = self._most_each, 450
        elif action == "SingleCallByTts" and query.keys() >= _VOICE:
            numbers, given = [query["CalledNumber"]], query.get("TtsParam", "{}")
            most_each = most = 249
            if not 1 <= len(query.get("OutId", "1").encode()) <= 15:
                return _error("isv.INVALID_PARAMETERS", 200)
        else:
            return _error("InvalidAction.NotFound", 404)
        if not all(re.fullmatch(r"[0-9]{8,15}", number) for number in numbers):
            return _error("isv.MOBILE_NUMBER_ILLEGAL", 200)
        if wrong := self._wrong_values(json.loads(given), most_each, most):
            return _error(wrong, 200)
        self.taken.append(query)
        body = {"Code": "OK", "Message": "OK", "RequestId": "D9CB3933-9FE3-4870"}
        return answer_json({**body, "BizId" if action == "SendSms" else "CallId": "134523^4351"})

    def _wrong_values(self, values: dict[str, Any], most_each: int, most: int) -> str:
        if set(values) != set(self._variables) or not all(values.values()):
            return "isv.TEMPLATE_MISSING_PARAMETERS"
        if not all(isinstance(value, str) for value in values.values()):
            return "isv.INVALID_JSON_PARAM"
        if any(len(value) > most_each for value in values.values()):
            return "isv.PARAM_LENGTH_LIMIT"
        if sum(map(len, values.values())) > most:
            return "isv.PARAM_LENGTH_LIMIT"
        if any(re.search("://|www[.]|【", value) for value in values.values()):
            return "isv.PARAM_NOT_SUPPORT_URL"
        return ""

    def _unsigned(self, request: Received, query: dict[str, str]) -> str:
        pattern = (
            r"ACS3-HMAC-SHA256 Credential=(\S+?),SignedHeaders=(\S+?),Signature=([0-9a-f]{64})"
        )
        match = re.fullmatch(pattern, request.headers.get("authorization", ""))
        if match is None:
            return "MissingAuthorization"
        if match[1] != ALIYUN_ID:
            return "InvalidAccessKeyId.NotFound"
        names = match[2].split(";")
        wanted = {name for name in request.headers if name.startswith("x-acs-") or name == "host"}
        if names != sorted(names) or not wanted <= set(names):
            return "IncompleteSignature"
        at = datetime.strptime(request.headers["x-acs-date"], "%Y-%m-%dT%H:%M:%S%z")
        if abs(at.timestamp() - self._now_s) > 900:
            return "InvalidTimeStamp.Expired"
        if request.headers["x-acs-content-sha256"] != hashlib.sha256(request.body).hexdigest():
            return "SignatureDoesNotMatch"
        nonce = request.headers["x-acs-signature-nonce"]
        if nonce in self._nonces:
            return "SignatureNonceUsed"
        self._nonces.add(nonce)
        return "" if match[3] == _signature(request, query, names) else "SignatureDoesNotMatch"


def _signature(request: Received, query: dict[str, str], names: list[str]) -> str:
    def written(text: str) -> str:
        return quote_plus(text).replace("+", "%20").replace("*", "%2A").replace("%7E", "~")

    parameters = "&".join(f"{written(name)}={written(query[name])}" for name in sorted(query))
    canonical = f"{request.method}\n{urlsplit(request.path).path}\n{parameters}\n"
    for name in names:
        canonical += f"{name}:{request.headers[name]}\n"
    canonical += f"\n{';'.join(names)}\n{hashlib.sha256(request.body).hexdigest()}"
    to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    return hmac_sha256(ALIYUN_SECRET.encode(), to_sign.encode()).hex()


def _error(code: str, status: int) -> Answer:
    return answer_json({"Code": code, "Message": f"{code} said", "RequestId": "r"}, status)
