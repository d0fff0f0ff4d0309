"""What a collector is: it returns samples or raises; the runner in `scrape` does the rest.

The runner sets the deadline, keeps one collector's failure from the others, and reports duration,
success, age and errors. A collector that must call what may hang does so on a `HangGuard`. One that
counts or remembers by itself is `Resumable`: a restart must not change what is true.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from tocsin_exporter.snapshot import Exemplar, Sample, SeriesKey


class Collector(Protocol):
    """One thing that is read. `name` is what operators switch on and off, as in `collect[]`."""

    @property
    def name(self) -> str: ...

    async def collect(self) -> Sequence[Sample]:
        """Read once. Raises Unavailable or CollectorError; may be cancelled at its deadline."""
        ...

    def close(self) -> None:
        """Let go of handles and threads, without waiting for them."""
        ...


@runtime_checkable
class CountsDroppedSeries(Protocol):
    """A collector that leaves out or sums up series whose labels have too many values."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many so far, by the name of their family."""
        ...


@runtime_checkable
class HasExemplars(Protocol):
    """A collector whose source gives examples of what it has observed."""

    @property
    def exemplars(self) -> Mapping[SeriesKey, Exemplar]:
        """Those of the last reading."""
        ...


class CollectorError(Exception):
    """The reading failed. `samples` is what can be said nevertheless (`llm_engine_up 0`)."""

    def __init__(self, message: str, samples: Sequence[Sample] = ()) -> None:
        super().__init__(message)
        self.samples = tuple(samples)


class Unavailable(CollectorError):
    """There is nothing to read here (no GPU, an older kernel): said once, and no error."""


class Partial(CollectorError):
    """It answers, and what it should say cannot be had (an engine that refuses its metrics)."""


class Unread(CollectorError):
    """We could not ask, which tells nothing of what was to be read: it is neither up nor down."""


class Stuck(CollectorError):
    """An earlier call has not come back, so this one was not made."""
