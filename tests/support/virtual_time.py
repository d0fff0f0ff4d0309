"""An event loop whose time stands while a task can run and jumps to the next timer when none can.

It leans on private names of asyncio; never use it with real sockets or threads, whose answers
take no virtual time.
"""

import asyncio


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._virtual = 0.0

    def time(self) -> float:
        return self._virtual

    def hold(self, seconds: float) -> None:
        """Let time pass as if a callback had computed for so long."""
        self._virtual += seconds

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            # Not to a timer that was cancelled: what is left to the next one would be waited for.
            timers = [one for one in self._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
            if timers:
                self._virtual = max(self._virtual, min(timers).when())
        super()._run_once()  # type: ignore[misc]
