"""A workflow of Microsoft Teams."""

from support.channel_contract import ChannelContract, answered, statuses
from support.vendors.teams import TEAMS_PATH, TEAMS_SIGNATURE, TeamsDouble, card_text
from support.webhook_sink import Answer

CONTRACT = ChannelContract(
    kind="teams",
    section=lambda _: {"url_env": "TEAMS_URL", "timeout": "5s"},
    address_env=lambda address: {"TEAMS_URL": f"{address}{TEAMS_PATH}?sig={TEAMS_SIGNATURE}"},
    secrets=frozenset({TEAMS_SIGNATURE}),
    double=TeamsDouble,
    heard=lambda double: card_text(double.cards[-1]),
    answers={
        "HTTP 202": statuses(202),
        "HTTP 200, `failed` and 429 in the body": answered(
            Answer(200, {}, b"delivery failed with HTTP error 429")
        ),
        "HTTP 200, `failed` in the body": answered(
            Answer(200, {}, b"delivery failed with HTTP error 413")
        ),
        "HTTP 200 with a page (HTML)": statuses(200, body="<!DOCTYPE html>log in"),
        "HTTP 400, 401, 403, 404": statuses(400, 401, 403, 404),
    },
)
