"""A workflow of Microsoft Teams that posts the Adaptive Card it is sent, as the schema explorer of
Adaptive Cards (version 1.2) and MicrosoftDocs/msteams-docs describe it."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

TEAMS_PATH = "/workflows/0123456789abcdef/triggers/manual/paths/invoke"
TEAMS_SIGNATURE = "signatureOfTheFlow-123"
_FUNCTIONS = re.compile(r"\{\{(DATE|TIME)\(")
_STYLES = {
    "weight": {"Default", "Lighter", "Bolder"},
    "size": {"Default", "Small", "Medium", "Large", "ExtraLarge"},
    "color": {"Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"},
}


def card_of(message: dict[str, Any]) -> dict[str, Any]:
    card: dict[str, Any] = message["attachments"][0]["content"]
    return card


def runs_of(card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for element in card["body"]:
        yield from element.get("inlines", ())


def card_text(card: dict[str, Any]) -> str:
    """What a reader sees: a TextRun has no Markdown."""
    links = [f"{one['title']} {one['url']}" for one in card["actions"]]
    lines = ["".join(run["text"] for run in block["inlines"]) for block in card["body"]]
    return "\n".join([*lines, *links])


class TeamsDouble(JudgingSink):
    """`cards` are those that it posted."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.cards: list[dict[str, Any]] = []

    @property
    def hook_url(self) -> str:
        query = f"api-version=1&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={TEAMS_SIGNATURE}"
        return f"http://127.0.0.1:{self.port}{TEAMS_PATH}?{query}"

    def judge(self, request: Received) -> Answer:
        parts = urlsplit(request.path)
        if parse_qs(parts.query).get("sig") != [TEAMS_SIGNATURE]:
            return self._refused(401, "DirectApiAuthorizationRequired")
        if len(request.body) > 28 * 1024:
            return self._refused(413, "RequestEntityTooLarge")
        message = request.json()
        if message.get("type") != "message" or len(message.get("attachments", ())) != 1:
            return self._refused(400, "TriggerInputSchemaMismatch")
        if fault := _fault(message["attachments"][0]):
            return self._refused(400, fault)
        self.cards.append(card_of(message))
        return Answer(202, {}, b"")

    def _refused(self, status: int, code: str) -> Answer:
        self.complaints.append(code)
        said = {"error": {"code": code, "message": f"{code}: see the flow's history"}}
        return Answer(status, {"Content-Type": "application/json"}, json.dumps(said).encode())


def _fault(attachment: dict[str, Any]) -> str:
    card = attachment["content"]
    if attachment["contentType"] != "application/vnd.microsoft.card.adaptive":
        return "contentType"
    if card["type"] != "AdaptiveCard" or card["version"] not in ("1.2", "1.3", "1.4"):
        return "version"
    if any(block["type"] != "RichTextBlock" or not block["inlines"] for block in card["body"]):
        return "body"
    for run in runs_of(card):
        if run["type"] != "TextRun" or not isinstance(run["text"], str):
            return "TextRun"
        if any(run.get(key, "Default") not in known for key, known in _STYLES.items()):
            return "style"
        if _FUNCTIONS.search(run["text"]):
            return "a date that nobody meant"
    if len(card["actions"]) > 6:
        return "actions"
    for action in card["actions"]:
        if action["type"] != "Action.OpenUrl" or not re.match(r"https?://", action["url"]):
            return "Action.OpenUrl"
    return ""
