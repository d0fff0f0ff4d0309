"""Who presses a button acknowledges; nobody else does, and nothing that Telegram sends stops it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.notifications import NEW_YEAR_MS, notification
from support.vendors.telegram import LI, WANG, BotApiDouble, refused, telegram
from support.webhook_sink import Answer
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.notify.telegram.channel import Telegram


@dataclass
class Incidents:
    """What was asked of the agent; each press is answered with this sentence."""

    sentence: str = "Acknowledged. You have it."
    actions: list[Action] = field(default_factory=list)
    breaks: bool = False

    async def answer(self, action: Action) -> str:
        self.actions.append(action)
        if self.breaks:
            raise RuntimeError("a fault of ours")
        return self.sentence


@asynccontextmanager
async def listening(
    channel: Telegram, incidents: Incidents, pauses: list[float] | None = None
) -> AsyncIterator[None]:
    waited: list[float] = pauses if pauses is not None else []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0)

    channel.updates.sleep = sleep
    task = asyncio.ensure_future(channel.listen(incidents.answer))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, RuntimeError):
            await task
        await channel.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_press_acknowledges_and_is_answered(tmp_path: Path) -> None:
    incidents = Incidents()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        async with listening(channel, incidents):
            number = api.press(api.buttons(1)["Acknowledge"])
            await until(lambda: bool(api.told) and api.confirmed == 1)
    (action,) = incidents.actions
    assert (action.verb, action.incident, action.actor) == (Verb.ACK, 42, "li")
    assert action.generation == 1
    assert action.request_id == f"telegram/ops/query-{number}" and action.via == "telegram ops"
    assert api.told == ["Acknowledged. You have it."] and api.complaints == []
    assert list(api.buttons(1)) == ["Snooze 30 min", "Close"]
    polls = [body for method, body in api.calls if method == "getUpdates"]
    assert polls[0]["allowed_updates"] == ["callback_query"] and "offset" not in polls[0]
    assert polls[-1]["offset"] == number + 1 if len(polls) > 1 else api.confirmed == 1


async def test_snooze_lasts_half_an_hour_and_closing_asks_twice(tmp_path: Path) -> None:
    incidents = Incidents("Done.")
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        data = api.buttons(1)
        async with listening(channel, incidents):
            api.press(data["Snooze 30 min"])
            api.press(data["Close"])
            await until(lambda: len(api.told) == 2)
            before = list(incidents.actions)
            api.press(data["Close"])
            await until(lambda: len(api.told) == 3)
    assert [one.verb for one in before] == [Verb.SNOOZE] and before[0].lasts_ms == 1_800_000
    assert [one.verb for one in incidents.actions] == [Verb.SNOOZE, Verb.RESOLVE]
    assert api.told[1].startswith("Press again to close #42") and api.told[2] == "Done."
    assert api.buttons(1) == {}


async def test_a_stranger_may_not_and_is_told_his_number(tmp_path: Path) -> None:
    incidents = Incidents()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        async with listening(channel, incidents):
            for _ in range(8):
                api.press(api.buttons(1)["Acknowledge"], WANG)
            await until(lambda: api.confirmed == 8)
    assert incidents.actions == [] and 1 <= len(api.told) <= 8
    assert str(WANG) in api.told[0]


async def test_anyone_in_the_chat_may_and_nobody_elsewhere(tmp_path: Path) -> None:
    incidents = Incidents()
    elsewhere = {"message_id": 1, "chat": {"id": -77, "type": "group"}}
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path, users={}, anyone=True)
        await channel.send(notification(), NEW_YEAR_MS)
        data = api.buttons(1)["Acknowledge"]
        async with listening(channel, incidents):
            api.press(data, WANG, message=elsewhere)
            api.press(data, WANG, at=0)
            api.press(data, WANG, message=None)
            await until(lambda: len(api.told) == 3)
    assert [one.actor for one in incidents.actions] == ["telegram:li_w"]


def forged(data: str) -> list[str]:
    """What somebody may send instead, who has seen this one."""
    plain, _, mac = data.rpartition(".")
    return [
        data.replace("42", "43"),
        data.replace("t2a", "t2r"),
        data.replace("t2a42.1.", "t2a42.2."),
        data.replace("t2a42.1.", "t1a42."),
        plain,
        f"{plain}.",
        f"{plain}.{mac[:-1]}",
        f"{plain}.{mac[::-1]}",
        f"t2a42.1.{'A' * 20}",
        f"t2a٤٢.1.{mac}",
        f"t2a042.1.{mac}",
        data + "\n",
        " " + data,
        "",
        "ack 42",
        "x" * 5000,
        "\u202e" + data,
    ]


async def test_what_a_button_carries_fits_whatever_the_numbers(tmp_path: Path) -> None:
    incidents = Incidents()
    largest = {"incident": 10**18 - 1, "key": f"uid/{10**10 - 1}/0/0/ops//opened/1"}
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(**largest), NEW_YEAR_MS)
        async with listening(channel, incidents):
            api.press(api.buttons(1)["Acknowledge"])
            await until(lambda: api.confirmed == 1)
    assert api.complaints == []  # at most 64 bytes
    (action,) = incidents.actions
    assert (action.incident, action.generation) == (10**18 - 1, 10**10 - 1)
    assert api.buttons(1) and all(".9999999999." in data for data in api.buttons(1).values())


async def test_no_button_can_be_forged(tmp_path: Path) -> None:
    incidents = Incidents()
    async with BotApiDouble() as api:
        channel, other = telegram(api, tmp_path), telegram(api, tmp_path, "other")
        await channel.send(notification(), NEW_YEAR_MS)
        await other.send(notification(), NEW_YEAR_MS)
        another = telegram(api, tmp_path / "..")  # of an agent whose data are elsewhere
        await another.send(notification(), NEW_YEAR_MS)
        wrong = [*forged(api.buttons(1)["Acknowledge"])]
        wrong += [api.buttons(2)["Acknowledge"], api.buttons(3)["Acknowledge"]]
        async with listening(channel, incidents):
            for data in wrong:
                api.press(data)
            await until(lambda: api.confirmed == len(wrong))
        await other.close()
        await another.close()
    assert incidents.actions == []
    assert set(api.told) == {
        "This button is not valid any more. Use a newer message, or the link in it."
    }


async def test_what_was_not_done_is_asked_for_again_after_a_kill(tmp_path: Path) -> None:
    """Killed between the press and its record: Telegram keeps it until it is confirmed."""
    broken, whole = Incidents(breaks=True), Incidents()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        api.press(api.buttons(1)["Acknowledge"])
        async with listening(channel, broken):
            await until(lambda: bool(broken.actions))
        assert api.confirmed == 0
        again = telegram(api, tmp_path)
        async with listening(again, whole):
            await until(lambda: api.confirmed == 1)
    assert [one.request_id for one in whole.actions] == [broken.actions[0].request_id]


def updates(*given: Any) -> Answer:
    body = json.dumps({"ok": True, "result": list(given)}).encode()
    return Answer(200, {"Content-Type": "application/json"}, body)


BAD_ANSWERS = {
    "hung up": Answer(200, {"Content-Length": "9000"}, b'{"ok": tr'),
    "garbage": Answer(200, {}, b"\x00\xff not JSON"),
    "a page": Answer(502, {}, b"<html>Bad Gateway</html>"),
    "a list": Answer(200, {}, b"[]"),
    "no list": Answer(200, {}, b'{"ok": true, "result": {"a": 1}}'),
    "refused": refused(400, "Bad Request: something"),
    "too many": refused(429, "Too Many Requests: retry after 3", retry_after=3),
    "token": refused(401, "Unauthorized"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_is_told_once_and_the_next_press_arrives(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    incidents, pauses = Incidents(), list[float]()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        api.poll_answers = [BAD_ANSWERS[name]] * 3
        api.press(api.buttons(1)["Acknowledge"])
        async with listening(channel, incidents, pauses):
            await until(lambda: bool(api.told))
    assert len(incidents.actions) == 1
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
    assert "buttons of ops failed" in caplog.text and "recovered" not in api.told
    assert len(pauses) == 3 and all(1 <= pause <= 60 for pause in pauses)
    assert pauses == [3.0] * 3 if name == "too many" else pauses[0] <= pauses[1] <= pauses[2]


ODD_UPDATES: list[Any] = [
    1,
    None,
    [],
    {},
    {"update_id": 5},
    {"update_id": 6, "message": {"text": "hello"}},
    {"update_id": 7, "callback_query": 1},
    {"update_id": 8, "callback_query": {"id": 1, "from": {"id": LI}, "data": "x"}},
    {"update_id": 9, "callback_query": {"id": "a", "from": None, "data": "x"}},
    {"update_id": 10, "callback_query": {"id": "a", "from": {"id": "x"}, "data": "x"}},
    {"update_id": 11, "callback_query": {"id": "a", "from": {"id": LI}}},
    {"update_id": 12, "callback_query": {"id": "a", "from": {"id": LI}, "game_short_name": "x"}},
    {"update_id": "13", "callback_query": {"id": "a", "from": {"id": 3}, "data": "\ud800"}},
    {"update_id": 10**30, "callback_query": {"id": "a", "from": {"id": LI}, "message": []}},
]


async def test_odd_updates_are_passed_over(tmp_path: Path) -> None:
    incidents = Incidents()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        api.poll_answers = [updates(one) for one in ODD_UPDATES[:-1]]
        async with listening(channel, incidents):
            await until(lambda: not api.poll_answers)
            api.press(api.buttons(1)["Acknowledge"])
            await until(lambda: len(incidents.actions) == 1)
    assert api.complaints == []


async def test_one_press_that_is_told_twice_closes_nothing(tmp_path: Path) -> None:
    incidents = Incidents()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        query = {"id": "q", "from": {"id": LI}, "data": api.buttons(1)["Close"]}
        one = {"update_id": 7, "callback_query": query}
        api.poll_answers = [updates(one, one), updates(one)]
        async with listening(channel, incidents):
            await until(lambda: len(api.told) == 3)
    assert incidents.actions == []


async def test_numbers_that_begin_anew_are_confirmed(tmp_path: Path) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        numbers = [updates({"update_id": number}) for number in (900, 12)]
        api.poll_answers = [*numbers, updates()]
        async with listening(channel, Incidents()):
            await until(lambda: len(api.calls) >= 3)
    offsets = [body.get("offset") for method, body in api.calls if method == "getUpdates"]
    assert offsets[:3] == [None, 901, 13]


async def test_an_empty_answer_at_once_is_no_reason_to_ask_at_once(tmp_path: Path) -> None:
    pauses: list[float] = []
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        api.poll_answers = [updates(), updates(), updates()]
        async with listening(channel, Incidents(), pauses):
            await until(lambda: not api.poll_answers and len(pauses) >= 3)
    assert pauses[:3] == [1.0, 1.0, 1.0]


async def test_a_thousand_updates_are_worked_off_while_pages_go_out(tmp_path: Path) -> None:
    incidents = Incidents()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        data = api.buttons(1)["Acknowledge"]
        for _ in range(1000):
            api.press(data, WANG)
        async with listening(channel, incidents):
            began = asyncio.get_running_loop().time()
            for number in range(20):
                await channel.send(notification(key=f"42/1/0/{number}"), NEW_YEAR_MS)
            took = asyncio.get_running_loop().time() - began
            read = api.confirmed
            api.press(data, LI)
            await until(lambda: len(incidents.actions) == 1)
    assert len(api.messages) == 21 and read < 1000
    assert took < 5


async def test_one_that_is_too_long_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of an answer 64 KiB are read: a press that does not fit must not end all others."""
    incidents = Incidents()
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await channel.send(notification(), NEW_YEAR_MS)
        data = api.buttons(1)["Acknowledge"]
        for _ in range(3):
            api.press(data, more="x" * 30_000)
        lost = api.press(data, more="x" * 70_000)
        api.press(data)
        async with listening(channel, incidents):
            await until(lambda: len(incidents.actions) == 4)
    assert f"update lost: longer than 64 KiB: ops: {lost}" in caplog.text


@pytest.mark.parametrize(
    ("webhook", "words"), [(True, "the bot has a webhook"), (False, "a bot of its own")]
)
async def test_why_no_press_arrives_is_told_once(
    webhook: bool, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    incidents, pauses = Incidents(), list[float]()
    async with BotApiDouble() as api:
        channel, other = telegram(api, tmp_path), telegram(api, tmp_path, "other")
        api.webhook = webhook
        async with listening(channel, incidents, pauses), listening(other, incidents):
            await until(lambda: len(pauses) >= 3)
    told = [r.getMessage() for r in caplog.records if words in r.getMessage()]
    assert len([one for one in told if "of ops" in one]) == 1
    assert pauses[0] == (60.0 if webhook else 10.0)


async def test_nobody_may_answer_so_nothing_is_asked(tmp_path: Path) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path, users={})
        async with listening(channel, Incidents()):
            await channel.send(notification(), NEW_YEAR_MS)
    assert [method for method, _ in api.calls] == ["sendMessage"]
