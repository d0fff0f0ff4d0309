"""Channels as a test has them: nothing is sent, and each fails or hangs as the test says."""

import asyncio
from collections.abc import Callable

from tocsin_alerting.config.config import Config
from tocsin_alerting.incident_test.script import ChannelTrouble
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.email.settings import EmailSettings
from tocsin_alerting.notify.http_sender import http_outcome

_ANSWER_MS = 10_000  # of a receiver that has no time limit of its own
_AT_ONCE = 16

Sleep = Callable[[int], "asyncio.Future[None]"]
"""A future that is done when so many milliseconds of the test have passed."""


class ScriptedChannel:
    """A receiver of the configuration. `elapsed_ms` is the time of the test."""

    def __init__(
        self,
        name: str,
        config: Config,
        elapsed_ms: Callable[[], int],
        sleep: Sleep,
    ) -> None:
        settings = config.receivers[name]
        self.name = name
        self.send_resolved = bool(getattr(settings, "send_resolved", True))
        self.at_once = _AT_ONCE
        self._by_mail = isinstance(settings, EmailSettings)
        self._patience_ms = int(getattr(settings, "timeout", _ANSWER_MS))
        self._elapsed_ms, self._sleep = elapsed_ms, sleep
        self._trouble: ChannelTrouble | None = None
        self._left: int | None = None

    def begin(self) -> None:
        """There is no thread to begin."""

    async def close(self) -> None:
        """There is no connection to close."""

    def suffer(self, trouble: ChannelTrouble) -> None:
        """From now on; what was wrong before is over."""
        self._trouble = None if trouble.works else trouble
        self._left = trouble.times

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        trouble = self._trouble
        if trouble is None or self._left == 0:
            return Delivered(detail="by the test")
        if trouble.until_ms is not None and self._elapsed_ms() >= trouble.until_ms:
            return Delivered(detail="by the test")
        if self._left is not None:
            self._left -= 1
        if trouble.hangs:
            await self._sleep(self._patience_ms)
            return RetryAt(f"no response within {self._patience_ms / 1000:g} s")
        return self._failure(trouble, now_ms)

    def _failure(self, trouble: ChannelTrouble, now_ms: int) -> Outcome:
        if trouble.status is None:
            return RetryAt("connection refused")
        if not self._by_mail:
            return http_outcome(trouble.status, trouble.retry_after, now_ms)
        text = f"{trouble.status} by the test"
        return Permanent(text) if trouble.status >= 500 else RetryAt(text)
