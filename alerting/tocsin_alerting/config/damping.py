"""The sections that say how often one symptom may wake people, and how long incidents are kept."""

from pydantic import Field, model_validator

from tocsin_alerting.incidents.routing import BrokenLimit, FlapDamping
from tocsin_alerting.notify.receiver_section import RateTexts
from tocsin_alerting.settings import Interval, Section


class FlapSection(Section):
    """What fired again `count` times within `window` is flapping. It must then be clear for `hold`
    before it is resolved, each time that it fires again `multiplier` times as long, `max` at most.
    """

    enabled: bool = True
    count: int = Field(default=3, ge=2, le=100)
    window: Interval = 1_800_000
    hold: Interval = 300_000
    multiplier: float = Field(default=2, ge=1, le=100)
    max: Interval = 3_600_000

    @model_validator(mode="after")
    def _grows(self) -> "FlapSection":
        if self.max < self.hold:
            raise ValueError("max is the longest hold; make it at least as long as hold")
        return self

    def damping(self) -> FlapDamping | None:
        if not self.enabled:
            return None
        return FlapDamping(self.count, self.window, self.hold, self.multiplier, self.max)


class ChannelBrokenSection(Section):
    """A receiver that has failed for `after`, or refused `refusals` messages, is an incident."""

    enabled: bool = True
    after: Interval = 300_000
    refusals: int = Field(default=3, ge=1, le=1000)

    def limit(self) -> BrokenLimit | None:
        return BrokenLimit(self.after, self.refusals) if self.enabled else None


class RateLimitsSection(Section):
    """`per_contact`: how many messages a person gets by each way, by its name."""

    per_contact: dict[str, RateTexts] = {}


class IncidentsSection(Section):
    """A closed incident is kept for `retention`, with its history; an open one for ever."""

    retention: Interval = 400 * 86_400_000
