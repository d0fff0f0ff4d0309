"""What a query may cost, and how it ends when it costs more; the words are Prometheus's."""

from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SAMPLES = 50_000_000
MAX_POINTS = 11_000


class QueryError(ValueError):
    """A query that parses and cannot be answered, such as one with ambiguous matches."""


class QueryLimitExceeded(QueryError):
    """The query would touch more than it may."""


class QueryTimeout(QueryError):
    """The query ran longer than it may."""


def never() -> bool:
    return False


@dataclass(slots=True)
class Budget:
    """`expired` is asked between slices of the work; samples are counted as they are read."""

    max_samples: int = MAX_SAMPLES
    max_points: int = MAX_POINTS
    expired: Callable[[], bool] = never
    samples: int = field(default=0, init=False)

    def spend(self, samples: int) -> None:
        """Raises QueryLimitExceeded or QueryTimeout."""
        self.samples += samples
        self.hold(self.samples)

    def hold(self, samples: int) -> None:
        """The same when the query would have to hold so many at once."""
        if samples > self.max_samples:
            where = "query execution"
            message = f"query processing would load too many samples into memory in {where}"
            raise QueryLimitExceeded(message)
        self.check_time()

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
