"""PagerDuty: an alert, which changes with each event of the same key."""

from support.channel_contract import ChannelContract, answered, statuses
from support.contracts.webhook import texts
from support.vendors.judging import as_json
from support.vendors.push import ROUTING_KEY, PagerDutyDouble


def _heard(api: PagerDutyDouble) -> str:
    """The alert as its last trigger left it, and what was done to it."""
    last = api.taken[-1]
    mine = [event for event in api.taken if event["dedup_key"] == last["dedup_key"]]
    shown = next(event for event in reversed(mine) if event["event_action"] == "trigger")
    return "\n".join([*texts(shown), *texts(last)])


CONTRACT = ChannelContract(
    kind="pagerduty",
    section=lambda address: {"routing_key_env": "KEY", "api_url": address, "timeout": "500ms"},
    env={"KEY": ROUTING_KEY},
    double=PagerDutyDouble,
    heard=_heard,
    answers={
        "202 `success`": answered(as_json(202, {"status": "success", "dedup_key": "x"})),
        "2xx that is not from PagerDuty": statuses(200, 202, body="<html>log in</html>"),
        "400: the event or the key is wrong": answered(
            as_json(400, {"status": "invalid event", "errors": ["Invalid routing key"]})
        ),
        "403 and other 4xx": statuses(401, 403, 404, 413),
        "429, after 30 s where it does not say when": statuses(429),
        "500 to 599": statuses(500, 502, 503),
    },
)
