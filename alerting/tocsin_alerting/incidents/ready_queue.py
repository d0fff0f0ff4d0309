"""The messages to one receiver that are due, in two orders that are served by turns."""

import heapq

Rank = tuple[str | int, ...]
Ranks = tuple[Rank, Rank]  # by turn, and the newest first
MAX_STALE = 100


class ReadyQueue:
    """Alternately the first by turn and the newest: a storm holds up nothing that comes after it,
    and what came first goes on at half the pace at least.

    Both ranks of a message must begin with its severity.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, Ranks] = {}
        self._heaps: tuple[list[tuple[Rank, str]], ...] = ([], [])
        self._side = 0
        self.last_claim = 0  # the number of the last claim; 0 when nothing was left to claim

    def __contains__(self, key: str) -> bool:
        return key in self._ranks

    @property
    def by_turn(self) -> bool:
        """Whether the next one is the first by turn, not the newest."""
        return self._side == 0

    def add(self, key: str, ranks: Ranks) -> None:
        if self._ranks.get(key) == ranks:
            return
        self._ranks[key] = ranks
        for side, heap in enumerate(self._heaps):
            heapq.heappush(heap, (ranks[side], key))
            if len(heap) > 2 * len(self._ranks) + MAX_STALE:
                heap[:] = [(current[side], other) for other, current in self._ranks.items()]
                heapq.heapify(heap)

    def peek(self) -> str | None:
        """The key of the next message; it stays until it is taken or removed."""
        heap = self._heaps[self._side]
        while heap and not self._is_current(*heap[0]):
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    def take(self, key: str, claim: int) -> None:
        """It goes out, as claim number `claim`: the next one is of the other order."""
        self.remove(key)
        self.last_claim = claim if self._ranks else 0
        self._side = 1 - self._side

    def remove(self, key: str) -> None:
        self._ranks.pop(key, None)

    def _is_current(self, rank: Rank, key: str) -> bool:
        ranks = self._ranks.get(key)
        return ranks is not None and ranks[self._side] == rank
