"""Calls by Twilio: whether somebody answered, when it rings again, and who may press a key."""

from pathlib import Path
from typing import Any

import pytest

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.twilio import (
    ACCOUNT,
    AUTH_TOKEN,
    CALLER,
    KeyPressed,
    TwilioDouble,
    spoken_by,
    twilio_signature,
)
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.rehearsal import rehearse
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.notify.twilio.settings import TwilioVoiceSettings
from tocsin_alerting.notify.twilio.voice import (
    NOT_CALLED,
    TwilioVoice,
    is_public_https,
    is_signed,
    signature,
)

NUMBER = "+8613800000123"
PUBLIC = "https://tocsin.example.com"


def voice(
    double: TwilioDouble, base: str = "", folder: Path | None = None, **more: Any
) -> TwilioVoice:
    links = SignedLinks(base)
    if folder is not None:
        links.begin(folder)
    settings = {
        **{"type": "twilio_voice", "account_sid": ACCOUNT, "from": CALLER, "poll": "1ms"},
        **{"api_url": double.api_url, "auth_token_env": "TOKEN", **more},
    }
    vault = Vault({"TOKEN": AUTH_TOKEN}, lambda path: "")
    deps = ChannelDeps(vault, phones={"li": NUMBER}, links=links)
    return TwilioVoice("phone", TwilioVoiceSettings.model_validate(settings), deps)


async def _called(double: TwilioDouble, **more: Any) -> Outcome:
    channel = voice(double, **more)
    outcome = await channel.send(notification(contact="li"), NEW_YEAR_MS)
    await channel.close()
    return outcome


async def test_a_contact_is_called_and_who_answers_was_reached() -> None:
    async with TwilioDouble("queued", "ringing", "in-progress") as twilio:
        outcome = await _called(twilio)
    assert outcome == Delivered("CA" + "0" * 32, "…123: answered")
    (made,) = twilio.made
    assert (made["To"], made["From"], made["Timeout"]) == (NUMBER, CALLER, "30")
    first, second = spoken_by(made["Twiml"])[:2]
    assert first.startswith("Alert from Tocsin. Incident 42. P 0, gpu 1") and second.endswith(first)
    assert "Gather" not in made["Twiml"], "nobody can be told of a key"


@pytest.mark.parametrize("state", ["busy", "no-answer", "failed", "canceled"])
async def test_who_did_not_answer_is_called_again_after_a_minute(state: str) -> None:
    async with TwilioDouble("ringing", state) as twilio:
        channel = voice(twilio)
        first = await channel.send(notification(contact="li"), NEW_YEAR_MS)
        assert isinstance(first, RetryAt) and first.error == f"…123: {state}"
        assert first.not_before_ms is not None
        assert 60_000 <= first.not_before_ms - NEW_YEAR_MS < 70_000
        second = await channel.send(notification(contact="li"), NEW_YEAR_MS)
        await channel.close()
    assert second == Permanent(f"…123: {state}, 2 times"), "the next way of the contact follows"
    assert len(twilio.made) == 2 and twilio.ended == []


async def test_a_machine_that_answers_is_nobody_where_twilio_finds_out() -> None:
    machine = {"status": "in-progress", "answered_by": "machine_start"}
    async with TwilioDouble("ringing", "in-progress", machine) as twilio:
        assert isinstance(await _called(twilio, detect_machine=True), RetryAt)
        assert twilio.made[0]["MachineDetection"] == "Enable"
    human = {"status": "in-progress", "answered_by": "human"}
    async with TwilioDouble("ringing", "in-progress", human) as twilio:
        assert isinstance(await _called(twilio, detect_machine=True), Delivered)
    async with TwilioDouble(machine) as twilio:
        assert isinstance(await _called(twilio), Delivered), "nobody asked for it"


async def test_a_call_that_does_not_come_through_is_taken_back() -> None:
    async with TwilioDouble("queued") as twilio:
        channel = voice(twilio, ring="5s")
        channel.queue_s = -5.0
        outcome = await channel.send(notification(contact="li"), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, RetryAt) and "queued" in outcome.error
    assert twilio.ended == ["CA" + "0" * 32]


async def test_a_preview_is_one_request_and_says_what_would_be_said() -> None:
    async with TwilioDouble("busy") as twilio:
        channel = voice(twilio)
        (shown,), _ = await rehearse(channel, notification(contact="li"), NEW_YEAR_MS)
        await channel.close()
    assert twilio.made == [] and NUMBER not in shown.text
    assert "\nTwiml: <?xml" in shown.text and "Incident 42. P 0, gpu 1" in shown.text


async def test_only_pages_ring() -> None:
    async with TwilioDouble("completed") as twilio:
        channel = voice(twilio)
        for reason in (Reason.ACKED, Reason.SILENCE_ENDS, Reason.CLOSED_BY_HAND):
            told = await channel.send(notification(contact="li", reason=reason), NEW_YEAR_MS)
            assert told == Delivered(detail=NOT_CALLED, unsent=True)
        assert twilio.made == []
        await channel.send(notification(contact="li", reason=Reason.TEST), NEW_YEAR_MS)
        asked = voice(twilio, send_resolved=True)
        await asked.send(resolved(contact="li"), NEW_YEAR_MS)
        await channel.close()
        await asked.close()
    assert len(twilio.made) == 2


async def test_a_key_is_asked_for_where_twilio_can_reach_us(tmp_path: Path) -> None:
    async with TwilioDouble("completed") as twilio:
        for base in (PUBLIC, "http://tocsin.example.com", "https://10.0.0.5", "https://gpu-1"):
            channel = voice(twilio, base, tmp_path)
            await channel.send(notification(contact="li", key=f"u1/3/{base}"), NEW_YEAR_MS)
            await channel.close()
        silent = voice(twilio, PUBLIC, tmp_path, press_to_acknowledge=False)
        await silent.send(notification(contact="li"), NEW_YEAR_MS)
        await silent.close()
    assert ["Gather" in made["Twiml"] for made in twilio.made] == [True, *[False] * 4]
    url = KeyPressed(twilio.made[0], "CA1").url
    assert url.startswith(f"{PUBLIC}/links/") and url.endswith("/call?generation=3")


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://tocsin.example.com", True),
        ("https://tocsin.example.com:8443/below", True),
        ("https://93.184.216.34", True),
        ("http://tocsin.example.com", False),
        ("https://127.0.0.1", False),
        ("https://192.168.1.2", False),
        ("https://[fe80::1]", False),
        ("https://gpu-1", False),
        ("https://gpu-1.local", False),
        ("https://gpu-1.internal.", False),
        ("https://", False),
        ("https://[bad", False),
        ("", False),
    ],
)
def test_what_twilio_can_reach(url: str, public: bool) -> None:
    assert is_public_https(url) is public


URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
SIGNED = "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def test_signatures_are_those_that_twilio_publishes() -> None:
    """The vectors of twilio-python, tests/unit/test_request_validator.py, and of Twilio's page."""
    assert signature("12345", URL, list(FORM.items())) == SIGNED
    page = {**FORM, "From": "+12349013030", "Caller": "+12349013030"}
    assert signature("12345", URL, list(page.items())) == "0/KCTR6DLpKmkAf8muzZqo1nDgQ="
    several = [
        *(("Sid", "CA123"), ("SidAccount", "AC123")),
        *(("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")),
    ]
    assert signature("12345", URL, several) == "IK+Dwps556ElfBT0I3Rgjkr1wJU="
    assert twilio_signature("12345", URL, FORM) == SIGNED, "the double's own formula"


def test_a_port_that_goes_without_saying_may_be_said_and_nothing_else_may_differ() -> None:
    fields = list(FORM.items())
    whole = URL.replace("mycompany.com", "mycompany.com:443")
    assert is_signed("12345", URL, fields, SIGNED) and is_signed("12345", whole, fields, SIGNED)
    assert is_signed("12345", URL, fields, signature("12345", whole, fields))
    for wrong in (
        ("12346", URL, fields, SIGNED),
        ("", URL, fields, signature("", URL, fields)),
        ("12345", URL + "3", fields, SIGNED),
        ("12345", URL.replace("https", "http"), fields, SIGNED),
        ("12345", URL, fields[1:], SIGNED),
        ("12345", URL, [*fields, ("Digits", "1")], SIGNED),
        ("12345", URL, fields, SIGNED.lower()),
        ("12345", URL, fields, ""),
        ("12345", URL, fields, "ü"),
    ):
        assert not is_signed(*wrong), wrong


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"from": "Tocsin"}, "not a telephone number"),
        ({"ring": "1s"}, "a phone rings for 5s to 10m"),
        ({"voice": "a b"}, "String should match"),
    ],
)
def test_what_is_wrong_in_the_section_is_said(change: dict[str, Any], said: str) -> None:
    whole = {"type": "twilio_voice", "account_sid": ACCOUNT, "from": CALLER, "auth_token_env": "T"}
    with pytest.raises(ValueError, match=".") as refused:
        TwilioVoiceSettings.model_validate({**whole, **change})
    assert said in str(refused.value)
