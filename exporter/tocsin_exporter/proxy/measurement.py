"""One request measured: when its tokens passed, how many there were, and how it ended."""

from collections.abc import Sequence

from tocsin_exporter.collectors.engine_answers import gguf_model
from tocsin_exporter.proxy import content
from tocsin_exporter.proxy.content import Asked, EventReader, Output
from tocsin_exporter.proxy.metrics import (
    CANCELLED,
    ERROR,
    REJECTED,
    SUCCESS,
    TIMEOUT,
    Example,
    ModelCounters,
    ProxyMetrics,
)

_MOST_TYPE = 40
_LONGEST_NAME = 200
_LONGEST_ID = 100
_REFUSED = frozenset((408, 429))
_FINISH = frozenset(
    "stop length tool_calls function_call content_filter eos_token stop_sequence end_turn"
    " max_tokens tool_use completed incomplete repetition abort error load unload".split()
)


class Measurement:
    """Of one request that asks for tokens; times are monotonic seconds.

    Tokens are what the answer's usage says; without one, the pieces that carried any are counted.
    Of an answer that is compressed nothing is known but its times.
    """

    def __init__(self, metrics: ProxyMetrics, begun: float) -> None:
        self.output = Output()
        self.asked = Asked()
        self.begun = begun
        self.first: float | None = None  # token of a stream
        self.last = begun
        self.chunks = 0
        self.status = 0
        self._metrics = metrics
        self._request: list[bytes] | None = []
        self._request_bytes = 0
        self._gaps: list[tuple[float, int]] = []
        self._events: EventReader | None = None
        self._body: list[bytes] | None = None
        self._body_bytes = 0

    def sent(self, data: bytes) -> None:
        """A piece of the request's body."""
        self._request_bytes += len(data)
        if self._request_bytes > content.MOST_BODY_BYTES:
            self._request = None
        elif self._request is not None:
            self._request.append(data)

    def asks(self) -> None:
        """The request is whole, and has gone to the engine."""
        if self._request is not None:
            self.asked = content.asked(b"".join(self._request))
            self._request = None

    def answers(self, status: int, media: bytes, coded: bool) -> None:
        """Its head has come; `coded`: it is compressed."""
        self.status = status
        self._events = None if coded else content.event_reader(media)
        if self._events is None and not coded:
            self._body = []

    def passed(self, pieces: Sequence[bytes], now: float) -> None:
        """These contents have passed at `now`."""
        if self._events is not None:
            tokens = 0
            for piece in pieces:
                for said in self._events.read(piece):
                    self.output.add(said)
                    tokens += bool(said.text or said.besides)
            if tokens:
                self._tokens(tokens, now)
        elif self._body is not None:
            self._body += pieces
            self._body_bytes += sum(map(len, pieces))
            if self._body_bytes > content.MOST_BODY_BYTES:
                self._body, self.output.whole = None, False

    def _tokens(self, chunks: int, now: float) -> None:
        """Several that came at once share the time since the last one."""
        if self.first is None:
            self.first = now
            if chunks > 1:
                self._gaps.append((0.0, chunks - 1))
        else:
            self._gaps.append(((now - self.last) / chunks, chunks))
        self.chunks += chunks
        self.last = now

    def read_rest(self) -> None:
        """The answer has ended: what it says as a whole."""
        if self._events is not None:
            for said in self._events.last():
                self.output.add(said)
            self.output.whole = self.output.whole and self._events.whole
        elif self._body is not None:
            self.output.add(content.whole(b"".join(self._body)))
            self._body = None

    @property
    def generated(self) -> int:
        given = self.output.generated_tokens
        return self.chunks if given is None else given

    def count(
        self, outcome: str, error_type: str, now: float, example: Example | None = None
    ) -> ModelCounters:
        """Into the metrics; `error_type` is that of what went wrong, "" for nothing. `example` is
        how the request is known."""
        output, model = self.output, self._model()
        model.ended[outcome] += 1
        if outcome != SUCCESS:
            kind = error_type or output.error or outcome
            model.errors[_bounded(kind), str(self.status or 0)] += 1
        else:
            reason = output.finish or "unknown"
            model.finished[reason if reason in _FINISH else "other"] += 1
        if outcome in model.latency:
            model.latency[outcome].observe(now - self.begun, 1, example)
        self._count_tokens(model, outcome, example)
        return model

    def example(self, given: str, at_ms: int) -> Example | None:
        """By the id that the client or the engine has `given` it in a header, else by that of the
        answer; None for none, or for what is no id."""
        name = given or self.output.request_id
        usable = name.isascii() and name.isprintable() and len(name) <= _LONGEST_ID
        return Example(name, at_ms) if name and usable else None

    def _count_tokens(self, model: ModelCounters, outcome: str, example: Example | None) -> None:
        generated, prompt = self.generated, self.output.prompt_tokens
        model.generated_tokens += generated
        model.prompt_tokens += prompt or 0
        if self.first is not None:
            model.first_token.observe(self.first - self.begun, 1, example)
            if generated > 1 and self.last > self.first:
                per_token = (self.last - self.first) / (generated - 1)
                model.per_token.observe(per_token, 1, example)
        for gap, times in self._gaps:
            model.inter_token.observe(gap, times)
        if outcome == SUCCESS:
            model.answers.observe(generated)
            if prompt is not None:
                model.prompts.observe(prompt)

    def _model(self) -> ModelCounters:
        """A name that the engine has answered with 200 to is one of its own; any other is what a
        client made up. llama.cpp's is the path of its file, which the agent shortens as well."""
        name = self.output.model
        if not name and 200 <= self.status < 300:
            name = self.asked.model
        return self._metrics.model(gguf_model(name[-_LONGEST_NAME:]) or "unknown")


def outcome(status: int, error: str) -> str:
    """How a request ended that the engine has answered: what is the client's to mend is
    `rejected`, as the worker has it."""
    if status in (408, 504):
        return TIMEOUT
    if 400 <= status < 500 or status == 503:
        return REJECTED
    return ERROR if status >= 500 or error else SUCCESS


def _bounded(kind: str) -> str:
    """Types are the engine's words: of a page of their own making no more than a word is kept."""
    plain = kind.replace("_", "").replace("-", "").replace(".", "")
    return kind if len(kind) <= _MOST_TYPE and plain.isalnum() and kind.isascii() else "other"


__all__ = ["CANCELLED", "Measurement", "outcome"]
