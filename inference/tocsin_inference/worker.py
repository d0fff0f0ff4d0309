"""The parts that a request needs, together, and the one way in for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tocsin_inference.confidence import Scorer
from tocsin_inference.engine import Engine
from tocsin_inference.errors import Exhausted, TimedOut, WorkerError, outcome_of
from tocsin_inference.generation import Clock, Generation, GenerationRequest
from tocsin_inference.metrics import Metrics
from tocsin_inference.model import Model
from tocsin_inference.request_reader import RequestReader
from tocsin_inference.settings import Settings

Prompts = Sequence[Sequence[int]]
SHORT = 4096  # characters: 2 ms of tokenizing


@dataclass(frozen=True, slots=True)
class Worker:
    """What the handlers share. `clock` is monotonic, in seconds; `started` is a reading of it."""

    settings: Settings
    model: Model
    engine: Engine
    metrics: Metrics
    clock: Clock
    started: float
    scorer: Scorer
    reader: RequestReader = field(default_factory=RequestReader)

    async def begin(
        self,
        sizes: Sequence[int],
        encode: Callable[[], Prompts],
        ask: GenerationRequest,
        asked: Sequence[str] = (),
    ) -> list[Generation]:
        """Submits prompts, all or none: `sizes` is the length of each in characters or token ids,
        `encode` makes the token ids of all. One that is too long for any text is not tokenized.
        `asked` is what the user said last in each, for the faults of an answer.

        Raises the WorkerError of the first prompt that cannot be served; then all are counted
        under its outcome. More prompts than there are places are counted as one request.
        """
        count = len(sizes)
        self.engine.check_count(count)
        tickets = [self.metrics.start(self.clock()) for _ in range(count)]
        try:
            self.engine.check_sizes(sizes)
            prompts = await self._tokenized(sum(sizes), encode, ask.deadline)
            default = self.settings.default_max_length
            limits = [self.engine.check(p, ask.limit, default) for p in prompts]
            self.engine.make_room(count)
        except BaseException as error:  # why: cancelled or failed, each ticket must end; re-raised
            for ticket in tickets:
                self.metrics.end(ticket, outcome_of(error), self.clock())
            if isinstance(error, WorkerError):
                error.counted = True
            raise
        return [
            Generation(
                self.engine,
                self.metrics,
                self.clock,
                ticket,
                prompt,
                replace(ask, limit=limit),
                said if self.settings.output_anomalies else None,
            )
            for ticket, prompt, limit, said in zip(
                tickets, prompts, limits, asked or [""] * count, strict=True
            )
        ]

    async def _tokenized(
        self, size: int, encode: Callable[[], Prompts], deadline: float
    ) -> Prompts:
        """On a thread, unless there is so little that the way there would take longer."""
        try:
            if size <= SHORT:
                return encode()
            async with asyncio.timeout_at(deadline):
                return await self.reader.run(encode)
        except TimeoutError:
            raise TimedOut("REQUEST_TIMEOUT passed before the prompt was read") from None
        except MemoryError as error:
            raise Exhausted("memory") from error

    def deadline(self) -> float:
        """REQUEST_TIMEOUT from now, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self.settings.request_timeout
