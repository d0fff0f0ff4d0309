"""Telegram: a person reads it, in "HTML style"."""

import json
from collections.abc import Mapping
from typing import Any

from support.broken_server import silence
from support.channel_contract import (
    ChannelContract,
    answered,
    behaving,
    no_name,
    nobody_there,
    statuses,
)
from support.vendors.telegram import BOT_TOKEN, GROUP, LI, BotApiDouble, ShownHtml, refused
from support.webhook_sink import Answer


def _section(address: str) -> Mapping[str, Any]:
    return {
        "token_env": "TOKEN",
        "chat_id": GROUP,
        "users": {LI: "li"},
        "api_url": address,
        "timeout": "500ms",
    }


def _heard(api: BotApiDouble) -> str:
    newest = api.messages[max(api.messages)]
    return "\n".join([newest["shown"], *ShownHtml(newest["text"]).links])


def _taken(number: int) -> Answer:
    result = {"message_id": number, "date": 1, "chat": {"id": GROUP, "type": "group"}}
    return Answer(200, {}, json.dumps({"ok": True, "result": result}).encode())


CONTRACT = ChannelContract(
    kind="telegram",
    section=_section,
    env={"TOKEN": BOT_TOKEN},
    double=BotApiDouble,
    heard=_heard,
    mentioned=lambda api: api.mentioned,
    answers={
        "`ok: true` with a `message_id`": answered(_taken(7)),
        "429, or any answer with `retry_after`": answered(
            refused(429, "Too Many Requests: retry after 5", retry_after=5)
        ),
        "500 to 599": answered(
            refused(500, "Internal Server Error"),
            Answer(502, {}, b"<html>"),
            Answer(503, {}, b'{"ok": false, "error_code": 400, "description": "upstream"}'),
        ),
        "200 that is not from the Bot API": statuses(200, body="<html>log in</html>"),
        "400 chat not found": answered(refused(400, "Bad Request: chat not found")),
        "400 otherwise": answered(refused(400, "Bad Request: message text is empty")),
        "401, 404: the token is wrong": answered(
            refused(401, "Unauthorized"), refused(404, "Not Found")
        ),
        "403: blocked, or not in the group": answered(
            refused(403, "Forbidden: bot was blocked by the user"),
            refused(403, "Forbidden: bot was kicked from the group chat"),
        ),
        "no response in time": behaving(silence),
        "connection refused or broken": nobody_there,
        "name not found": no_name,
    },
)
