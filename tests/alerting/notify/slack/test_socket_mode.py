"""Socket Mode: who pressed what, done once, and confirmed when it is done; sockets come and go."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.notifications import NEW_YEAR_MS, notification
from support.vendors.rooms import room
from support.vendors.slack import APP_TOKEN, BOT_TOKEN, SlackDouble, buttons_of
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.notify.channel import Listening
from tocsin_alerting.notify.slack.socket_mode import SNOOZE_MS, SocketLost, press_of


@dataclass
class Heard:
    """What an agent is asked to do, and when it has done it."""

    actions: list[Action] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, action: Action) -> str:
        self.actions.append(action)
        await self.may_answer.wait()
        return f"Done <{action.verb}>."


@asynccontextmanager
async def listening(
    slack: SlackDouble, heard: Heard, **who: Any
) -> AsyncIterator[tuple[str, "asyncio.Task[None]"]]:
    """The time of a page with buttons, and what listens to them."""
    section = {"api_url": slack.api_url, "token_env": "TOKEN", "app_token_env": "APP"}
    channel = room("slack", **section, channel="alerts", **(who or {"users": {"U0LI": "li"}}))
    listens: object = channel
    assert isinstance(listens, Listening)
    sent = await channel.send(notification(), NEW_YEAR_MS)
    task = asyncio.create_task(channel.listen(heard.answer))
    try:
        await slack.connected()
        yield sent.reference.partition("/")[2], task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channel.close()


async def whispered(slack: SlackDouble, count: int = 1) -> Sequence[str]:
    async with asyncio.timeout(10):
        while len(slack.whispers) < count:
            await slack.wait_for(len(slack.requests) + 1, within=10)
    return [one["text"] for one in slack.whispers]


async def test_a_press_is_confirmed_when_it_is_recorded_and_not_before() -> None:
    heard = Heard()
    async with SlackDouble() as slack, listening(slack, heard) as (ts, _):
        envelope = await slack.press(ts, "ack")
        async with asyncio.timeout(10):
            while not heard.actions:
                await asyncio.sleep(0.01)
        assert slack.acknowledged == []
        heard.may_answer.set()
        await slack.until(lambda: slack.acknowledged == [envelope])
        assert await whispered(slack) == ["Done &lt;ack&gt;."]
        assert slack.whispers[0]["user"] == "U0LI"
    action = heard.actions[0]
    assert (action.verb, action.incident, action.actor, action.via) == (
        Verb.ACK,
        42,
        "li",
        "slack ops",
    )
    assert action.generation == 1


async def test_the_same_press_by_another_envelope_is_done_once() -> None:
    heard = Heard()
    heard.may_answer.set()
    async with SlackDouble() as slack, listening(slack, heard) as (ts, _):
        sent = [await slack.press(ts, "resolve") for _ in range(3)]
        sent.append(await slack.press(ts, "resolve", at="1767225701.000100"))
        await slack.until(lambda: len(slack.acknowledged) == 4)
        assert sorted(slack.acknowledged) == sorted(sent)
        assert len(await whispered(slack, 2)) == 2
    assert len({action.request_id for action in heard.actions}) == len(heard.actions) == 2


async def test_only_who_is_listed_may_answer_and_only_by_our_buttons() -> None:
    heard = Heard()
    heard.may_answer.set()
    async with SlackDouble() as slack, listening(slack, heard) as (ts, _):
        value = buttons_of(slack.messages[ts])["ack"]["value"]
        forged = [
            "42",
            "",
            value[:-1] + ("A" if value[-1] != "A" else "B"),
            value + "=",
            "x" * 2000,
        ]
        await slack.press(ts, "ack", "U0MALLORY")
        for number, wrong in enumerate(forged):
            await slack.press(ts, "ack", value=wrong, at=f"17672258{number:02}.1")
        await slack.until(lambda: len(slack.acknowledged) == 1 + len(forged))
        said = await whispered(slack, 1 + len(forged))
    assert heard.actions == []
    assert sum("your number is U0MALLORY" in text for text in said) == 1
    assert sum("not valid any more" in text for text in said) == len(forged)


async def test_anyone_answers_by_the_name_that_slack_has() -> None:
    heard = Heard()
    heard.may_answer.set()
    async with SlackDouble() as slack, listening(slack, heard, anyone=True) as (ts, _):
        await slack.press(ts, "snooze", "U0WANG", at="1767225700.5")
        await slack.until(lambda: len(slack.acknowledged) == 1)
    action = heard.actions[0]
    assert (action.actor, action.verb) == ("slack:u0wang", Verb.SNOOZE)
    assert action.until_ms == 1_767_225_700_500 + SNOOZE_MS


async def test_the_next_socket_is_open_before_the_last_one_closes() -> None:
    heard = Heard()
    heard.may_answer.set()
    async with SlackDouble() as slack, listening(slack, heard) as (ts, task):
        old = slack.sockets[0]
        warning = {"type": "disconnect", "reason": "warning", "debug_info": {}}
        await old.send(json.dumps(warning))
        await slack.connected(2)
        await slack.press(ts, "ack", socket=old)
        await slack.press(ts, "resolve", socket=slack.sockets[1])
        await slack.until(lambda: len(slack.acknowledged) == 2)
        await old.close()
        await slack.press(ts, "resolve", at="1767225799.1")
        await slack.until(lambda: len(slack.acknowledged) == 3)
        assert not task.done()


async def test_a_server_that_refreshes_for_ever_is_left_alone() -> None:
    async with SlackDouble() as slack, listening(slack, Heard()) as (_, task):
        refresh = json.dumps({"type": "disconnect", "reason": "refresh_requested"})

        async def refreshing() -> None:
            for count in range(1, 10):
                await (await slack.connected(count)).send(refresh)

        asked = asyncio.create_task(refreshing())
        with pytest.raises(SocketLost, match="again and again"):
            async with asyncio.timeout(20):
                await task
        asked.cancel()
        assert len(slack.sockets) < 8


@pytest.mark.parametrize("how", ["close", "abort", "link_disabled"])
async def test_a_broken_socket_raises_and_tells_no_secret(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with SlackDouble() as slack, listening(slack, Heard()) as (_, task):
        if how == "close":
            await slack.sockets[0].close()
        elif how == "abort":
            slack.sockets[0].transport.abort()
        else:
            await slack.sockets[0].send('{"type":"disconnect","reason":"link_disabled"}')
        with pytest.raises(SocketLost) as lost:
            async with asyncio.timeout(10):
                await task
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("tocsin")]
    assert any("lost its socket" in line for line in ours)
    assert not any("ticket" in line or "xapp" in line for line in [*ours, str(lost.value)])


@pytest.mark.parametrize(
    ("error", "said"), [("invalid_auth", "invalid_auth"), ("ratelimited", "ratelimited")]
)
async def test_a_token_that_slack_refuses_is_told(
    error: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with SlackDouble() as slack:
        slack.refusals["apps.connections.open"] = error
        section = {"api_url": slack.api_url, "token_env": "TOKEN", "app_token_env": "APP"}
        channel: Any = room("slack", **section, channel="alerts", anyone=True)
        with pytest.raises(SocketLost, match=said):
            await channel.listen(Heard().answer)
        await channel.close()
    assert said in caplog.text
    assert APP_TOKEN not in caplog.text and BOT_TOKEN not in caplog.text


async def test_what_nobody_can_read_is_left_out_and_the_rest_is_heard() -> None:
    heard = Heard()
    heard.may_answer.set()
    odd = ["", "{", "[]", "null", '"x"', "{}", '{"envelope_id": 7}', "[" * 5000]
    odd += [json.dumps({"envelope_id": f"e{n}", "payload": p}) for n, p in enumerate(ODD_PAYLOADS)]
    async with SlackDouble() as slack, listening(slack, heard) as (ts, task):
        for text in odd:
            await slack.sockets[0].send(text)
        last = await slack.press(ts, "ack")
        await slack.until(lambda: last in slack.acknowledged)
        assert not task.done()
        assert len(slack.acknowledged) == len(ODD_PAYLOADS) + 1
    assert len(heard.actions) == 1


ACTION = {"action_id": "ack", "action_ts": "1.5", "value": "v"}
ODD_PAYLOADS: list[Any] = [
    None,
    [],
    "x",
    {"type": "view_submission"},
    {"type": "block_actions"},
    {"type": "block_actions", "actions": [7], "user": {"id": "U1"}},
    {"type": "block_actions", "actions": [ACTION]},
    {"type": "block_actions", "actions": [ACTION | {"action_id": "assign"}], "user": {"id": "U1"}},
    {"type": "block_actions", "actions": [ACTION | {"action_id": ["ack"]}], "user": {"id": "U1"}},
    {"type": "block_actions", "actions": [ACTION | {"action_ts": "nan"}], "user": {"id": "U1"}},
    {"type": "block_actions", "actions": [ACTION | {"action_ts": "9" * 40}], "user": {"id": "U1"}},
]


@pytest.mark.parametrize("payload", ODD_PAYLOADS)
def test_what_is_no_press(payload: Any) -> None:
    assert press_of({"envelope_id": "e", "payload": payload}) is None


def test_a_press_is_read_and_its_name_cannot_break_a_line() -> None:
    payload = {
        "type": "block_actions",
        "actions": [ACTION],
        "user": {"id": "U1", "username": "li\n\u202eevil" + "x" * 200},
        "channel": {"id": "C1"},
    }
    press = press_of({"envelope_id": "e", "payload": payload})
    assert press is not None
    assert (press.key, press.at_ms, press.channel) == ("slack/U1/1.5/ack", 1500, "C1")
    assert press.name == ("lievil" + "x" * 200)[:80]
