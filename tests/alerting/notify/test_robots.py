"""What holds for all that people in China are reached by: each message, each hostile text and each
length, against doubles that check what the vendors' documents demand."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from support.hostile_texts import HOSTILE_TEXTS, hostile_notification
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.bark import BARK_KEY, BarkServer
from support.vendors.dingtalk import DINGTALK_SECRET, DingtalkRobot
from support.vendors.double import settings_of, vendor_channel
from support.vendors.feishu import FEISHU_SECRET, FeishuBot
from support.vendors.wecom import WecomRobot
from support.webhook_sink import Received
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome
from tocsin_alerting.notify.bark import bark_body
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.dingtalk import dingtalk_body
from tocsin_alerting.notify.feishu import feishu_body
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.registry import own_rates
from tocsin_alerting.notify.robot import body_bytes, defused, markdown_link
from tocsin_alerting.notify.wecom import wecom_bodies

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


_SEEN = ("requests", "mentioned", "links", "colours")


@dataclass(frozen=True)
class Sent:
    """`bodies` are the requests, as a reader of their JSON has them."""

    outcome: Outcome
    bodies: list[str]
    mentioned: list[str]
    links: list[tuple[str, str]]
    colours: list[tuple[str, str]]


@dataclass(frozen=True)
class Kind:
    double: Callable[[], Any]
    channel: Callable[[Any, str], Channel]


def _robot(kind: str, **settings: Any) -> Callable[[Any, str], Channel]:
    def build(double: Any, language: str) -> Channel:
        env = {"URL": double.url, "DING": DINGTALK_SECRET, "FEISHU": FEISHU_SECRET}
        return vendor_channel(kind, env, language, url_env="URL", **settings)

    return build


def _bark(double: Any, language: str) -> Channel:
    env = {"KEY": BARK_KEY}
    return vendor_channel("bark", env, language, api_url=double.api_url, device_key_env="KEY")


KINDS = {
    "wecom": Kind(WecomRobot, _robot("wecom")),
    "wecom text": Kind(WecomRobot, _robot("wecom", format="text")),
    "wecom, numbers": Kind(WecomRobot, _robot("wecom", mentioned_mobiles=["13800000000"])),
    "dingtalk": Kind(
        lambda: DingtalkRobot(NEW_YEAR_MS), _robot("dingtalk", secret_env="DING", keyword="alert")
    ),
    "dingtalk markdown": Kind(
        lambda: DingtalkRobot(NEW_YEAR_MS),
        _robot("dingtalk", secret_env="DING", format="markdown"),
    ),
    "feishu": Kind(
        lambda: FeishuBot(NEW_YEAR_MS // 1000), _robot("feishu", secret_env="FEISHU", keyword="ops")
    ),
    "bark": Kind(BarkServer, _bark),
}
MESSAGES: dict[str, Notification] = {
    "opened": notification(),
    "P1": notification(severity="P1"),
    "escalated": notification(reason=Reason.ESCALATED, step=1),
    "repeat": notification(reason=Reason.REPEAT),
    "acked": notification(reason=Reason.ACKED, state="ACKED", actor="li"),
    "resolved": resolved(),
    "missed": resolved(reason=Reason.FIRED_AND_RESOLVED),
    "unknown": notification(reason=Reason.UNKNOWN),
    "given_up": notification(reason=Reason.GIVEN_UP, state="RESOLVED"),
    "unwatched": notification(reason=Reason.UNWATCHED, state="RESOLVED"),
    "closed": notification(reason=Reason.CLOSED_BY_HAND, actor="li"),
    "drill": notification(drill=True),
    "test": notification(reason=Reason.TEST, incident=0, severity="P4"),
}


async def _sent(kind: str, messages: Sequence[Notification], language: str = "en") -> list[Sent]:
    """What each of the messages became, over one channel."""
    found = []
    async with KINDS[kind].double() as double:
        double.limited = False
        channel = KINDS[kind].channel(double, language)
        for message in messages:
            mark = {name: len(getattr(double, name, ())) for name in _SEEN}
            outcome = await channel.send(message, NEW_YEAR_MS)
            new = {name: getattr(double, name, [])[mark[name] :] for name in _SEEN}
            bodies = [json.dumps(one.json(), ensure_ascii=False) for one in new.pop("requests")]
            found.append(Sent(outcome, bodies, **new))
        await channel.close()
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
async def test_each_message_is_taken(kind: str, language: str) -> None:
    sent = await _sent(kind, list(MESSAGES.values()), language)
    for name, one in zip(MESSAGES, sent, strict=True):
        assert isinstance(one.outcome, Delivered), (name, one.outcome)
        assert all("#42" in body or name == "test" for body in one.bodies), name


@pytest.mark.parametrize("kind", KINDS)
async def test_no_text_mentions_links_or_colours_anything(kind: str) -> None:
    sent = await _sent(kind, [hostile_notification(text) for text in HOSTILE_TEXTS.values()])
    for (name, text), one in zip(HOSTILE_TEXTS.items(), sent, strict=True):
        assert isinstance(one.outcome, Delivered), (name, one.outcome)
        assert one.mentioned == (["13800000000"] if kind == "wecom, numbers" else []), name
        # a runbook that is a URL is a link
        for url in {url for _, url in one.links} - {text}:
            assert url.startswith(("https://gpu.example:4911/", "http://127.0.0.1:4911")), name
        assert len(one.colours) <= 1, name
        assert all("P0" in body and "#42" in body for body in one.bodies), name
        assert "/links/" in one.bodies[0], name


@pytest.mark.parametrize("kind", KINDS)
async def test_no_length_loses_severity_number_or_link(kind: str) -> None:
    sent = await _sent(kind, [_long(text) for text in LONG_TEXTS])
    for one in sent:
        assert isinstance(one.outcome, Delivered), one.outcome
        assert "[P0]" in one.bodies[0] or "［P0］" in one.bodies[0]
        assert "(#42)" in one.bodies[0] and "\ufffd" not in one.bodies[0]
        assert re.search(r"https://gpu\.example:4911/links/[\w-]{40,}", one.bodies[0])


LONG_TEXTS = ("x" * 20_000, "中" * 5_000, "😀" * 3_000, '<&"\\' * 3_000)


def _long(text: str) -> Notification:
    labels = {**ENGINE_DOWN.labels, "instance": text, "model_name": text, "target": text}
    notes = {"summary": text, "description": f"{text}\n" * 3}
    alert = replace(ENGINE_DOWN, labels=labels, annotations=notes)
    return notification(alerts=(alert,) * 20, title=text, next_to=(text,), others=(text,))


FULL = MessageParts(
    "[P0] gpu-1: down (#42)",
    "down",
    "firing",
    "P0",
    "#42",
    answer_url="https://a.example/links/x",
    answer_label="Answer",
)


@pytest.mark.parametrize("char", ["x", "中", "<", '"'])
async def test_a_message_that_is_full_to_the_brim_is_taken(char: str) -> None:
    """With everything that is added after the text."""
    parts = replace(FULL, lines=(("k", char * 7),) * 2_000)
    users = ["u" * 20] * 5
    wecom, feishu = (_section(kind, mentioned_users=users) for kind in ("wecom", "feishu"))
    dingtalk = _section("dingtalk", keyword="k" * 9)
    bodies: list[tuple[Any, str, Any]] = [
        (WecomRobot(), WecomRobot().url, wecom_bodies(parts, wecom, True)[0]),
        (DingtalkRobot(secret=""), DingtalkRobot().url, dingtalk_body(parts, dingtalk, True)),
        (FeishuBot(secret=""), FeishuBot().url, feishu_body(parts, feishu, True)),
        (BarkServer(), "http://b/push", {**_bark_body(parts), "device_key": BARK_KEY}),
    ]
    for double, url, body in bodies:
        path = url.partition("//")[2].partition("/")[2]
        request = Received(0.0, "POST", f"/{path}", {}, body_bytes(body))
        answer = double.judge(request).body
        assert b"success" in answer or b'"ok"' in answer, (url, answer)
        assert body_bytes(body).count(b"k: ") > 50, url


def _section(kind: str, **more: Any) -> Any:
    return settings_of(kind, url_env="U", **more)


def _bark_body(parts: MessageParts) -> dict[str, Any]:
    return bark_body(parts, notification(), settings_of("bark", device_key_env="K"))


def test_markdown_of_others_is_defused() -> None:
    assert defused("&lt;@all&gt; A & B &#42;") == "＆lt;@all＆gt; A & B ＆#42;"
    assert defused("# a\n  ## b\n#42 c#d") == "＃ a\n＃＃ b\n#42 c#d"
    assert defused("a\n---\n===") == "a\n－－－\n＝＝＝"
    assert defused("_a_ model_name __b") == "＿a＿ model_name ＿＿b"


def test_links_end_where_they_end() -> None:
    url = "https://a.example/x_(y)?q=<b>[c]\\"
    assert markdown_link("l", url) == "[l](https://a.example/x_%28y%29?q=%3Cb%3E%5Bc%5D%5C)"


def test_a_digest_mentions_nobody() -> None:
    digest = notification(reason=Reason.DIGEST, incident=0)
    assert not _section("wecom", mention_all=True).mentions(digest)
    assert _section("wecom", mention_all=True).mentions(notification())


def test_the_services_own_rates_hold() -> None:
    shown = {
        kind: [str(rate) for rate in own_rates(kind)] for kind in ("wecom", "dingtalk", "feishu")
    }
    assert shown == {"wecom": ["20/1m"], "dingtalk": ["20/1m"], "feishu": ["5/1s", "100/1m"]}
