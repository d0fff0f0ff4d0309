"""What people answer through channels: done, told, and heard again after a fault."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.policies import MINUTE, config
from support.wired_agent import wired_agent
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.loops.channel_answers import ChannelAnswers
from tocsin_alerting.notify.channel import AnswerIncident, Channel

DOWN = alert("EngineDown", "P0", target="a")
ACK = Action(Verb.ACK, 1, "li", request_id="press-1", via="chat")


async def paged() -> Floor:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN))
    return floor


def answers(
    floor: Floor, language: str = "en", channels: Mapping[str, Any] | None = None
) -> ChannelAnswers:
    there = cast(Mapping[str, Channel], channels or {})
    return ChannelAnswers(there, floor.dispatcher, lambda: floor.now, language)


async def test_an_acknowledgement_is_done_once_and_told_in_the_readers_language() -> None:
    floor = await paged()
    assert await answers(floor).answer(ACK) == "Acknowledged. You have it."
    assert await answers(floor, "zh").answer(ACK) == "已确认，由您处理。"
    incident = await floor.dispatcher.incident(1)
    assert (incident.state, incident.owner) == (IncidentState.ACKED, "li")
    timeline = await floor.dispatcher.timeline(1)
    acked = [entry for entry in timeline.history if entry.event == "acked"]
    assert [(entry.actor, entry.data["via"]) for entry in acked] == [("li", "chat")]


async def test_who_comes_second_is_told_who_has_it() -> None:
    floor = await paged()
    await answers(floor).answer(ACK)
    second = Action(Verb.ACK, 1, "wang", request_id="press-2")
    assert await answers(floor).answer(second) == "li has it already."
    assert (await floor.dispatcher.incident(1)).owner == "li"


async def test_what_is_over_and_what_never_was_is_told() -> None:
    floor = await paged()
    await floor.hear(clears(DOWN))
    said = await answers(floor).answer(ACK)
    assert said == "Not done: its state has changed meanwhile."
    await floor.advance(60 * MINUTE)
    assert await answers(floor).answer(ACK) == "Not done: it is over."
    assert await answers(floor).answer(Action(Verb.ACK, 99, "li")) == "Not done: it is over."


async def test_a_button_of_a_former_time_takes_nothing_that_opened_again() -> None:
    floor = await paged()
    first = floor.sent[0]
    for event in (clears(DOWN), fires(DOWN)):
        await floor.advance(MINUTE)
        await floor.hear(event)
    press = replace(ACK, generation=first.generation)
    assert press.generation == 1
    said = "Not done: this message is of an earlier occurrence. Use a newer one."
    assert await answers(floor).answer(press) == said
    incident = await floor.dispatcher.incident(1)
    assert (incident.state, incident.cycle) == (IncidentState.TRIGGERED, incident.generation)
    newer = replace(ACK, generation=floor.sent[-1].generation)
    assert await answers(floor).answer(newer) == "Acknowledged. You have it."
    back = replace(ACK, verb=Verb.UNACK, generation=incident.cycle, request_id="press-3")
    assert await answers(floor).answer(back) == "Given back."  # of the same occurrence


class _Broken:
    """Fails to listen, then listens."""

    name = "chat"

    def __init__(self, failures: int) -> None:
        self.left, self.listening = failures, asyncio.Event()

    async def listen(self, answer: AnswerIncident) -> None:
        if self.left:
            self.left -= 1
            raise ValueError("https://secret.example/t0ken")
        self.listening.set()
        await asyncio.Event().wait()


async def test_a_channel_that_fails_to_listen_is_listened_to_again_later_and_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    floor, channel, pauses = await paged(), _Broken(9), list[float]()
    loop = answers(floor, channels={"chat": channel, "log": object()})

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    loop.sleep = cast(Any, sleep)
    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(loop.run())
        await channel.listening.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert "t0ken" not in caplog.text and "chat failed to listen: ValueError" in caplog.text


_SERVICES = """
engines: [{{url: "http://127.0.0.1:9"}}]
rule_files: []
contacts: {{li: {{email: li@example.com}}}}
receivers:
  telegram: {{type: telegram, token_file: token, chat_id: 7, users: {{7: li}}, api_url: "{url}"}}
  slack: {{type: slack, token_file: token, channel: C012AB3CD, app_token_file: app-token,
    users: {{U012AB3CD: li}}, api_url: "{url}/api"}}
"""


@pytest.mark.parametrize("mood", ["hangs", "refuses"])
async def test_a_dead_network_of_chats_keeps_no_start_waiting(mood: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1")
    (tmp_path / "app-token").write_text("xapp-1-A012-345-abc")
    asked, both, over = list[bytes](), asyncio.Event(), asyncio.Event()

    ended = list[asyncio.StreamWriter]()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        if len(asked) > 1:
            both.set()
        await over.wait()
        writer.close()
        ended.append(writer)

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1] if mood == "hangs" else 9
    with wired_agent(tmp_path, _SERVICES.format(url=f"http://127.0.0.1:{port}")) as app:
        (tmp_path / "data").mkdir()
        app.setup.begin()
        await app.start()
        assert asked == []  # nobody was waited for, as nobody was asked
        listening = asyncio.create_task(app.answers.run())
        await app.dispatcher.handle([fires(DOWN)], app.clock.now_ms())
        claimed = await app.dispatcher.claim(app.clock.now_ms() + 60_000)
        assert {one.notification.receiver for one in claimed} >= {"telegram", "slack"}
        if mood == "hangs":
            await both.wait()
        assert not listening.done()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await app.close()
    over.set()
    while len(ended) < len(asked):
        await asyncio.sleep(0)
    server.close()
