"""What a query may cost, and how it ends when it costs more; the words are Prometheus's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_SAMPLES = 50_000_000
MAX_POINTS = 11_000
MAX_BYTES = 256 * 2**20
_TOO_MANY = "query processing would load too many samples into memory in query execution"


class QueryError(ValueError):
    """A query that parses and cannot be answered, such as one with ambiguous matches."""


class QueryLimitExceeded(QueryError):
    """The query would touch more than it may."""


class QueryTimeout(QueryError):
    """The query ran longer than it may."""


@contextmanager
def within_memory() -> Iterator[None]:
    """Where the system has no memory left, raises QueryLimitExceeded."""
    try:
        yield
    except MemoryError:
        raise QueryLimitExceeded(f"{_TOO_MANY}: no memory is left") from None


def never() -> bool:
    return False


@dataclass(slots=True)
class Budget:
    """`expired` is asked between slices of the work; samples are counted as they are read.

    `held` are the bytes of the values that wait for their operator: never more than `max_bytes`.
    """

    max_samples: int = MAX_SAMPLES
    max_points: int = MAX_POINTS
    expired: Callable[[], bool] = never
    max_bytes: int = MAX_BYTES
    samples: int = field(default=0, init=False)
    held_bytes: int = field(default=0, init=False)

    def spend(self, samples: int) -> None:
        """Raises QueryLimitExceeded or QueryTimeout."""
        self.samples += samples
        self.hold(self.samples)

    def hold(self, samples: int) -> None:
        """The same when the query would have to hold so many at once."""
        if samples > self.max_samples:
            raise QueryLimitExceeded(_TOO_MANY)
        self.check_time()

    def room(self, size: int) -> None:
        """Raises QueryLimitExceeded when there is none for so many bytes beside those held."""
        if self.held_bytes + size > self.max_bytes:
            raise QueryLimitExceeded(f"{_TOO_MANY}, more than {self.max_bytes // 2**20} MiB")

    def keep(self, size: int) -> None:
        """Holds so many bytes more; raises QueryLimitExceeded."""
        self.room(size)
        self.held_bytes += size

    def check_time(self) -> None:
        """Raises QueryTimeout."""
        if self.expired():
            raise QueryTimeout("query timed out in expression evaluation")

    def check_points(self, points: int) -> None:
        """Raises QueryLimitExceeded when a range query has too many steps."""
        if points > self.max_points:
            raise QueryLimitExceeded(
                f"exceeded maximum resolution of {self.max_points:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
