"""The log: the channel of an installation that nobody has configured yet."""

import logging
from typing import Literal

from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.notify.rehearsal import Rehearsed, rehearsed

LOGGED = "logged"
_LEVELS = {"P0": logging.ERROR, "P1": logging.ERROR}


class LogSettings(ReceiverSection):
    type: Literal["log"]
    send_resolved: bool = True


class Log:
    """One line a message: P0 and P1 as errors, the rest as warnings, acknowledgement and end as
    information."""

    def __init__(self, name: str, settings: LogSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 16
        self.send_resolved = settings.send_resolved
        self._templates = deps.templates
        self._logger = logging.getLogger("tocsin.page")

    def __repr__(self) -> str:
        return f"Log({self.name})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        calm = notification.status == "resolved" or notification.reason is Reason.ACKED
        level = logging.INFO if calm else _LEVELS.get(notification.severity, logging.WARNING)
        line = self._templates.line(notification)
        if not rehearsed(lambda: Rehearsed("log", line)):
            self._logger.log(level, "%s", line)
        if transcript is not None:
            transcript.append(line)
        return Delivered(detail=LOGGED)

    def begin(self) -> None:
        """It needs none."""

    async def close(self) -> None:
        """Nothing to close."""
