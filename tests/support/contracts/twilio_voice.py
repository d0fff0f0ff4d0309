"""Twilio's calls: what is heard is in other words than what is written (`test_spoken.py`)."""

import re

from support.channel_contract import ChannelContract
from support.contracts.twilio_sms import BASIC, COMMON, NUMBER, through, twilio_section
from support.hostile_texts import HOSTILE_TEXTS
from support.vendors.twilio import AUTH_TOKEN, TwilioDouble, spoken_by


def _heard(twilio: TwilioDouble) -> str:
    """Severities as they are written; a text that is too long ends without a sign."""
    first = spoken_by(twilio.made[-1]["Twiml"])[0]
    return re.sub(r"P ([0-4])", r"P\1", first) + "…"


CONTRACT = ChannelContract(
    kind="twilio_voice",
    section=lambda address: {**twilio_section(address), "calls_for": "everything"},
    env={"TOKEN": AUTH_TOKEN},
    secrets=frozenset({BASIC, NUMBER}),
    double=lambda: TwilioDouble("in-progress"),
    heard=_heard,
    lost="".join({char for text in HOSTILE_TEXTS.values() for char in text}),
    has_link=False,
    answers={
        "state `in-progress` or `completed`": through("queued", "ringing", "in-progress"),
        "state `busy`, `no-answer`, `failed`": through("ringing", "busy"),
        **COMMON,
    },
)
