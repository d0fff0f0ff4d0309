"""Discord's webhooks as discord/discord-api-docs describes them: developers/resources/webhook.mdx
(execute, edit), message.mdx (embed limits, allowed mentions), topics/rate-limits."""

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

DISCORD_PATH = "/api/webhooks/1234567890/tokenOfOurs-123"
_MENTIONS = re.compile(r"@everyone|@here|<@&?[0-9]+>")
_PARTS = {"title": 256, "description": 4096}


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class DiscordDouble(JudgingSink):
    """`messages` are those in the room by their number, as they stand now; `called` is who got a
    notification."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.messages: dict[str, dict[str, Any]] = {}
        self.called: list[str] = []

    @property
    def hook_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{DISCORD_PATH}"

    def judge(self, request: Received) -> Answer:
        parts = urlsplit(request.path)
        if not parts.path.startswith(DISCORD_PATH):
            return self._refused(404, 10015, "Unknown Webhook")
        message = request.json()
        if fault := _fault(message):
            return self._refused(400, 50035, fault)
        rest = parts.path.removeprefix(DISCORD_PATH)
        if request.method == "PATCH":
            number = rest.removeprefix("/messages/")
            if number not in self.messages:
                return self._refused(404, 10008, "Unknown Message")
        else:
            if parse_qs(parts.query).get("wait") != ["true"]:
                return Answer(204)
            number = str(9000 + len(self.messages))
            self.called += _called(message)
        self.messages[number] = message
        body = json.dumps({"id": number, "type": 0, **message}).encode()
        return Answer(200, {"Content-Type": "application/json"}, body)

    def _refused(self, status: int, code: int, text: str) -> Answer:
        self.complaints.append(text)
        body = json.dumps({"message": text, "code": code}).encode()
        return Answer(status, {"Content-Type": "application/json"}, body)


def _fault(message: dict[str, Any]) -> str:
    if not message.get("content") and not message.get("embeds"):
        return "Cannot send an empty message"
    if _units(message.get("content", "")) > 2000:
        return "content: Must be 2000 or fewer in length."
    if len(message.get("embeds", ())) > 10:
        return "embeds: Must be 10 or fewer in length."
    total = 0
    for embed in message.get("embeds", ()):
        if not 0 <= embed.get("color", 0) <= 0xFFFFFF or len(embed.get("fields", ())) > 25:
            return "embeds: Invalid"
        for part, most in _PARTS.items():
            total += _units(embed.get(part, ""))
            if _units(embed.get(part, "")) > most:
                return f"{part}: Must be {most} or fewer in length."
    allowed = message.get("allowed_mentions", {})
    if set(allowed.get("parse", ())) - {"everyone", "users", "roles"}:
        return "allowed_mentions: Invalid"
    return "embeds: more than 6000 characters" if total > 6000 else ""


def _called(message: dict[str, Any]) -> list[str]:
    """Only what stands in the content calls, and only if it is allowed; without the key, all of it
    is."""
    allowed = message.get("allowed_mentions", {"parse": ["everyone", "users", "roles"]})
    parse, ids = allowed.get("parse", ()), {*allowed.get("users", ()), *allowed.get("roles", ())}
    found = []
    for mention in _MENTIONS.findall(message.get("content", "")):
        number = mention.strip("<@&>")
        kind = "roles" if mention.startswith("<@&") else "users"
        if mention.startswith("@"):
            found += [mention] if "everyone" in parse else []
        elif number in ids or kind in parse:
            found.append(mention)
    return found
