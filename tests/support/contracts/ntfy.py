"""ntfy: a push message; who reads it sees the title, the text and the buttons."""

from support.channel_contract import ChannelContract, answered, statuses
from support.contracts.webhook import texts
from support.vendors.judging import as_json
from support.vendors.push import NTFY_TOKEN, NTFY_TOPIC, NtfyDouble

_QUOTA = {"code": 42908, "http": 429, "error": "limit reached: daily message quota reached"}

CONTRACT = ChannelContract(
    kind="ntfy",
    section=lambda address: {
        "url": address,
        "topic_env": "TOPIC",
        "token_env": "TOKEN",
        "timeout": "500ms",
    },
    env={"TOPIC": NTFY_TOPIC, "TOKEN": NTFY_TOKEN},
    double=NtfyDouble,
    heard=lambda server: "\n".join(texts(server.taken[-1])),
    answers={
        "200 with the message's `id`": answered(as_json(200, {"id": "x", "event": "message"})),
        "200 that is not from an ntfy server": statuses(200, body="<html>welcome</html>"),
        "400, 413: the message is wrong or too long": answered(
            as_json(400, {"code": 40009, "error": "topic invalid"}), as_json(413, {"code": 41303})
        ),
        "401, 403: not allowed to write there": answered(
            as_json(401, {"code": 40101}), as_json(403, {"code": 40301})
        ),
        "429: too many messages, or the day's are used up": answered(as_json(429, _QUOTA)),
        "500 to 599": answered(as_json(500, {"code": 50001}), as_json(507, {"code": 50701})),
    },
)
