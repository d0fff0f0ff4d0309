"""What selectors chose in memory lately."""

from collections import OrderedDict

from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.selection import Resolved

_LEAST = 400_000
_MATCHER = 16


class Choices:
    """Each with the generation of the store that it holds for; whoever asks has a lock.

    They count for their series, some 90 bytes each with what queries remember of them, and for
    their matchers. What was chosen longest ago goes when they count for more than `least` and for
    more than 16 times the series of the store: dashboards ask for ever new selectors.
    """

    def __init__(self, least: int = _LEAST) -> None:
        self._least = least
        self._count = 0
        self._chosen: OrderedDict[MatcherSets, tuple[int, Resolved]] = OrderedDict()

    def get(self, matcher_sets: MatcherSets) -> tuple[int, Resolved] | None:
        return self._chosen.get(matcher_sets)

    def keep(
        self, matcher_sets: MatcherSets, found: tuple[int, Resolved], stored_series: int
    ) -> None:
        self._drop(matcher_sets)
        self._chosen[matcher_sets] = found
        self._count += _weight(matcher_sets, found[1])
        most = max(self._least, 16 * stored_series)
        while self._count > most and len(self._chosen) > 1:
            self._drop(next(iter(self._chosen)))

    def _drop(self, matcher_sets: MatcherSets) -> None:
        known = self._chosen.pop(matcher_sets, None)
        if known is not None:
            self._count -= _weight(matcher_sets, known[1])


def _weight(matcher_sets: MatcherSets, resolved: Resolved) -> int:
    return len(resolved.series) + _MATCHER * sum(map(len, matcher_sets))
