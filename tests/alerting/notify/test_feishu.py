import json
from email.utils import formatdate
from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.double import settings_of, vendor_channel
from support.vendors.feishu import FEISHU_SECRET, FeishuBot
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.feishu import read_feishu, signature
from tocsin_alerting.notify.http_sender import HttpAnswer

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
PAGE = notification()
NOW_S = NEW_YEAR_MS // 1000


async def _send(bot: FeishuBot, *messages: Notification, **settings: Any) -> list[Outcome]:
    env = {"URL": bot.url, "SECRET": FEISHU_SECRET, "OTHER": "another"}
    settings = {"url_env": "URL", "secret_env": "SECRET", **settings}
    channel = vendor_channel("feishu", env, **settings)
    outcomes = [await channel.send(message, NEW_YEAR_MS) for message in messages]
    await channel.close()
    return outcomes


def test_the_signature_is_that_of_the_vector() -> None:
    assert signature("feishusecret", 1700000000) == {
        "timestamp": "1700000000",
        "sign": "5Wc8F8b2vZlNjoVFpK6BAaovMobglP4Rm1FzmEq/rCU=",
    }
    assert signature("", 1700000000) == {}


async def test_a_card_by_its_state() -> None:
    acked = notification(reason=Reason.ACKED, state="ACKED", actor="li")
    mine = notification(reason=Reason.ACK_REMIND, state="ACKED")
    async with FeishuBot(NOW_S) as bot:
        outcomes = await _send(bot, PAGE, resolved(), acked, mine)
    assert outcomes == [Delivered(detail="code 0")] * 4
    colours = [card["header"]["template"] for card in bot.cards]
    assert colours == ["red", "green", "turquoise", "turquoise"]
    assert bot.cards[0]["header"]["title"]["content"].startswith("[P0] gpu-1: The engine at")
    text = bot.cards[0]["body"]["elements"][0]["text"]["content"]
    assert text.startswith("Machine: gpu-1\n") and "Look at the worker's log." in text
    (answer, runbook, agent) = [url for _, url in bot.links[:3]]
    assert answer.startswith("https://gpu.example:4911/links/")
    assert runbook == "https://runbooks.example/InferenceEngineDown"
    assert agent == "http://127.0.0.1:4911"


@pytest.mark.parametrize(
    ("settings", "mentioned"),
    [
        ({"mentioned_users": ["ou_1", "b6g8"]}, ["ou_1", "b6g8"]),
        ({"mention_all": True}, ["all"]),
        ({"mention_all": True, "mention": "never"}, []),
        ({}, []),
    ],
)
async def test_who_is_mentioned(settings: dict[str, Any], mentioned: list[str]) -> None:
    async with FeishuBot(NOW_S) as bot:
        await _send(bot, PAGE, resolved(), **settings)
    assert bot.mentioned == mentioned


async def test_the_keyword_that_the_bot_demands_is_there() -> None:
    async with FeishuBot(NOW_S, keyword="应用报警") as bot:
        (refused,) = await _send(bot, PAGE)
        (taken,) = await _send(bot, PAGE, keyword="应用报警")
    assert isinstance(refused, Permanent) and "set keyword" in refused.error
    assert isinstance(taken, Delivered)


async def test_more_than_five_a_second_come_later() -> None:
    async with FeishuBot(NOW_S) as bot:
        bot.recent = lambda request, span_s: 5  # type: ignore[method-assign]
        (outcome,) = await _send(bot, PAGE)
    assert isinstance(outcome, RetryAt) and outcome.not_before_ms == NEW_YEAR_MS + 15_000


async def test_a_wrong_secret_and_a_wrong_clock_are_told_apart() -> None:
    async with FeishuBot(NOW_S) as bot:
        (wrong,) = await _send(bot, PAGE, secret_env="OTHER")
    assert isinstance(wrong, Permanent) and "set secret_file to the bot's secret" in wrong.error
    date = formatdate(NOW_S - 7200, usegmt=True)
    skewed = read_feishu(HttpAnswer(200, '{"code":19021}', {"date": date}), NEW_YEAR_MS)
    assert isinstance(skewed, Permanent)
    assert skewed.error.startswith("this machine's clock is 2h ahead of theirs; set it")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, {"code": 0, "msg": "success"}, Delivered),
        (200, {"StatusCode": 0, "StatusMessage": "success"}, Delivered),
        (200, {"code": 11232, "msg": "frequency limited"}, RetryAt),
        (429, {"code": 99991400}, RetryAt),
        (400, {"code": 99991400}, RetryAt),
        (500, {}, RetryAt),
        (429, {"code": 1234567, "msg": "new"}, RetryAt),
        (429, {}, RetryAt),
        (200, {"code": 9499, "msg": "Bad Request"}, "does not take this body"),
        (400, {"code": 9499, "msg": "Bad Request"}, "does not take this body"),
        (200, {"code": 19022, "msg": "Ip Not Allowed"}, "this machine's address"),
        (200, {"code": 19024, "msg": "Key Words Not Found"}, "set keyword"),
        (200, {"code": 19001}, "no bot has this URL"),
        (200, {"hello": "portal"}, "this is no robot of Feishu or Lark"),
    ],
)
def test_what_an_answer_means(status: int, body: dict[str, Any], said: str | type[Outcome]) -> None:
    headers = {"x-ogw-ratelimit-reset": "52"}
    outcome = read_feishu(HttpAnswer(status, json.dumps(body), headers), NEW_YEAR_MS)
    if isinstance(said, str):
        assert isinstance(outcome, Permanent) and said in outcome.error
    else:
        assert isinstance(outcome, said)
    if body.get("code") in (99991400, 11232) or status == 429:
        assert outcome == RetryAt(outcome.error, NEW_YEAR_MS + 52_000)  # type: ignore[union-attr]


def test_a_rate_without_a_time_and_a_code_that_nobody_knows() -> None:
    limited = read_feishu(HttpAnswer(429, '{"code":11232}'), NEW_YEAR_MS)
    assert isinstance(limited, RetryAt) and limited.not_before_ms == NEW_YEAR_MS + 15_000
    named = read_feishu(HttpAnswer(429, "{}", {"retry-after": "7"}), NEW_YEAR_MS)
    assert isinstance(named, RetryAt) and named.not_before_ms == NEW_YEAR_MS + 7_000
    unknown = read_feishu(HttpAnswer(200, '{"code":1234567,"msg":"new"}'), NEW_YEAR_MS)
    assert unknown == RetryAt("code 1234567: new", retries=3)


@pytest.mark.parametrize("user", ["all", "ou_1></at><at id=all", ""])
def test_no_id_mentions_everybody(user: str) -> None:
    with pytest.raises(ValidationError, match="no id of a user"):
        settings_of("feishu", url_env="U", mentioned_users=[user])
