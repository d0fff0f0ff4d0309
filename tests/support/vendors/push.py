"""PagerDuty, ntfy, Pushover and Gotify, each as its documents describe it: a receiver that takes
what they allow, refuses what they forbid, and says so in `complaints`."""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.vendors.judging import JudgingSink, as_json
from support.webhook_sink import Answer, Received

ROUTING_KEY = "0123456789abcdef0123456789abcdef"


class PagerDutyDouble(JudgingSink):
    """PagerDuty/developer-docs, docs/events-API-v2. `alerts` are the open ones by their key, with
    what was triggered; `log` is what was done to which, `dropped` what met no open alert."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.alerts: dict[str, dict[str, Any]] = {}
        self.acknowledged: set[str] = set()
        self.notified: list[str] = []
        self.log: list[str] = []
        self.dropped: list[str] = []

    def judge(self, request: Received) -> Answer:
        event = request.json()
        if request.path != "/v2/enqueue" or request.method != "POST":
            return self.complain(404, {}, "no such path")
        if fault := self._fault(request, event):
            body = {"status": "invalid event", "message": "Event object is invalid"}
            return self.complain(400, {**body, "errors": [fault]}, fault)
        key, action = event["dedup_key"], event["event_action"]
        self.log.append(action)
        self.taken.append(event)
        if action == "trigger":
            if key not in self.acknowledged:
                self.notified.append(key)
            self.alerts[key] = event
        elif key not in self.alerts:
            self.dropped.append(key)
        elif action == "acknowledge":
            self.acknowledged.add(key)
        else:
            del self.alerts[key]
            self.acknowledged.discard(key)
        done = {"status": "success", "message": "Event processed", "dedup_key": key}
        return as_json(202, done)

    def _fault(self, request: Received, event: Mapping[str, Any]) -> str:
        if len(request.body) > 512 * 1000:
            return "Payload is too large"
        if event.get("routing_key") != ROUTING_KEY:
            return "Invalid routing key"
        if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            return "event_action is invalid"
        if not 1 <= len(event.get("dedup_key", "")) <= 255:
            return "dedup_key is invalid"
        allowed = {"routing_key", "event_action", "dedup_key", "payload", "links", "images", "client", "client_url"}  # fmt: skip # noqa: E501
        if unknown := set(event) - allowed:
            return f"unknown: {unknown}"
        return _payload_fault(event) if event["event_action"] == "trigger" else ""


def _payload_fault(event: Mapping[str, Any]) -> str:
    payload = event.get("payload", {})
    if not payload.get("summary") or len(payload["summary"]) > 1024:
        return "'payload.summary' is missing, blank or too long"
    if not payload.get("source"):
        return "'payload.source' is missing or blank"
    if payload.get("severity") not in ("critical", "error", "warning", "info"):
        return "'payload.severity' is invalid"
    if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", payload.get("timestamp", "")):
        return "'payload.timestamp' is invalid"
    if any(not link.get("href") for link in event.get("links", ())):
        return "'links' is invalid"
    known = {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}  # fmt: skip # noqa: E501
    return f"unknown: {set(payload) - known}" if set(payload) - known else ""


NTFY_TOPIC, NTFY_TOKEN = "tocsin_Zk3r9_topic", "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"


class NtfyDouble(JudgingSink):
    """binwiederhier/ntfy, docs/publish.md, server/server.go (`transformBodyJSON`) and
    server/actions.go. `credential` is the header that it wants, "" for none."""

    def __init__(self, *answers: Answer, credential: str = "", port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.credential = credential

    @staticmethod
    def basic(user: str, password: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def judge(self, request: Received) -> Answer:
        if request.path != "/":
            return self._refused(404, 40401, "page not found")
        if self.credential and request.headers.get("authorization") != self.credential:
            return self._refused(403, 40301, "forbidden")
        if len(request.body) > 2 * 4096:
            return self._refused(413, 41303, "JSON body too large")
        message = request.json()
        if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", message.get("topic", "")):
            return self._refused(400, 40009, "invalid request: topic invalid")
        if message.get("priority") not in (1, 2, 3, 4, 5):
            return self._refused(400, 40007, "invalid priority parameter")
        if len(message.get("actions", ())) > 3 or any(
            map(_action_fault, message.get("actions", ()))
        ):
            return self._refused(400, 40018, "invalid request: actions invalid")
        if len(message.get("message", "").encode()) > 4096:
            return self._refused(200, 0, "it became an attachment")
        if any("," in tag for tag in message.get("tags", ())):
            return self._refused(400, 0, "a comma in a tag divides it")
        self.taken.append(message)
        number = f"msg{len(self.taken):09}"
        return as_json(
            200, {"id": number, "time": 1, "event": "message", "topic": message["topic"]}
        )

    def _refused(self, status: int, code: int, error: str) -> Answer:
        return self.complain(status, {"code": code, "http": status, "error": error}, error)


def _action_fault(action: Mapping[str, Any]) -> bool:
    known = {"action", "label", "url", "clear", "method", "headers", "body"}
    wrong = action.get("action") not in ("view", "http") or set(action) - known
    return bool(wrong) or not action.get("label") or not action.get("url")


PUSHOVER_TOKEN, PUSHOVER_USER = "azGDORePK8gMaC0QOYAMyEEuzJnyUi", "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"


class PushoverDouble(JudgingSink):
    """pushover.net/api and pushover.net/api/receipts. `receipts` are those of emergencies with
    their tags; `states` what is said of one, `polls` how often each was asked for."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.receipts: dict[str, str] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.polls: list[str] = []
        self.cancelled: list[str] = []

    def judge(self, request: Received) -> Answer:
        path, _, query = request.path.partition("?")
        if request.method == "GET" and path.startswith("/1/receipts/"):
            return self._receipt(path.removeprefix("/1/receipts/").removesuffix(".json"), query)
        fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if fields.pop("token", "") != PUSHOVER_TOKEN:
            return self._refused("application token is invalid")
        if path.startswith("/1/receipts/cancel_by_tag/"):
            tag = urlsplit(path).path.rpartition("/")[2].removesuffix(".json")
            self.cancelled.append(tag)
            return as_json(200, {"status": 1, "canceled": 1})
        if path != "/1/messages.json":
            return self._refused("no such path")
        if fault := _pushover_fault(fields):
            return self._refused(fault)
        self.taken.append(fields)
        said: dict[str, Any] = {"status": 1, "request": f"request-{len(self.taken)}"}
        if fields["priority"] == "2":
            receipt = f"{'r' * 29}{len(self.receipts)}"
            self.receipts[receipt] = fields.get("tags", "")
            said["receipt"] = receipt
        return as_json(200, said)

    def _receipt(self, receipt: str, query: str) -> Answer:
        if parse_qs(query).get("token") != [PUSHOVER_TOKEN]:
            return self._refused("application token is invalid")
        self.polls.append(receipt)
        if receipt not in self.receipts:
            return as_json(404, {"status": 0, "errors": ["receipt not found"]})
        state = {"status": 1, "acknowledged": 0, "expired": 0, "acknowledged_by_device": ""}
        return as_json(200, {**state, **self.states.get(receipt, {})})

    def _refused(self, error: str) -> Answer:
        return self.complain(400, {"status": 0, "errors": [error]}, error)


def _pushover_fault(fields: Mapping[str, str]) -> str:
    known = {"user", "title", "message", "priority", "timestamp", "url", "url_title", "device", "sound", "retry", "expire", "tags"}  # fmt: skip # noqa: E501
    if unknown := set(fields) - known:
        return f"unknown: {unknown}"
    if fields.get("user") != PUSHOVER_USER:
        return "user identifier is invalid"
    limits = {"message": 1024, "title": 250, "url": 512, "url_title": 100}
    for name, most in limits.items():
        if len(fields.get(name, "")) > most:
            return f"{name} is too long"
    if not fields.get("message") or fields.get("priority") not in ("-2", "-1", "0", "1", "2"):
        return "message cannot be blank, or the priority is invalid"
    if fields["priority"] == "2":
        if int(fields.get("retry", "0")) < 30 or not 0 < int(fields.get("expire", "0")) <= 10800:
            return "retry or expire is invalid"
    return ""


GOTIFY_TOKEN = "AWp0O.kSl3n-T0k"


class GotifyDouble(JudgingSink):
    """gotify/server, docs/spec.json, and gotify/website, docs/msgextras.md."""

    def judge(self, request: Received) -> Answer:
        if request.headers.get("x-gotify-key") != GOTIFY_TOKEN:
            return self._refused(401, "Unauthorized", "you need to provide a valid access token")
        message = request.json()
        if request.path != "/message" or not message.get("message"):
            return self._refused(400, "Bad Request", "Field 'message' is required")
        if not isinstance(message.get("priority"), int) or not 0 <= message["priority"] <= 10:
            return self._refused(400, "Bad Request", "priority")
        for key in message.get("extras", {}):
            if not re.fullmatch(r"[a-z]+::[a-z:]+", key):
                return self._refused(400, "Bad Request", f"extras: {key}")
        self.taken.append(message)
        return as_json(200, {"id": len(self.taken), "appid": 5, **message})

    def _refused(self, status: int, error: str, description: str) -> Answer:
        said = {"error": error, "errorCode": status, "errorDescription": description}
        return self.complain(status, said, description)
