"""The keys of every receiver, whatever its type."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from tocsin_alerting.incidents.rates import (
    Rates,
    ReceiverRules,
    deadlines_ms,
    read_rate,
    read_rates,
)
from tocsin_alerting.settings import Interval, Section, Words


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _checked(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        read_rate(text)
    return texts


RateTexts = Annotated[Words, BeforeValidator(_one_or_several), AfterValidator(_checked)]


class ReceiverSection(Section):
    """`rate`: how many messages go there, `20/min` or several such. `deliver_within`: a page that
    was not answered with success by then is told to others, of these to `fallback` first."""

    if TYPE_CHECKING:
        type: Any  # each kind has a word of its own, which is required
    else:
        type: str = ""
    rate: RateTexts | None = None
    deliver_within: Interval | None = None
    fallback: str | None = None

    def rules(self, own: Rates, never_fails: bool = False) -> ReceiverRules:
        """`own` are the rates of the service, which hold where the file has none."""
        within_ms = self.deliver_within
        return ReceiverRules(
            rates=own if self.rate is None else read_rates(self.rate),
            deliver_within_ms={} if never_fails else deadlines_ms(within_ms),
            fallback=self.fallback or "",
        )
