"""bark-server 2, as its route_push.go and apns.go behave, and Apple behind it."""

import base64
import json
from typing import Any

from support.vendors.double import answer_json
from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

BARK_KEY = "ynJ5Ft4atkMkWeo2PAvFhF"
_LEVELS = {"critical", "active", "timeSensitive", "passive"}
_FOLLOWED_BY_GO = "<>&\u2028\u2029"  # its encoder writes these as six characters


class BarkServer(JudgingSink):
    """`pushed` is what phones got."""

    def __init__(self, user: str = "", password: str = "") -> None:
        super().__init__()
        self._auth = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self.pushed: list[dict[str, Any]] = []

    @property
    def api_url(self) -> str:
        return f"http://localhost:{self.port}"

    def judge(self, request: Received) -> Answer:
        if self._auth and request.headers.get("authorization") != f"Basic {self._auth}":
            return Answer(418, {}, b"I'm a teapot")
        if request.path != "/push":
            return _code(404, "Cannot POST")
        body = json.loads(request.body)
        if body.pop("device_key", "") != BARK_KEY:
            return _code(400, "failed to get device token: failed to get [x] device token")
        texts = {name: value for name, value in body.items() if name != "badge"}
        if not all(isinstance(value, str) and value for value in texts.values()):
            return Answer(500, {}, b"interface conversion: interface {} is not string")
        if body.get("level") not in _LEVELS or not 0 <= int(body.get("volume", 5)) <= 10:
            return _code(400, "no such level")
        if self._payload_size(body) > 4096:
            return _code(500, "push failed: PayloadTooLarge")
        self.pushed.append(body)
        return _code(200, "success")

    def _payload_size(self, body: dict[str, Any]) -> int:
        """Of what goes to Apple: the alert, and each other field by its name in lower case."""
        alert = {name: body.get(name, "") for name in ("title", "subtitle", "body")}
        aps: dict[str, Any] = {"alert": alert, "sound": f"{body.get('sound', '1107')}.caf"}
        aps |= {"mutable-content": 1, "category": "myNotificationCategory"}
        aps["thread-id"] = body.get("group", "")
        rest = {name.lower(): str(value) for name, value in body.items() if name not in alert}
        text = json.dumps({"aps": aps, **rest}, ensure_ascii=False)
        return len(text.encode()) + 5 * sum(text.count(char) for char in _FOLLOWED_BY_GO)


def _code(code: int, text: str) -> Answer:
    return answer_json({"code": code, "message": text, "timestamp": 1767225600}, code)
