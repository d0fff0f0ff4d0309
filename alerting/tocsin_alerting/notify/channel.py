"""The one thing that a channel does, and the three ways in which it ends."""

from typing import Protocol

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt


def describe_outcome(outcome: Outcome) -> str:
    """The last line of a transcript: how it ended, in words."""
    match outcome:
        case Delivered(detail=detail):
            return f"= delivered: {detail}"
        case RetryAt(error=error):
            return f"= not delivered, worth another try: {error}"
        case Permanent(error=error, final=final):
            return f"= not delivered, {'and never will be' if final else 'refused'}: {error}"


class Channel(Protocol):
    """One receiver of the configuration.

    `send` never raises for what the other side does: it says so in the outcome, without a secret.
    `at_once` messages are sent side by side, twice as many with those of P0 and P1.
    `transcript`, when given, is filled with the lines of the conversation, secrets masked.
    """

    name: str
    send_resolved: bool
    at_once: int

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome: ...

    def begin(self) -> None:
        """Take the threads that sending needs: later there may be none. Raises RuntimeError."""

    async def close(self) -> None: ...
