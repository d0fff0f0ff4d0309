from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.dingtalk import DINGTALK_SECRET, DingtalkRobot
from support.vendors.double import answer_json, vendor_channel
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.dingtalk import read_dingtalk, signed_url
from tocsin_alerting.notify.http_sender import HttpAnswer

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
PAGE = notification()


async def _send(robot: DingtalkRobot, *messages: Notification, **settings: Any) -> list[Outcome]:
    env = {"URL": robot.url, "SECRET": DINGTALK_SECRET, "OTHER": "SECother"}
    settings = {"url_env": "URL", "secret_env": "SECRET", **settings}
    channel = vendor_channel("dingtalk", env, **settings)
    outcomes = [await channel.send(message, NEW_YEAR_MS) for message in messages]
    await channel.close()
    return outcomes


def test_the_signature_is_that_of_the_vector() -> None:
    url = signed_url(
        "https://oapi.dingtalk.com/robot/send?access_token=T", "SECabc123", 1700000000000
    )
    assert url.endswith(
        "?access_token=T&timestamp=1700000000000"
        "&sign=N5P09a4%2Bp1AMJIJWnIvQd2Yxw9%2Bfu%2FoEBnPrjCcsLXk%3D"
    )
    assert signed_url("https://host.example/send", "", 1) == "https://host.example/send"
    query = parse_qs(urlsplit(signed_url("https://h.example/send", "s", 1)).query)
    assert set(query) == {"timestamp", "sign"}


async def test_a_card_has_a_button_that_answers() -> None:
    async with DingtalkRobot(NEW_YEAR_MS) as robot:
        assert await _send(robot, PAGE) == [Delivered(detail="errcode 0")]
    (message,) = robot.messages
    card = message["actionCard"]
    assert card["title"].startswith("［P0］ gpu-1: ")
    assert card["text"].startswith("### ［P0］ gpu-1: ") and "\n\nMachine" in card["text"]
    assert card["singleURL"].startswith("https://gpu.example:4911/links/")
    assert "/links/" not in card["text"]


async def test_who_is_mentioned_stands_in_the_text_too() -> None:
    settings: dict[str, Any] = {"mentioned_mobiles": ["13800000000"], "mentioned_users": ["u1"]}
    async with DingtalkRobot(NEW_YEAR_MS) as robot:
        await _send(robot, PAGE, resolved(), **settings)
    assert robot.mentioned == ["13800000000", "u1"]
    page, over = robot.messages
    assert page["markdown"]["text"].endswith("\n\n@13800000000 @u1")
    assert "/links/" in page["markdown"]["text"] and page["at"]["isAtAll"] is False
    assert over["msgtype"] == "actionCard"


async def test_everybody_is_mentioned_only_when_the_configuration_says_so() -> None:
    async with DingtalkRobot(NEW_YEAR_MS) as robot:
        await _send(robot, PAGE, mention_all=True)
        await _send(robot, PAGE, mention_all=True, mention="never")
        await _send(robot, PAGE)
    assert robot.mentioned == ["@all"]


async def test_the_keyword_that_the_robot_demands_is_there() -> None:
    async with DingtalkRobot(NEW_YEAR_MS, keyword="监控报警") as robot:
        (refused,) = await _send(robot, PAGE)
        (taken,) = await _send(robot, PAGE, keyword="监控报警")
    assert isinstance(refused, Permanent) and "demands a keyword" in refused.error
    assert isinstance(taken, Delivered)
    assert robot.messages[0]["actionCard"]["text"].endswith("\n\n监控报警")


async def test_a_wrong_secret_and_a_wrong_clock_are_told_apart() -> None:
    async with DingtalkRobot(NEW_YEAR_MS) as robot:
        (wrong,) = await _send(robot, PAGE, secret_env="OTHER")
    assert isinstance(wrong, Permanent) and "set secret_file to the robot's secret" in wrong.error
    two_hours = 7_200_000
    date = formatdate((NEW_YEAR_MS + two_hours) / 1000, usegmt=True)
    body = '{"errcode":310000,"errmsg":"invalid timestamp, more: [https://ding-doc]"}'
    skewed = read_dingtalk(HttpAnswer(200, body, {"date": date}), NEW_YEAR_MS)
    assert isinstance(skewed, Permanent)
    assert skewed.error.startswith(
        "this machine's clock is 2h behind theirs; set it: errcode 310000"
    )


async def test_too_many_a_minute_are_blocked_for_ten() -> None:
    async with DingtalkRobot(NEW_YEAR_MS) as robot:
        outcomes = await _send(robot, *[PAGE] * 21)
    assert [type(one) for one in outcomes] == [Delivered] * 20 + [RetryAt]
    assert isinstance(outcomes[-1], RetryAt)
    assert outcomes[-1].not_before_ms == NEW_YEAR_MS + 600_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description:关键词不匹配;solution:请联系群管理员", "demands a keyword"),
        ("keywords not in content", "demands a keyword"),
        ("ip 1.2.3.4 not in whitelist", "this machine's address"),
        ("description:机器人发送签名不匹配;solution:请确认签名", "the signature is refused"),
        ("something new", "errcode 310000: something new"),
    ],
)
def test_each_refusal_says_what_to_do(text: str, said: str) -> None:
    answer = answer_json({"errcode": 310000, "errmsg": text})
    outcome = read_dingtalk(HttpAnswer(200, answer.body.decode()), NEW_YEAR_MS)
    assert isinstance(outcome, Permanent) and said in outcome.error and not outcome.final


async def test_no_body_is_longer_than_what_they_take() -> None:
    long = notification(title="中" * 9000, others=("x" * 9000,))
    async with DingtalkRobot(NEW_YEAR_MS) as robot:
        outcomes = await _send(robot, long, format="markdown", keyword="报警")
    assert [type(one) for one in outcomes] == [Delivered]
    assert robot.messages[0]["markdown"]["text"].endswith("报警")
