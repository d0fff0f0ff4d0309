"""Matrix: a person reads the formatted text in a room; who has no HTML reads the other one."""

from collections.abc import Mapping
from typing import Any

from support.broken_server import silence
from support.channel_contract import ChannelContract, answered, behaving, nobody_there, statuses
from support.vendors.matrix import MATRIX_ROOM, MATRIX_TOKEN, Homeserver, MatrixPage
from support.webhook_sink import Answer


def _section(address: str) -> Mapping[str, Any]:
    return {"url": address, "room": MATRIX_ROOM, "token_env": "TOKEN", "timeout": "500ms"}


def _heard(server: Homeserver) -> str:
    event = server.events[-1]
    page = MatrixPage(event["formatted_body"])
    return "\n".join([page.text, *page.links, event["body"]])


def _says(status: int, code: str, more: str = "") -> Answer:
    return Answer(status, {}, f'{{"errcode": "{code}", "error": "no"{more}}}'.encode())


CONTRACT = ChannelContract(
    kind="matrix",
    section=_section,
    env={"TOKEN": MATRIX_TOKEN},
    double=Homeserver,
    heard=_heard,
    mentioned=lambda server: server.called,
    identity=lambda server: [one.path for one in server.requests],
    answers={
        "200 with an `event_id`": answered(Answer(200, {}, b'{"event_id": "$1:example.com"}')),
        "200 that is not from a homeserver": statuses(200, body="<html>welcome</html>"),
        "`M_LIMIT_EXCEEDED`, or 429": answered(
            _says(429, "M_LIMIT_EXCEEDED", ', "retry_after_ms": 2000'), Answer(429)
        ),
        "`M_RESOURCE_LIMIT_EXCEEDED`": answered(_says(403, "M_RESOURCE_LIMIT_EXCEEDED")),
        "`M_UNKNOWN_TOKEN`, `M_USER_DEACTIVATED`: the token is of no use": answered(
            _says(401, "M_UNKNOWN_TOKEN"), _says(403, "M_USER_DEACTIVATED")
        ),
        "`M_FORBIDDEN`: not in the room": answered(_says(403, "M_FORBIDDEN")),
        "`M_TOO_LARGE`, `M_BAD_JSON`, `M_UNRECOGNIZED` and other 4xx": answered(
            _says(413, "M_TOO_LARGE"), _says(400, "M_BAD_JSON"), _says(404, "M_UNRECOGNIZED")
        ),
        "500 to 599": statuses(500, 502, 503),
        "no response in time": behaving(silence),
        "connection refused or broken": nobody_there,
    },
)
