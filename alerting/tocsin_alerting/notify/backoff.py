"""How long to wait before a message is tried again: soon at first, for somebody is asleep."""

SCHEDULE_MS = (2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000)


def backoff_ms(attempt: int, jitter: float) -> int:
    """The wait after failed attempt `attempt` (from 1); `jitter` in [0, 1) takes off up to a fifth.

    Never longer than planned: jitter spreads the tries of many messages and delays none.
    """
    planned = SCHEDULE_MS[min(max(attempt, 1), len(SCHEDULE_MS)) - 1]
    return round(planned * (1 - 0.2 * jitter))
