"""SMS by Twilio: the text, what its states mean, and a double of Twilio that takes it."""

import json
from typing import Any

import pytest

from support.hostile_texts import HOSTILE_TEXTS
from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.twilio import ACCOUNT, API_KEY, API_SECRET, AUTH_TOKEN, CALLER, TwilioDouble
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.http_sender import HttpAnswer
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.twilio.api import combined, created
from tocsin_alerting.notify.twilio.settings import TwilioSmsSettings
from tocsin_alerting.notify.twilio.sms import TwilioSms, segments, sms_state, sms_text

NUMBER, OTHER = "+8613800000123", "+4915100000456"
LINK = "https://tocsin.example.com/links/" + "a" * 96


def parts(subject: str, *lines: tuple[str, str], link: str = LINK) -> MessageParts:
    return MessageParts(subject, "fires", "page", "P0", "#42", lines=lines, answer_url=link)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("[" * 80, 1),  # of the extension: two each
        ("[" * 81, 2),
        ("a" * 152 + "[" + "a" * 152, 3),  # the pair does not fit into the first one's last place
        ("中" * 70, 1),
        ("中" * 71, 2),
        ("中" * 134, 2),
        ("中" * 135, 3),
        ("a" * 70 + "中", 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("中" * 66 + "😀" + "中" * 66, 3),  # nor is a pair of surrogates divided
        ("ç", 1),  # not of the alphabet, which has the capital alone
    ],
)
def test_segments_are_counted_as_the_standard_says(text: str, count: int) -> None:
    assert segments(text) == count


def test_the_subject_details_as_they_fit_and_the_link() -> None:
    text = sms_text(
        parts("[P0] gpu-1: Engine down (#42)", ("Model", "Qwen"), ("Note", "x" * 400)), 3
    )
    assert text == f"[P0] gpu-1: Engine down (#42)\nModel: Qwen\n{LINK}"
    assert segments(text) <= 3


@pytest.mark.parametrize(
    "many", ["Engine down " * 200, "引擎没有响应" * 200, "😀" * 900, "[" * 900]
)
@pytest.mark.parametrize("most", [2, 3, 10])
def test_what_is_too_long_loses_its_middle_and_nothing_else(many: str, most: int) -> None:
    link = LINK[:90]
    text = sms_text(parts(f"[P0] gpu-1: {many} (#42)", link=link), most)
    head, last = text.rsplit("\n", 1)
    assert head.startswith("[P0] gpu-1: ") and head.endswith("... (#42)") and last == link
    assert segments(text) <= max(most, 3) and len(text) <= 1600


def test_a_link_that_alone_is_too_long_costs_segments_and_not_the_link() -> None:
    link = "https://h.example/" + "a" * 700
    text = sms_text(parts("[P0] gpu-1: " + "down " * 50 + "(#42)", link=link), 3)
    assert text.endswith(link) and text.startswith("[P0] gpu-1: ")


@pytest.mark.parametrize("hostile", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_no_label_breaks_the_lines_or_the_limit(hostile: str) -> None:
    text = sms_text(parts(f"[P0] gpu-1: {hostile} (#42)", ("Note", hostile)), 3)
    assert text.endswith("\n" + LINK) and text.startswith("[P0] gpu-1:")
    assert "(#42)" in text and segments(text) <= 4 and len(text) <= 1600
    assert all(char.isprintable() or char == "\n" for char in text)
    text.encode()


def _answer(status: int, code: int | None = None, **headers: str) -> HttpAnswer:
    body = {"message": "no"} | ({} if code is None else {"code": code})
    return HttpAnswer(status, json.dumps(body), headers)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (HttpAnswer(201, '{"sid": "SM1"}'), Delivered("SM1", "Twilio has it")),
        (HttpAnswer(201, "{}"), RetryAt("HTTP 201 without the sid of what was asked for")),
        (_answer(400, 21211), Permanent("Twilio error 21211: no", final=True)),
        (_answer(400, 21610), Permanent("Twilio error 21610: no", final=True)),
        (_answer(400, 21614), Permanent("Twilio error 21614: no", final=True)),
        (_answer(400, 21606), Permanent("Twilio error 21606: no")),
        (_answer(401, 20003), Permanent("Twilio error 20003: no")),
        (_answer(429, 20429), RetryAt("Twilio error 20429: no", NEW_YEAR_MS + 30_000)),
        (
            _answer(429, 20429, **{"retry-after": "7"}),
            RetryAt("Twilio error 20429: no", NEW_YEAR_MS + 7_000),
        ),
        (_answer(400, 14107), RetryAt("Twilio error 14107: no", NEW_YEAR_MS + 30_000)),
        (HttpAnswer(503, "busy"), RetryAt("HTTP 503: busy")),
        (HttpAnswer(500, '{"code": 20500}'), RetryAt('HTTP 500: {"code": 20500}')),
        (HttpAnswer(404, "no"), Permanent("HTTP 404: no")),
    ],
)
def test_what_an_answer_to_a_new_message_means(answer: HttpAnswer, outcome: Outcome) -> None:
    assert created(answer, NEW_YEAR_MS) == outcome


@pytest.mark.parametrize(
    ("data", "kind", "final"),
    [
        ({"status": "accepted"}, None, False),
        ({"status": "queued"}, None, False),
        ({"status": "sending"}, None, False),
        ({"status": "delivered"}, Delivered, False),
        ({"status": "failed", "error_code": 30001}, RetryAt, False),
        ({"status": "undelivered", "error_code": 30003}, RetryAt, False),
        ({"status": "undelivered", "error_code": 30004}, Permanent, False),
        ({"status": "undelivered", "error_code": 30005}, Permanent, True),
        ({"status": "undelivered", "error_code": 30006}, Permanent, True),
        ({"status": "undelivered", "error_code": 30007}, Permanent, False),
        ({"status": "undelivered", "error_code": 30008}, RetryAt, False),
        ({"status": "failed", "error_code": None}, RetryAt, False),
        ({"status": "of tomorrow"}, None, False),
        ({}, None, False),
    ],
)
def test_what_a_state_means(data: dict[str, Any], kind: type | None, final: bool) -> None:
    outcome = sms_state("sent")(data, "…123", NEW_YEAR_MS).outcome
    assert outcome is None if kind is None else isinstance(outcome, kind)
    assert getattr(outcome, "final", False) is final


def test_that_the_carrier_has_it_is_enough_or_not_as_the_file_says() -> None:
    assert isinstance(sms_state("sent")({"status": "sent"}, "…", 0).outcome, Delivered)
    assert sms_state("delivered")({"status": "sent"}, "…", 0).outcome is None


def test_of_several_numbers_one_that_may_still_come_through_is_tried_again() -> None:
    came, gone, later = Delivered("SM1"), Permanent("gone", final=True), RetryAt("later", 5)
    assert combined([came, later, RetryAt("b", 3)]) == RetryAt("later; b", 3)
    assert combined([later, RetryAt("b")]) == RetryAt("later; b", None)
    assert combined([gone, came]) == Delivered("SM1", "gone")
    assert combined([gone, Permanent("x")]) == Permanent("gone; x", final=False)


def channel(double: TwilioDouble, **more: Any) -> TwilioSms:
    login = {} if "api_key_sid" in more else {"auth_token_env": "TOKEN"}
    settings = {
        **{"type": "twilio_sms", "account_sid": ACCOUNT, "from": CALLER, "poll": "1ms"},
        **{"api_url": double.api_url, "patience": "2s", **login, **more},
    }
    vault = Vault({"TOKEN": AUTH_TOKEN, "SECRET": API_SECRET}, lambda path: "")
    deps = ChannelDeps(vault, phones={"li": NUMBER})
    return TwilioSms("sms", TwilioSmsSettings.model_validate(settings), deps)


async def _sent(
    double: TwilioDouble, message: Notification, **more: Any
) -> tuple[Outcome, list[str]]:
    sms, lines = channel(double, **more), list[str]()
    outcome = await sms.send(message, NEW_YEAR_MS, lines)
    await sms.close()
    return outcome, lines


async def test_a_contact_gets_it_and_queued_at_twilio_is_not_delivered() -> None:
    async with TwilioDouble("queued", "sending", "sent") as twilio:
        outcome, lines = await _sent(twilio, notification(contact="li"))
    assert outcome == Delivered("SM" + "0" * 32, "…123: sent")
    (made,) = twilio.made
    assert made["To"] == NUMBER and made["From"] == CALLER
    assert made["Body"].startswith("[P0] gpu-1: ") and "(#42)" in made["Body"]
    shown = "\n".join(lines)
    assert NUMBER not in shown and AUTH_TOKEN not in shown and "…123" in shown


async def test_its_own_numbers_by_an_api_key_and_a_messaging_service() -> None:
    key = {"api_key_sid": API_KEY, "api_key_secret_env": "SECRET", "from": None}
    service = "MG" + "0" * 32
    async with TwilioDouble("delivered") as twilio:
        outcome, _ = await _sent(
            twilio, resolved(), to=[NUMBER, OTHER], messaging_service_sid=service, **key
        )
    assert isinstance(outcome, Delivered)
    assert {made["To"] for made in twilio.made} == {NUMBER, OTHER}
    assert {made["MessagingServiceSid"] for made in twilio.made} == {service}


async def test_a_message_that_still_waits_at_twilio_is_asked_for_and_not_sent_again() -> None:
    async with TwilioDouble("queued", "queued") as twilio:
        sms = channel(twilio, patience="1ms")
        first = await sms.send(notification(contact="li"), NEW_YEAR_MS)
        assert isinstance(first, RetryAt) and "queued" in first.error
        twilio.proceed("delivered")
        second = await sms.send(notification(contact="li"), NEW_YEAR_MS)
        await sms.close()
    assert isinstance(second, Delivered)
    assert len(twilio.made) == 1


async def test_one_that_was_lost_is_sent_again_and_the_number_that_has_it_is_left_alone() -> None:
    lost = {"status": "undelivered", "error_code": 30003}
    async with TwilioDouble("delivered") as twilio:
        sms = channel(twilio, to=[NUMBER, OTHER])
        twilio.courses = {OTHER: [lost]}
        first = await sms.send(notification(), NEW_YEAR_MS)
        assert isinstance(first, RetryAt) and first.not_before_ms is not None
        assert first.not_before_ms >= NEW_YEAR_MS + 60_000
        twilio.courses = {}
        second = await sms.send(notification(), NEW_YEAR_MS)
        await sms.close()
    assert isinstance(second, Delivered)
    assert sorted(made["To"] for made in twilio.made) == sorted([NUMBER, OTHER, OTHER])


async def test_what_twilio_says_of_a_loss_tells_neither_number_nor_token() -> None:
    words = f"{NUMBER} by {AUTH_TOKEN} " + "is out of reach " * 99
    gone = {"status": "undelivered", "error_code": 30003, "error_message": words}
    async with TwilioDouble(gone) as twilio:
        outcome, lines = await _sent(twilio, notification(contact="li"))
    assert isinstance(outcome, RetryAt) and "30003" in outcome.error
    shown = "\n".join([outcome.error, *lines])
    assert NUMBER not in shown and AUTH_TOKEN not in shown and len(shown) < 3000


async def test_what_twilio_does_not_have_any_more_is_sent_again() -> None:
    async with TwilioDouble("queued") as twilio:
        sms = channel(twilio, patience="1ms")
        assert isinstance(await sms.send(notification(contact="li"), NEW_YEAR_MS), RetryAt)
        twilio.remove()
        twilio.course = ["sent"]
        lost = await sms.send(notification(contact="li"), NEW_YEAR_MS)
        assert lost == RetryAt("…123: Twilio does not have it")
        assert isinstance(await sms.send(notification(contact="li"), NEW_YEAR_MS), Delivered)
        await sms.close()
    assert len(twilio.made) == 2


async def test_refusals_of_twilio_and_nobody_to_write_to() -> None:
    async with TwilioDouble("delivered") as twilio:
        twilio.refuse = [(400, 21610)]
        unsubscribed, _ = await _sent(twilio, notification(contact="li"))
        unknown, _ = await _sent(twilio, notification(contact="wang"))
        alone, _ = await _sent(twilio, notification())
    assert unsubscribed == Permanent("Twilio error 21610: refused by the test", final=True)
    assert unknown == Permanent(
        "contact wang has no telephone number in the configuration; add one"
    )
    assert isinstance(alone, Permanent) and alone.error.startswith("the receiver has no telephone")
    assert twilio.made == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"account_sid": "AC1"}, "not the SID of an account"),
        ({"auth_token_env": None}, "add auth_token_file or auth_token_env, or an API key"),
        ({"auth_token": "x"}, "auth_token_file"),
        ({"auth_token_file": "x"}, "not as both"),
        ({"api_key_sid": API_KEY}, "api_key_sid goes with"),
        ({"from": None}, "exactly one of from and messaging_service_sid"),
        ({"from": "+49 151"}, "not a telephone number"),
        ({"to": ["0151"]}, "needs its country"),
        ({"max_segments": 11}, "less than or equal to 10"),
    ],
)
def test_what_is_wrong_in_the_section_is_said(change: dict[str, Any], said: str) -> None:
    whole = {"type": "twilio_sms", "account_sid": ACCOUNT, "from": CALLER, "auth_token_env": "T"}
    with pytest.raises(ValueError, match=".") as refused:
        TwilioSmsSettings.model_validate({**whole, **change})
    assert said in str(refused.value)
