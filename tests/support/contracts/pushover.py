"""Pushover: a push message; who reads it sees the title, the text and the link."""

from support.channel_contract import ChannelContract, answered, statuses
from support.vendors.judging import as_json
from support.vendors.push import PUSHOVER_TOKEN, PUSHOVER_USER, PushoverDouble

CONTRACT = ChannelContract(
    kind="pushover",
    section=lambda address: {
        "token_env": "TOKEN",
        "user_env": "USER",
        "api_url": address,
        "timeout": "500ms",
    },
    env={"TOKEN": PUSHOVER_TOKEN, "USER": PUSHOVER_USER},
    double=PushoverDouble,
    heard=lambda api: "\n".join(api.taken[-1].values()),
    answers={
        "200 with `status` 1": answered(as_json(200, {"status": 1, "request": "x"})),
        "200 with another `status`": answered(as_json(200, {"status": 0, "errors": ["no"]})),
        "200 that is not from Pushover": statuses(200, body="<html>log in</html>"),
        "4xx with `errors`": answered(
            as_json(400, {"status": 0, "errors": ["user identifier is invalid"]}),
            as_json(404, {"status": 0, "errors": ["no"]}),
        ),
        "429 with `errors`: the month's messages are used up": answered(
            as_json(429, {"status": 0, "errors": ["quota"]})
        ),
        "4xx of another server, as a proxy": statuses(403, 404),
        "500 to 599, after 5 s": statuses(500, 502, 503),
    },
)
