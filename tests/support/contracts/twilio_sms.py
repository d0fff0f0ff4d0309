"""Twilio's SMS: one text of some segments, followed until the carrier has it."""

import base64
from collections.abc import Mapping
from typing import Any

from support.broken_server import silence
from support.channel_contract import (
    Case,
    ChannelContract,
    answered,
    behaving,
    no_name,
    no_tls,
    nobody_there,
    send_once,
    statuses,
    untrusted,
)
from support.vendors.twilio import ACCOUNT, AUTH_TOKEN, CALLER, TwilioDouble
from support.webhook_sink import Answer

BASIC = base64.b64encode(f"{ACCOUNT}:{AUTH_TOKEN}".encode()).decode()
NUMBER = "+8613800000123"


def twilio_section(address: str) -> Mapping[str, Any]:
    return {
        "account_sid": ACCOUNT,
        "auth_token_env": "TOKEN",
        "from": CALLER,
        "to": [NUMBER],
        "api_url": address,
        "timeout": "500ms",
        "poll": "1ms",
    }


def codes(*numbers: int, status: int = 400) -> Case:
    """Errors by their number in Twilio's table."""
    bodies = (f'{{"code": {number}, "message": "no", "status": {status}}}' for number in numbers)
    return answered(*(Answer(status, {}, body.encode()) for body in bodies))


def through(*course: str | dict[str, Any], **more: Any) -> Case:
    """What Twilio takes and has go through these states."""

    async def case(contract: ChannelContract, _: object) -> list[Any]:
        async with TwilioDouble(*course) as twilio:
            return [await send_once(contract.build(twilio.api_url, **more))]

    return case


def lost(*numbers: int) -> Case:
    async def case(contract: ChannelContract, _: object) -> list[Any]:
        return [
            outcome
            for number in numbers
            for outcome in await through({"status": "undelivered", "error_code": number})(
                contract,
                None,  # type: ignore[arg-type]
            )
        ]

    return case


COMMON: Mapping[str, Case] = {
    "20003, wrong token, and other errors": codes(20003, 21606, 21408, status=401),
    "20429, 14107, too many": codes(20429, 14107, status=429),
    "21211, 21614, no such number": codes(21211, 21614),
    "HTTP 500 to 599": statuses(500, 503),
    "HTTP 200 to 299 without a sid": statuses(200, 201, body="{}"),
    "HTTP 300 to 499 without a code": statuses(301, 400, 401, 404),
    "no response in time": behaving(silence),
    "connection refused or broken": nobody_there,
    "name not found": no_name,
    "a certificate that is not trusted": untrusted,
    "TLS that fails otherwise": no_tls,
}

CONTRACT = ChannelContract(
    kind="twilio_sms",
    section=lambda address: {**twilio_section(address), "max_segments": 10},
    env={"TOKEN": AUTH_TOKEN},
    secrets=frozenset({BASIC, NUMBER}),
    double=lambda: TwilioDouble("sent"),
    heard=lambda twilio: twilio.made[-1]["Body"].replace("...", "…"),
    answers={
        "state `sent` or `delivered`": through("queued", "sending", "sent"),
        "state still `queued` after `patience`": through("queued", patience="1ms"),
        "21610, unsubscribed": codes(21610),
        "state `undelivered`, 30003, 30008, out of reach": lost(30003, 30008),
        "state `undelivered`, 30004, 30007, blocked": lost(30004, 30007),
        "state `undelivered`, 30005, 30006, no such telephone": lost(30005, 30006),
        **COMMON,
    },
)
