"""A custom bot of Feishu, as open.feishu.cn describes it, strict as cards of schema 2.0 are."""

import base64
import json
import re
from typing import Any

from support.vendors.double import answer_json, hmac_sha256
from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

FEISHU_TOKEN = "b8f1c2d3-4e5f-6789-abcd-ef0123456789"
FEISHU_SECRET = "feishu-secret-of-ours"
_COLOURS = {
    *("blue", "wathet", "turquoise", "green", "yellow", "orange", "red", "carmine"),
    *("violet", "purple", "indigo", "grey", "default"),
}
_KEYS = {
    "div": {"tag", "text"},
    "markdown": {"tag", "content"},
    "button": {"tag", "type", "text", "behaviors"},
}


class FeishuBot(JudgingSink):
    """`now_s` is its clock. Only elements of Markdown mention anybody or hold links."""

    def __init__(self, now_s: int = 0, secret: str = FEISHU_SECRET, keyword: str = "") -> None:
        super().__init__()
        self.now_s, self._secret, self._keyword = now_s, secret, keyword
        self.cards: list[dict[str, Any]] = []
        self.mentioned: list[str] = []
        self.links: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/open-apis/bot/v2/hook/{FEISHU_TOKEN}"

    def judge(self, request: Received) -> Answer:
        if request.path != f"/open-apis/bot/v2/hook/{FEISHU_TOKEN}":
            return _no(19001, "param invalid: incoming webhook access token invalid")
        if self.recent(request, 1) >= 5 or self.recent(request, 60) >= 100:
            return _no(11232, "frequency limited psm[lark.oapi.app_platform_runtime]")
        if len(request.body) > 20_000:
            return _no(9499, "Bad Request")
        body = json.loads(request.body.decode("utf-8"))
        if self._secret and not self._is_signed(body):
            text = "sign match fail or timestamp is not within one hour from current time"
            return _no(19021, text)
        if self._keyword and self._keyword not in request.body.decode():
            return _no(19024, "Key Words Not Found")
        if body.get("msg_type") != "interactive" or (wrong := self._wrong(body["card"])):
            return _no(11246, f"unsupported: {wrong}")
        self.cards.append(body["card"])
        return answer_json({"code": 0, "data": {}, "msg": "success", "StatusCode": 0})

    def _is_signed(self, body: dict[str, Any]) -> bool:
        at = body.get("timestamp", "0")
        key = f"{at}\n{self._secret}".encode()
        right = base64.b64encode(hmac_sha256(key, b"")).decode()
        return abs(int(at) - self.now_s) <= 3600 and body.get("sign") == right

    def _wrong(self, card: dict[str, Any]) -> str:
        """What the schema does not know is an error in cards of version 2."""
        header = card.get("header", {})
        if set(card) != {"schema", "header", "body"} or card["schema"] != "2.0":
            return "card"
        if set(header) != {"title", "template"} or header["template"] not in _COLOURS:
            return "header"
        if not _is_plain(header["title"]) or set(card["body"]) != {"elements"}:
            return "title or body"
        return next(filter(None, map(self._wrong_element, card["body"]["elements"])), "")

    def _wrong_element(self, element: dict[str, Any]) -> str:
        tag = element["tag"]
        if set(element) != _KEYS.get(tag):
            return f"{tag}: {sorted(element)}"
        if tag in ("div", "button") and not _is_plain(element["text"]):
            return f"text of {tag}"
        if tag == "markdown":
            self.mentioned += re.findall(r"<at id=(\S+?)></at>", element["content"])
            self.links += re.findall(r"\[([^\]]*)\]\(([^)]*)\)", element["content"])
        if tag == "button":
            (behaviour,) = element["behaviors"]
            if behaviour["type"] != "open_url":  # a custom bot has nobody to call back
                return "behaviour"
            self.links.append((element["text"]["content"], behaviour["default_url"]))
        return ""


def _is_plain(text: dict[str, Any]) -> bool:
    return set(text) == {"tag", "content"} and text["tag"] == "plain_text" and bool(text["content"])


def _no(code: int, text: str) -> Answer:
    return answer_json({"code": code, "msg": text, "data": {}})
