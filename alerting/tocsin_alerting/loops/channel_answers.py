"""What people answer in a chat or on the phone, taken from the channels that listen for it; and
beside it what channels are told again that would forget it (`channel_refresh.py`)."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tocsin_alerting.api.tocsin.answer_words import PageWords
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import IncidentError, NoSuchIncident
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.loops.channel_refresh import ChannelRefresh
from tocsin_alerting.notify.channel import Channel, Listening, Refreshing

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class ChannelAnswers:
    """`run` listens on all channels that can, each for itself; `sleep` waits so many seconds.
    `changed` is to be called when `channels` are others."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        dispatcher: Dispatcher,
        now_ms: Callable[[], int],
        language: str,
    ) -> None:
        self._channels = channels
        self._changed = asyncio.Event()
        self._refresh = ChannelRefresh(channels, dispatcher, now_ms)
        self._dispatcher, self._now_ms = dispatcher, now_ms
        self._words = PageWords(language)
        self.sleep = asyncio.sleep

    def changed(self) -> None:
        """Listen on those that there are now, and no longer on others."""
        self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        tasks: dict[int, tuple[Channel, list[asyncio.Task[None]]]] = {}
        try:
            while True:
                self._changed.clear()
                there = {id(channel): channel for channel in self._channels.values()}
                # The other side may take one listener alone: the old one ends first.
                gone = [tasks.pop(key)[1] for key in tasks.keys() - there.keys()]
                await _ended([task for several in gone for task in several])
                for key in there.keys() - tasks.keys():
                    tasks[key] = there[key], self._tasks_of(there[key])
                await self._changed.wait()
        finally:
            await _ended([task for _, several in tasks.values() for task in several])

    def _tasks_of(self, channel: Channel) -> list[asyncio.Task[None]]:
        tasks: list[asyncio.Task[None]] = []
        if isinstance(channel, Listening):
            tasks.append(asyncio.create_task(self._listen(channel)))
        if isinstance(channel, Refreshing):
            tasks.append(asyncio.create_task(self._refresh.follow(channel)))
        return tasks

    async def answer(self, action: Action) -> str:
        """Do what somebody wants, and the sentence that tells it, in the language of messages.
        Never raises: what cannot be done is a sentence too."""
        try:
            incident = await self._dispatcher.incident(action.incident)
            if incident.state is IncidentState.CLOSED:
                return self._words["failed_over"]
            if action.is_late_for(incident):
                return self._words["failed_earlier"]
            owner = incident.owner if incident.state is IncidentState.ACKED else ""
            if action.verb is Verb.ACK and owner and owner != action.actor:
                return self._words.fill("owned_by", owner)
            now_ms = self._now_ms()
            if action.lasts_ms:
                action = replace(action, until_ms=now_ms + action.lasts_ms)
            await self._dispatcher.act(action, now_ms)
        except NoSuchIncident:
            return self._words["failed_over"]
        except IncidentError:
            return self._words["failed_changed"]
        said = self._words[f"done_{action.verb}"]
        unwritten = self._dispatcher.writer.incident_waits(action.incident)
        return f"{said} {self._words['unrecorded']}" if unwritten else said

    async def _listen(self, channel: Listening) -> None:
        """Again and again: an answer that cannot be heard must not stop the agent, nor flood."""
        pause_s = FIRST_PAUSE_S
        while True:
            heard_from_ms = self._now_ms()
            try:
                await channel.listen(self.answer)
            except Exception as error:  # why: a fault of ours in one channel ends no other
                # not its text: it may hold the address that is the channel's password
                log.error("channel %s failed to listen: %s", channel.name, type(error).__name__)
            if self._now_ms() - heard_from_ms > LONGEST_PAUSE_S * 1000:
                pause_s = FIRST_PAUSE_S
            await self.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
