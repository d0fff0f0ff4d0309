"""The three ways in which sending a message ends."""

from dataclasses import dataclass


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
    """Refused as if for good: a wrong password, a bad certificate, 4xx. It may be mended soon, so
    it is tried again, but nobody waits for it. `final`: nobody is there, and no try helps.
    """

    error: str
    final: bool = False


Outcome = Done | RetryAt | Permanent
