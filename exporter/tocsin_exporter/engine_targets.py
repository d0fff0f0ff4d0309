"""What an engine is to reach; apart from how it is asked, which loads an HTTP client."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineTargets:
    """What an engine is to reach, in seconds and tokens a second; None: nobody says."""

    latency_p50: float | None = None
    latency_p95: float | None = None
    first_token: float | None = None
    per_token: float | None = None
    tokens_per_second: float | None = None
