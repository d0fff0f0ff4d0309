"""Slack as an app; its incoming webhook in the rows of the table that are about one."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from support.authority import Authority
from support.channel_contract import Case, ChannelContract, answered, statuses
from support.vendors.slack import APP_TOKEN, BOT_TOKEN, HOOK_PATH, SlackDouble, called, shown_text
from support.webhook_sink import Answer
from tocsin_alerting.incidents.outbox_message import Outcome

HOOK_KEY = HOOK_PATH.rpartition("/")[2]


def _section(address: str) -> Mapping[str, Any]:
    return {
        "api_url": f"{address}/api",
        "token_env": "SLACK_TOKEN",
        "channel": "alerts",
        "app_token_env": "SLACK_APP",
        "anyone": True,
        "timeout": "5s",
    }


def _heard(double: SlackDouble) -> str:
    return shown_text(list(double.messages.values())[-1])


def _mentioned(double: SlackDouble) -> list[str]:
    return [name for message in double.messages.values() for name in called(message)]


def _identity(double: SlackDouble) -> list[str]:
    return [one.json()["metadata"]["event_payload"]["key"] for one in double.requests]


def _errors(*codes: str) -> Case:
    return answered(
        *(Answer(200, {}, json.dumps({"ok": False, "error": code}).encode()) for code in codes)
    )


def _by_webhook(case: Case) -> Case:
    async def asked(contract: ChannelContract, authority: Authority) -> list[Outcome]:
        hook = replace(
            contract,
            section=lambda _: {"url_env": "SLACK_URL"},
            address_env=lambda address: {"SLACK_URL": address + HOOK_PATH},
        )
        return await case(hook, authority)

    return asked


CONTRACT = ChannelContract(
    kind="slack",
    section=_section,
    double=SlackDouble,
    heard=_heard,
    mentioned=_mentioned,
    identity=_identity,
    env={"SLACK_TOKEN": BOT_TOKEN, "SLACK_APP": APP_TOKEN},
    answers={
        '`"ok": true`': answered(Answer(200, {}, b'{"ok": true, "channel": "C1", "ts": "1.5"}')),
        '`"ok": false` and `ratelimited`, `fatal_error`, `internal_error` or another one': (
            _errors("ratelimited", "fatal_error", "internal_error", "of_tomorrow")
        ),
        '`"ok": false` and `invalid_auth`, `channel_not_found`, `not_in_channel`, `is_archived` or '
        "`msg_too_long`": _errors(
            "invalid_auth", "channel_not_found", "not_in_channel", "is_archived", "msg_too_long"
        ),
        "HTTP 429, or 201 to 299": statuses(429, 202, body="ok"),
        "a webhook's `ok`": _by_webhook(answered(Answer(200, {}, b"ok"))),
        "a webhook's `invalid_payload`, `action_prohibited`, `no_service` (400, 403, 404)": (
            _by_webhook(statuses(400, 403, 404))
        ),
        "a webhook's `channel_is_archived` (410)": _by_webhook(
            statuses(410, body="channel_is_archived")
        ),
    },
)
