"""A group robot of DingTalk, as open.dingtalk.com describes it, with its security settings."""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.vendors.double import answer_json, hmac_sha256
from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

DINGTALK_TOKEN = "566cc69da782ec33a0b1d2c3e4f5"
DINGTALK_SECRET = "SEC0123456789abcdef0123456789abcdef"


class DingtalkRobot(JudgingSink):
    """`now_ms` is its clock. A number is mentioned where the list has it and the text, too."""

    def __init__(self, now_ms: int = 0, secret: str = DINGTALK_SECRET, keyword: str = "") -> None:
        super().__init__()
        self.now_ms, self._secret, self._keyword = now_ms, secret, keyword
        self.messages: list[dict[str, Any]] = []
        self.mentioned: list[str] = []
        self.links: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/robot/send?access_token={DINGTALK_TOKEN}"

    def judge(self, request: Received) -> Answer:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path != "/robot/send" or query.get("access_token") != DINGTALK_TOKEN:
            return _refused(400101, "token is not exist")
        if self.recent(request, 60) >= 20:
            body = {"status": 1111, "wait": 5, "source": "x5", "punish": "deny"}
            text = "send too fast, exceed 20 times per minute"
            return answer_json({**body, "errcode": 130101, "errmsg": text})
        if self._secret:
            if abs(int(query.get("timestamp", 0)) - self.now_ms) > 3_600_000:
                return _refused(310000, "invalid timestamp")
            signed = f"{query['timestamp']}\n{self._secret}".encode()
            right = base64.b64encode(hmac_sha256(self._secret.encode(), signed)).decode()
            if query.get("sign") != right:
                return _refused(310000, "sign not match")
        body = json.loads(request.body.decode("utf-8"))
        if self._keyword and self._keyword not in request.body.decode():
            return _refused(310000, "keywords not in content")
        return self._take(body)

    def _take(self, body: dict[str, Any]) -> Answer:
        kind = body.get("msgtype")
        message = body.get(str(kind), {})
        if kind == "actionCard":
            needed = {"title": 64, "text": 5000, "singleTitle": 20, "singleURL": 500}
        elif kind == "markdown":
            needed = {"title": 64, "text": 5000}
        else:
            return _refused(400105, "unsupported message type")
        if set(message) != set(needed) or not all(message.values()):
            return _refused(40035, "invalid parameter")
        if any(len(message[name]) > most for name, most in needed.items()):
            return _refused(34016, "too long")
        at = body.get("at", {})
        self.mentioned += ["@all"] if at.get("isAtAll") else []
        listed = [*at.get("atMobiles", []), *at.get("atUserIds", [])]
        if kind == "markdown":
            self.mentioned += [one for one in listed if f"@{one}" in message["text"]]
        self.links += re.findall(r"\[([^\]]*)\]\(([^)]*)\)", message["text"])
        if kind == "actionCard":
            self.links.append((message["singleTitle"], message["singleURL"]))
        self.messages.append(body)
        return answer_json({"errcode": 0, "errmsg": "ok"})


def _refused(code: int, text: str) -> Answer:
    return answer_json(
        {"errcode": code, "errmsg": f"{text}, more: [https://ding-doc.dingtalk.com]"}
    )
