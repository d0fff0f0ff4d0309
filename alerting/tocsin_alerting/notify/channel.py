"""The one thing that a channel does, and the three ways in which it ends."""

from dataclasses import dataclass
from typing import Protocol

from tocsin_alerting.incidents.notification import Notification


@dataclass(frozen=True, slots=True)
class Done:
    """Delivered; `reference` is what the other side calls it, `detail` its answer in short."""

    reference: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Not delivered, worth another try: not before `not_before_ms` when the answer named a time."""

    error: str
    not_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """Not delivered, and the same message never will be: a refused address, a wrong password."""

    error: str


Outcome = Done | RetryAt | Permanent


class Channel(Protocol):
    """One receiver of the configuration.

    `send` never raises for what the other side does: it says so in the outcome, without a secret.
    `transcript`, when given, is filled with the lines of the conversation, secrets masked.
    """

    name: str
    send_resolved: bool

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome: ...

    async def close(self) -> None: ...
