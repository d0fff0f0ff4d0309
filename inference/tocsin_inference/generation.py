"""One prompt being answered: the engine's tokens as text, counted from arrival to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from tocsin_exporter.answer_text import text_anomalies
from tocsin_inference.detokenizer import Detokenizer
from tocsin_inference.engine import Engine, TokenStream
from tocsin_inference.errors import WorkerError, outcome_of
from tocsin_inference.metrics import Metrics, Ticket
from tocsin_inference.sampling import Sampling

Clock = Callable[[], float]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """How to answer. `limit`: most tokens to generate, None for the default. `deadline` is on the
    event loop's clock. `ignore_eos`: go on past the model's own end, up to the limit."""

    sampling: Sampling
    limit: int | None
    stop: tuple[str, ...]
    deadline: float
    ignore_eos: bool = False


class Generation:
    """A submitted prompt. Whoever holds it must `close` it, best by `with`: that frees its place
    and counts it, as a success if it was read to its end. The faults of its text are counted where
    `asked` is not None: what the user said last, "" where nobody knows."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        clock: Clock,
        ticket: Ticket,
        prompt: Sequence[int],
        ask: GenerationRequest,
        asked: str | None = None,
    ) -> None:
        self.prompt = prompt
        self.finish: FinishReason | None = None
        self.ids: list[int] = []
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._ticket = ticket
        self._asked = asked
        self._pieces: list[str] = []
        self._text = Detokenizer(engine.model.decode, ask.stop)
        self._stream = TokenStream(
            prompt,
            ask.limit or 0,
            {"sampling": ask.sampling} | ({"eos_token_id": -1} if ask.ignore_eos else {}),
            self._dispatched,
            self._tokens,
        )
        engine.submit(self._stream, ask.deadline)

    async def next(self) -> str | None:
        """The next piece of text (it may be empty), or None at the end. Raises a WorkerError."""
        if self.finish is not None:
            return None
        fresh = await self._stream.next()
        self.ids.extend(fresh)
        text = self._text.feed(fresh)
        if self._text.stopped:
            self.finish = "stop"
        elif self._stream.finished or not fresh:
            ended = bool(self.ids) and self.ids[-1] in self._engine.model.stop_ids
            self.finish = "stop" if ended else "length"
            text += self._text.flush()
            self.finish = "stop" if self._text.stopped else self.finish
        if self._asked is not None:
            self._pieces.append(text)
        if self.finish is not None:
            self.close(None)
        return text

    async def rest(self) -> str:
        """All the text from here to the end."""
        pieces: list[str] = []
        while (piece := await self.next()) is not None:
            pieces.append(piece)
        return "".join(pieces)

    def seconds(self, since: float) -> float:
        """From `since` to the end of the request, on the clock it was given."""
        return (self._ticket.ended or self._clock()) - since

    def close(self, error: BaseException | None) -> None:
        """Frees the place and counts the request: by its end, else by `error`, else as cancelled.
        Only the first call counts."""
        self._engine.release(self._stream)
        outcome = "success" if self.finish else outcome_of(error) if error else "cancelled"
        if isinstance(error, WorkerError):
            error.counted = True
        if outcome == "success" and self._ticket.outcome is None and self._asked is not None:
            text, self._pieces = "".join(self._pieces), []
            for kind in text_anomalies(text, self._asked, self.finish == "length"):
                self._metrics.anomaly(kind)
        self._metrics.end(self._ticket, outcome, self._clock(), self.finish)

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close(error)

    def _dispatched(self) -> None:
        self._metrics.dispatch(self._ticket, len(self.prompt), self._clock())

    def _tokens(self, count: int) -> None:
        self._metrics.tokens(self._ticket, count, self._clock())
