import json
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.double import answer_json, settings_of, vendor_channel
from support.vendors.wecom import WECOM_KEY, WecomRobot
from support.webhook_sink import Answer
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.http_sender import HttpAnswer
from tocsin_alerting.notify.wecom import ANSWERS

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
PAGE = notification()


async def _send(robot: WecomRobot, *messages: Notification, **settings: Any) -> list[Outcome]:
    channel = vendor_channel("wecom", {"URL": robot.url}, url_env="URL", **settings)
    outcomes = [await channel.send(message, NEW_YEAR_MS) for message in messages]
    await channel.close()
    return outcomes


async def test_a_page_is_orange_and_can_be_answered() -> None:
    async with WecomRobot() as robot:
        outcomes = await _send(robot, PAGE, resolved())
    assert outcomes == [Delivered(detail="errcode 0")] * 2
    assert [colour for colour, _ in robot.colours] == ["warning", "info"]
    assert robot.colours[0][1].startswith("［P0］ gpu-1: The engine at 127.0.0.1:8000")
    assert robot.links[0][1] == "https://runbooks.example/InferenceEngineDown"
    assert [url for _, url in robot.links if "/links/" in url][0].startswith(
        "https://gpu.example:4911/links/"
    )


async def test_acknowledged_is_grey() -> None:
    acked = notification(reason=Reason.ACKED, state="ACKED", actor="li")
    reminder = notification(reason=Reason.ACK_REMIND, state="ACKED")
    async with WecomRobot() as robot:
        await _send(robot, acked, reminder)
    assert [colour for colour, _ in robot.colours] == ["comment", "comment"]


async def test_users_are_mentioned_in_the_markdown_of_pages_alone() -> None:
    async with WecomRobot() as robot:
        await _send(robot, PAGE, resolved(), mentioned_users=["wangqing"])
    assert robot.mentioned == ["wangqing"]
    assert [one["msgtype"] for one in robot.messages] == ["markdown"] * 2


async def test_a_number_is_mentioned_by_a_short_text_before_the_details() -> None:
    async with WecomRobot() as robot:
        settings: dict[str, Any] = {"mentioned_mobiles": ["13800000000"]}
        await _send(robot, PAGE, **settings)
        await _send(robot, notification(severity="P2"), resolved(), **settings)
    kinds = [one["msgtype"] for one in robot.messages]
    assert kinds == ["text", "markdown", "text", "markdown"]  # of P0, P2, and of what is over
    short, _, whole, _ = robot.messages
    assert short["text"]["mentioned_mobile_list"] == ["13800000000"]
    lines = short["text"]["content"].split("\n")
    assert len(lines) == 2 and "(#42)" in lines[0] and "/links/" in lines[1]
    assert "Machine" in whole["text"]["content"]
    assert robot.mentioned == ["13800000000"] * 2


@pytest.mark.parametrize(
    ("settings", "mentioned"),
    [
        ({"mention_all": True}, ["@all"]),
        ({"mention_all": True, "mention": "never"}, []),
        ({"mentioned_users": ["li"], "mention": "never"}, []),
        ({"mentioned_users": ["li"], "format": "text"}, ["li"]),
        ({}, []),
    ],
)
async def test_everybody_is_mentioned_only_when_the_configuration_says_so(
    settings: dict[str, Any], mentioned: Sequence[str]
) -> None:
    async with WecomRobot() as robot:
        await _send(robot, PAGE, **settings)
    assert robot.mentioned == mentioned


async def test_always_mentions_in_what_is_no_page_too() -> None:
    async with WecomRobot() as robot:
        await _send(robot, resolved(), mentioned_users=["li"], mention="always")
    assert robot.mentioned == ["li"]


async def test_who_was_rung_is_not_rung_again_for_the_details() -> None:
    async with WecomRobot() as robot:
        robot.answers = [answer_json({"errcode": 0}), Answer(502)]
        (outcome,) = await _send(robot, PAGE, mention_all=True)
    assert isinstance(outcome, Delivered) and "the details failed: HTTP 502" in outcome.detail
    async with WecomRobot() as robot:
        robot.answers = [Answer(502)]
        (outcome,) = await _send(robot, PAGE, mention_all=True)
    assert isinstance(outcome, RetryAt) and len(robot.requests) == 1


async def test_the_twenty_first_message_of_a_minute_waits_for_one() -> None:
    async with WecomRobot() as robot:
        outcomes = await _send(robot, *[PAGE] * 21)
    assert [type(one) for one in outcomes] == [Delivered] * 20 + [RetryAt]
    assert isinstance(outcomes[-1], RetryAt)
    assert outcomes[-1].not_before_ms == NEW_YEAR_MS + 60_000


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, '{"errcode":0,"errmsg":"ok"}', Delivered),
        (200, '{"errcode":"0"}', Delivered),
        (200, '{"errcode":-1,"errmsg":"system busy"}', RetryAt),
        (200, '{"errcode":45009,"errmsg":"api freq out of limit"}', RetryAt),
        (200, '{"errcode":93000,"errmsg":"invalid webhook url"}', "no robot has this key"),
        (200, '{"errcode":40058,"errmsg":"exceed max length 4096"}', "exceed max length 4096"),
        (200, '{"errcode":41001,"errmsg":"missing access_token"}', "does not take this body"),
        (200, '{"errcode":99999}', RetryAt),
        (200, '{"errcode":true}', "without errcode"),
        (200, "<html>welcome to this hotel</html>", RetryAt),
        (200, '{"errco', RetryAt),
        (200, '{"hello":1}', "this is no robot of WeCom"),
        (404, '{"errcode":0}', "HTTP 404"),
        (302, "", "redirect"),
        (503, "", RetryAt),
    ],
)
def test_what_an_answer_means(status: int, body: str, said: str | type[Outcome]) -> None:
    outcome = ANSWERS.outcome(HttpAnswer(status, body), NEW_YEAR_MS)
    if isinstance(said, str):
        assert isinstance(outcome, Permanent) and said in outcome.error and not outcome.final
    else:
        assert isinstance(outcome, said)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "exactly one of url_file and url_env"),
        ({"url": "https://qyapi.weixin.qq.com/x"}, "a secret has no place in this file"),
        ({"url_env": "U", "mentioned_users": ["@all"]}, "set mention_all"),
        ({"url_env": "U", "mentioned_users": ["all"]}, "set mention_all"),
        ({"url_env": "U", "mentioned_users": ["a><@b"]}, "no id of a user"),
        ({"url_env": "U", "mentioned_mobiles": ["@all"]}, "phone numbers"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_of("wecom", **settings)


async def test_the_key_is_in_no_transcript() -> None:
    async with WecomRobot() as robot:
        robot.answers = [Answer(body=json.dumps({"errmsg": WECOM_KEY}).encode())]
        channel = vendor_channel("wecom", {"URL": robot.url}, url_env="URL")
        transcript: list[str] = []
        outcome = await channel.send(PAGE, NEW_YEAR_MS, transcript)
        await channel.close()
    assert WECOM_KEY not in "\n".join([*transcript, repr(outcome), repr(channel)])
