"""What people answer in a chat or on the phone, taken from the channels that listen for it; and
beside it what channels are told again that would forget it (`channel_refresh.py`)."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from tocsin_alerting.api.tocsin.answer_words import PageWords
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import IncidentError, NoSuchIncident
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.loops.channel_refresh import ChannelRefresh
from tocsin_alerting.notify.channel import Channel, Listening

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class ChannelAnswers:
    """`run` listens on all channels that can, each for itself; `sleep` waits so many seconds."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        dispatcher: Dispatcher,
        now_ms: Callable[[], int],
        language: str,
    ) -> None:
        self._listening = [one for one in channels.values() if isinstance(one, Listening)]
        self._refresh = ChannelRefresh(channels, dispatcher, now_ms)
        self._dispatcher, self._now_ms = dispatcher, now_ms
        self._words = PageWords(language)
        self.sleep = asyncio.sleep

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._refresh.run())
            for channel in self._listening:
                group.create_task(self._listen(channel))

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
