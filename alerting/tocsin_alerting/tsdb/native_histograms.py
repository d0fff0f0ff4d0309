"""Metrics that come as native histograms, which the store does not keep.

A query of one would find nothing, and a rule on it would be quiet for ever: who asks is told.
"""

MOST_NAMES = 1_000
REMEMBERED_MS = 3_600_000
NOT_STORED = (
    'metric "{}" comes as native histograms, which are not stored; send classic buckets as well,'
    " and ask for its _bucket, _sum and _count"
)


class NativeHistograms:
    """The names of the last MOST_NAMES that came within REMEMBERED_MS. For any threads."""

    def __init__(self) -> None:
        self._came: dict[str, int] = {}  # the one that came last is the last

    def add(self, name: str, now_ms: int) -> None:
        self._came.pop(name, None)
        self._came[name] = now_ms
        for oldest in list(self._came)[: max(0, len(self._came) - MOST_NAMES)]:
            self._came.pop(oldest, None)

    def holds(self, name: str) -> bool:
        came = dict(self._came)
        return name in came and came[name] > max(came.values()) - REMEMBERED_MS
