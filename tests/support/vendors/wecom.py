"""A group robot of WeCom, as developer.work.weixin.qq.com/document/path/91770 describes it."""

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.vendors.double import answer_json
from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

WECOM_KEY = "693a91f6-7f0c-4bc4-97a0-0ec2sifa5aaa"
_LIMITS = {"text": 2048, "markdown": 4096}


class WecomRobot(JudgingSink):
    """`messages` were taken; `mentioned` are the users and phone numbers that they mention, `links`
    what can be clicked, `colours` what is coloured how."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.mentioned: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.colours: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/cgi-bin/webhook/send?key={WECOM_KEY}"

    def judge(self, request: Received) -> Answer:
        parts = urlsplit(request.path)
        if parts.path != "/cgi-bin/webhook/send" or parse_qs(parts.query)["key"] != [WECOM_KEY]:
            return _refusal(93000, "invalid webhook url")
        if self.recent(request, 60) >= 20:
            return _refusal(45009, "api freq out of limit")
        try:
            body = json.loads(request.body.decode("utf-8"))
        except ValueError:
            return _refusal(47001, "data format error")
        kind = body.get("msgtype")
        if kind not in _LIMITS or set(body) != {"msgtype", kind}:
            return _refusal(40008, "invalid message type")
        content = body[kind].get("content")
        if not isinstance(content, str) or not content:
            return _refusal(44004, "empty content")
        if len(content.encode()) > _LIMITS[kind]:
            return _refusal(40058, f"{kind}.content exceed max length {_LIMITS[kind]}")
        if kind == "markdown" and set(body[kind]) != {"content"}:
            return _refusal(40058, "markdown mentions nobody by a list")
        self._read(kind, body[kind])
        self.messages.append(body)
        return answer_json({"errcode": 0, "errmsg": "ok"})

    def _read(self, kind: str, message: dict[str, Any]) -> None:
        content = message["content"]
        self.mentioned += re.findall(r"<@([^>]+)>", content)
        self.mentioned += message.get("mentioned_list", [])
        self.mentioned += message.get("mentioned_mobile_list", [])
        if kind == "markdown":
            self.links += re.findall(r"\[([^\]]*)\]\(([^)]*)\)", content)
            self.colours += re.findall(r'<font color="(\w+)">(.*?)</font>', content, re.S)


def _refusal(code: int, text: str) -> Answer:
    hint = f"{text}, hint: [1620132870_51], from ip: 10.0.0.1, more info at https://open.work"
    return answer_json({"errcode": code, "errmsg": hint})
