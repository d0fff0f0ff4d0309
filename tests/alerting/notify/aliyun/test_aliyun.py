"""SMS and calls by Aliyun, against a double that verifies the signature from what arrived."""

import json
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from pydantic import ValidationError

from support.hostile_texts import HOSTILE_TEXTS, hostile_notification
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.aliyun import ALIYUN_ID, ALIYUN_SECRET, AliyunApi
from support.vendors.double import answer_json, settings_of, vendor_channel
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.aliyun.service import (
    local_number,
    read_aliyun,
    sms_value,
    spoken_value,
)
from tocsin_alerting.notify.aliyun.voice import AliyunVoice, of_all
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.http_sender import HttpAnswer
from tocsin_alerting.notify.rehearsal import rehearse
from tocsin_alerting.notify.secret import Vault

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
PAGE = notification()
PARAMS = {"level": "severity", "no": "number", "host": "machine", "text": "what", "state": "state"}
KINDS: dict[str, dict[str, Any]] = {
    "aliyun_sms": {"sign_name": "某某科技", "template_code": "SMS_123456789"},
    "aliyun_voice": {"template_code": "TTS_123456789", "show_number": "05710000000"},
}


def _settings(kind: str, **more: Any) -> dict[str, Any]:
    keys = {"access_key_id": ALIYUN_ID, "access_key_secret_env": "SECRET", "params": PARAMS}
    return {"to": ["+8613800000001"], **keys, **KINDS[kind], **more}


async def _send(kind: str, api: AliyunApi, message: Notification = PAGE, **more: Any) -> Outcome:
    language = more.pop("language", "zh")
    env = {"SECRET": ALIYUN_SECRET, "OTHER": "wrong"}
    settings = _settings(kind, api_url=api.api_url, **more)
    channel = vendor_channel(kind, env, language, **settings)
    outcome = await channel.send(message, NEW_YEAR_MS)
    await channel.close()
    return outcome


def _api() -> AliyunApi:
    return AliyunApi(NEW_YEAR_MS, tuple(PARAMS))


async def test_an_sms_fills_the_approved_template() -> None:
    to = ["+8613800000001", "+85290000001"]
    async with _api() as api:
        outcome = await _send("aliyun_sms", api, to=to)
    assert outcome == Delivered("134523^4351", "taken by Aliyun, request D9CB3933-9FE3-4870")
    (taken,) = api.taken
    assert taken["PhoneNumbers"] == "13800000001,85290000001"
    assert taken["SignName"] == "某某科技" and taken["OutId"] == "42"
    assert json.loads(taken["TemplateParam"]) == {
        "level": "P0",
        "no": "#42",
        "host": "gpu-1",
        "text": "The engine at 127.0.0.1:8000 does…",
        "state": "仍在告警",
    }


async def test_a_call_says_what_a_voice_can() -> None:
    async with _api() as api:
        outcome = await _send("aliyun_voice", api, play_times=2)
    assert isinstance(outcome, Delivered)
    (taken,) = api.taken
    assert (taken["CalledNumber"], taken["CalledShowNumber"]) == ("13800000001", "05710000000")
    assert (taken["PlayTimes"], taken["OutId"]) == ("2", "42")
    values = json.loads(taken["TtsParam"])
    assert values["no"] == "42" and values["host"] == "gpu 1"
    assert values["text"] == "The engine at 127.0.0.1 8000 does not answer"


async def test_the_state_is_said() -> None:
    async with _api() as api:
        await _send("aliyun_sms", api, resolved())
        await _send("aliyun_sms", api, resolved(), language="en")
    states = [json.loads(one["TemplateParam"])["state"] for one in api.taken]
    assert states == ["已恢复", "resolved"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HOSTILE_TEXTS)
async def test_no_text_breaks_a_variable(name: str, kind: str) -> None:
    async with _api() as api:
        outcome = await _send(kind, api, hostile_notification(HOSTILE_TEXTS[name]))
    assert isinstance(outcome, Delivered), outcome
    values = json.loads(api.taken[0].get("TemplateParam") or api.taken[0]["TtsParam"])
    assert values["level"] == "P0" and "42" in values["no"]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_length_loses_severity_or_number(kind: str) -> None:
    labels = {**ENGINE_DOWN.labels, "instance": "主" * 900}
    alert = replace(ENGINE_DOWN, labels=labels, annotations={"summary": "坏" * 900})
    async with _api() as api:
        outcome = await _send(kind, api, notification(alerts=(alert,)))
    assert isinstance(outcome, Delivered), outcome
    values = json.loads(api.taken[0].get("TemplateParam") or api.taken[0]["TtsParam"])
    assert values["level"] == "P0" and "42" in values["no"]


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_to_write_to_is_said_without_asking_aliyun(kind: str) -> None:
    async with _api() as api:
        outcome = await _send(kind, api, notification(contact="li"))
        nobody = await _send(kind, api, to=[])
    assert isinstance(outcome, Permanent) and "contact li has no phone" in outcome.error
    assert isinstance(nobody, Permanent) and "no `to`" in nobody.error
    assert api.requests == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_secret_is_said(kind: str) -> None:
    async with _api() as api:
        outcome = await _send(kind, api, access_key_secret_env="OTHER")
    assert isinstance(outcome, Permanent)
    assert "correct access_key_secret_file: SignatureDoesNotMatch" in outcome.error


async def test_no_number_stands_in_an_error_or_a_transcript() -> None:
    env = {"SECRET": ALIYUN_SECRET}
    for kind in KINDS:
        async with _api() as api:
            told = "+8613800000001 13800000001 " + ALIYUN_SECRET
            api.answers = [answer_json({"Code": "isv.X", "Message": told}, 400)]
            settings = _settings(kind, api_url=api.api_url)
            channel = vendor_channel(kind, env, **settings)
            transcript: list[str] = []
            outcome = await channel.send(PAGE, NEW_YEAR_MS, transcript)
            await channel.close()
        shown = "\n".join([*transcript, repr(outcome), repr(channel)])
        assert "13800000001" not in shown and ALIYUN_SECRET not in shown


async def test_who_was_called_is_not_called_again_for_those_who_were_not() -> None:
    limited = answer_json({"Code": "isv.BUSINESS_LIMIT_CONTROL", "Message": "触发分钟级流控"})
    wrong = answer_json({"Code": "isv.MOBILE_NUMBER_ILLEGAL"})
    to = ["+8613800000001", "+8613800000002"]
    async with _api() as api:
        api.answers = [limited]
        some = await _send("aliyun_voice", api, to=to)
        api.answers = [limited, wrong]
        none = await _send("aliyun_voice", api, to=to)
        api.answers = [wrong, wrong]
        never = await _send("aliyun_voice", api, to=to)
    assert isinstance(some, Delivered) and "not called: …001: too many" in some.detail
    assert isinstance(none, RetryAt) and none.not_before_ms == NEW_YEAR_MS + 60_000
    assert isinstance(never, Permanent) and never.final


@pytest.mark.parametrize(
    ("status", "code", "message", "said"),
    [
        (200, "isv.BUSINESS_LIMIT_CONTROL", "触发分钟级流控Permits:1", 60_000),
        (200, "isv.BUSINESS_LIMIT_CONTROL", "触发小时级流控Permits:5", 3_600_000),
        (200, "isv.BUSINESS_LIMIT_CONTROL", "触发天级流控Permits:10", 3_600_000),
        (200, "isp.SYSTEM_ERROR", "", RetryAt),
        (400, "Throttling.User", "Request was denied due to user flow control.", RetryAt),
        (503, "ServiceUnavailable", "", RetryAt),
        (200, "isv.AMOUNT_NOT_ENOUGH", "", "top it up"),
        (200, "isv.OUT_OF_SERVICE", "", "top it up"),
        (200, "isp.RAM_PERMISSION_DENY", "", "policy"),
        (200, "isv.DAY_LIMIT_CONTROL", "", "raise it"),
        (200, "isv.TTS_TEMPLATE_ILLEGAL", "", "template_code"),
        (200, "isv.VOICE_CALL_PERIOD_ERROR", "", "no calls at this hour"),
        (404, "InvalidAccessKeyId.NotFound", "", "access_key_id"),
        (200, "isv.UNHEARD_OF", "new", "isv.UNHEARD_OF: new"),
        (200, "", "", "correct api_url"),
        (502, "", "", RetryAt),
    ],
)
def test_what_an_answer_means(
    status: int, code: str, message: str, said: int | str | type[Outcome]
) -> None:
    body = json.dumps({"Code": code, "Message": message} if code else {})
    outcome = read_aliyun(HttpAnswer(status, body), NEW_YEAR_MS, single=True)
    if isinstance(said, int):
        assert isinstance(outcome, RetryAt) and outcome.not_before_ms == NEW_YEAR_MS + said
    elif isinstance(said, str):
        assert isinstance(outcome, Permanent) and said in outcome.error and not outcome.final
    else:
        assert isinstance(outcome, said)


def test_a_clock_that_is_wrong_is_said() -> None:
    date = formatdate(NEW_YEAR_MS / 1000 + 3600, usegmt=True)
    body = json.dumps({"Code": "InvalidTimeStamp.Expired", "Message": "expired"})
    outcome = read_aliyun(HttpAnswer(400, body, {"date": date}), NEW_YEAR_MS, single=True)
    assert isinstance(outcome, Permanent)
    assert outcome.error.startswith("this machine's clock is 1h behind theirs")


def test_only_a_single_number_that_is_wrong_is_for_good() -> None:
    answer = HttpAnswer(200, '{"Code": "isv.MOBILE_NUMBER_ILLEGAL"}')
    one = read_aliyun(answer, NEW_YEAR_MS, single=True)
    many = read_aliyun(answer, NEW_YEAR_MS, single=False)
    assert isinstance(one, Permanent) and one.final
    assert isinstance(many, Permanent) and not many.final


def test_values_are_what_templates_take() -> None:
    assert sms_value("https://a.example/x 【签名】 [b] ${c}") == "https a.example/x 签名 b c"
    assert sms_value("www.evil.example") == "www evil.example"
    assert sms_value(" \n\u202e😀") == "-"
    assert spoken_value("gpu-1:9100 #42 50%") == "gpu 1 9100 42 50"
    assert (local_number("+8613800000001"), local_number("+85290000001")) == (
        "13800000001",
        "85290000001",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"access_key_secret_env": None}, "exactly one of access_key_secret_file"),
        ({"access_key_secret": "x"}, "a secret has no place in this file"),
        ({"params": {"text": "colour"}}, "params"),
        ({"params": {"1x": "what"}}, "no name of a variable"),
        ({"to": ["13800000001"]}, "a number needs its country"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_of("aliyun_sms", **_settings("aliyun_sms", **changes))


async def test_a_contact_is_reached_by_his_phone() -> None:
    settings = {**_settings("aliyun_voice"), "params": PARAMS}
    async with _api() as api:
        model = settings_of("aliyun_voice", **{**settings, "api_url": api.api_url})
        deps = ChannelDeps(
            vault=Vault({"SECRET": ALIYUN_SECRET}, lambda path: ""), phones={"li": "+8613900000009"}
        )
        channel = AliyunVoice("ops", model, deps)
        outcome = await channel.send(notification(contact="li"), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered)
    assert [one["CalledNumber"] for one in api.taken] == ["13900000009"]


def test_of_several_numbers_the_first_that_may_be_tried_again_counts() -> None:
    soon, later, at_once = RetryAt("a", 60_000), RetryAt("b", 90_000), RetryAt("c")
    both = of_all({"+8613800000001": later, "+8613800000002": soon})
    assert isinstance(both, RetryAt) and both.not_before_ms == 60_000
    mixed = of_all({"+8613800000001": later, "+8613800000002": at_once})
    assert isinstance(mixed, RetryAt) and mixed.not_before_ms is None


async def test_a_preview_shows_the_variables_and_no_number() -> None:
    for kind, name in (("aliyun_sms", "TemplateParam"), ("aliyun_voice", "TtsParam")):
        channel = vendor_channel(kind, {"SECRET": ALIYUN_SECRET}, **_settings(kind))
        (shown,), _ = await rehearse(channel, PAGE, NEW_YEAR_MS)
        await channel.close()
        assert shown.to.startswith("POST https://dy") and name in shown.text
        assert "P0" in shown.text and "13800000001" not in shown.text
