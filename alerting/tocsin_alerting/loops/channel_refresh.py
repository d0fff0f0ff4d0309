"""What still fires, told again to those that would forget it otherwise."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Notify, Reason
from tocsin_alerting.incidents.notification import Notification, build_notifications
from tocsin_alerting.notify.channel import Channel, Refreshing

log = logging.getLogger(__name__)


class ChannelRefresh:
    """`follow` refreshes a channel that asks for it, `run` each of `channels`; `sleep` waits so
    many seconds. The first time comes early: an agent may have been down for a while."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        dispatcher: Dispatcher,
        now_ms: Callable[[], int],
    ) -> None:
        self._channels = channels
        self._dispatcher, self._now_ms = dispatcher, now_ms
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for channel in self._channels.values():
                if isinstance(channel, Refreshing):
                    group.create_task(self.follow(channel))

    async def follow(self, channel: Refreshing) -> None:
        """Until it is cancelled."""
        pause_s = channel.refresh_ms / 1000
        await self.sleep(pause_s / 4)
        while True:
            try:
                await channel.refresh(partial(self.standing, channel.name), self._now_ms)
            except Exception as error:  # why: a fault of ours in one channel ends no other
                log.error("channel %s failed to resend: %s", channel.name, type(error).__name__)
            await self.sleep(pause_s)

    def standing(self, receiver: str) -> Sequence[Notification]:
        """What is open and was paged through `receiver`, as it stands now."""
        working, now_ms = self._dispatcher.working, self._now_ms()
        found: list[Notification] = []
        for incident in working.incidents.values():
            to = [one for one in incident.paged if one.receiver == receiver]
            if incident.is_open and to:
                target = Addressee(receiver, to[0].contact)
                told = Notify(Reason.REPEAT, (target,), incident.notices)
                found += build_notifications(incident, told, [target], now_ms, working.config, None)
        return found
