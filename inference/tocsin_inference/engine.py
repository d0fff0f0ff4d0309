"""Admission and bookkeeping between the event loop and the batching thread.

The manager accepts anything: its queue has no working bound, a prompt larger than its cache ends
its thread, and a cancelled request is silent. So the queue is here, a request reaches the manager
only when a place and all the cache it may need are free, and every open request is known here and
can be failed from here. Everything in this module runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tocsin_inference.batching import MARGIN, LoopRouter, Shape, build
from tocsin_inference.errors import (
    EngineFailed,
    EngineStopped,
    Invalid,
    QueueFull,
    TimedOut,
    TooLong,
    TooMany,
    WorkerError,
)
from tocsin_inference.model import Model

log = logging.getLogger("tocsin.engine")
_WATCH = 0.25


class TokenStream:
    """One request in the engine: what it asks for, and its tokens as they come.

    `options` go to the manager's `add_request`; `on_tokens` gets the size of each piece.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        limit: int,
        options: Mapping[str, Any],
        on_dispatch: Callable[[], None],
        on_tokens: Callable[[int], None],
    ) -> None:
        self.name = ""
        self.prompt = prompt
        self.limit = limit
        self.options = options
        self.on_dispatch = on_dispatch
        self.seen = 0
        self.finished = False
        self.blocks = 0
        self.deadline: asyncio.TimerHandle | None = None
        self._on_tokens = on_tokens
        self._fresh: list[int] = []
        self._error: WorkerError | None = None
        self._wake = asyncio.Event()

    def feed(self, tokens: Sequence[int], finished: bool) -> None:
        """More tokens from the engine."""
        self.seen += len(tokens)
        self.finished = finished
        if tokens:
            self._on_tokens(len(tokens))
            self._fresh.extend(tokens)
        self._wake.set()

    def fail(self, error: WorkerError) -> None:
        """Ends the stream; the reader sees `error` after the tokens that came before it."""
        self._error = error
        self._wake.set()

    async def next(self) -> list[int]:
        """The tokens since the last call, waiting for at least one; empty when there are no more.

        Raises the WorkerError that ended the stream.
        """
        while not self._fresh:
            if self._error is not None:
                raise self._error
            if self.finished:
                return []
            self._wake.clear()
            await self._wake.wait()
        fresh, self._fresh = self._fresh, []
        return fresh


class Engine:
    """The model, its batching thread, and the queue before it."""

    def __init__(
        self,
        model: Model,
        sizes: Shape,
        max_waiting: int,
        on_death: Callable[[BaseException | None], None],
    ) -> None:
        self.model = model
        self._sizes = sizes
        self._max_waiting = max_waiting
        self._on_death = on_death
        self._waiting: deque[TokenStream] = deque()
        self._running: dict[str, TokenStream] = {}
        self._reserved = 0
        self._count = 0
        self._stopped: str | None = "the engine has not started"
        self._manager: Any = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Builds the cache and starts the batching thread."""
        loop = asyncio.get_running_loop()
        self._manager = await asyncio.to_thread(build, self.model, self._sizes)
        self._manager.output_router = LoopRouter(loop, self.deliver)
        await asyncio.to_thread(self._manager.warmup)
        self._manager.start()
        self._stopped = None
        self._watcher = loop.create_task(self._watch())

    def close(self) -> None:
        """Accepts nothing more and fails every open request."""
        self._stopped = "the worker is shutting down"
        if self._watcher is not None:
            self._watcher.cancel()
        self._fail_all(EngineStopped(self._stopped))

    def stop(self, wait: float) -> None:
        """Closes and ends the thread, waiting at most `wait` seconds for its iteration."""
        self.close()
        self._manager.stop(block=True, timeout=wait, hard_stop=True)

    @property
    def alive(self) -> bool:
        """Whether requests are accepted and the thread runs."""
        return self._stopped is None and bool(self._manager.is_running())

    @property
    def running(self) -> int:
        """Requests that the model works on."""
        return len(self._running)

    @property
    def cache_tokens(self) -> int:
        """Capacity of the KV cache in tokens."""
        return self._blocks() * self._sizes.page

    @property
    def longest(self) -> int:
        """The most tokens, prompt and answer together, that one request can have."""
        return min(self.model.context, self._budget() * self._sizes.page)

    def cache_usage(self) -> float:
        """Share of the KV cache that requests hold, 0 to 1; blocks kept for reuse are free."""
        if self._manager.batch_processor is None:
            return 0.0
        cache = self._manager.batch_processor.cache
        reusable = sum(
            len(a.ledger.cached_blocks) * a.bytes_per_block for a in cache.cache_allocators.values()
        )
        total = cache.num_sectors * cache.bytes_per_sector
        free = float(cache.compute_free_capacity(relative=False) + reusable)
        return min(1.0, max(0.0, 1.0 - free / float(total)))

    def cache_bytes(self) -> int:
        """Size of the KV cache."""
        processor = self._manager.batch_processor
        return 0 if processor is None else int(processor.cache.cache_tensor.nbytes)

    def check(self, prompt: Sequence[int], limit: int | None, default: int) -> int:
        """The tokens to generate: `limit`, or as much of `default` as there is room for.

        Raises Invalid for an empty prompt or an unknown token, TooLong for what cannot fit.
        """
        if not prompt:
            raise Invalid("the prompt is empty", "prompt")
        if min(prompt) < 0 or max(prompt) >= self.model.vocabulary:
            raise Invalid(f"token ids go from 0 to {self.model.vocabulary - 1}", "prompt")
        room = self.longest - len(prompt)
        wanted = limit if limit is not None else min(default, room)
        if room < 1 or wanted > room:
            raise TooLong(
                f"{len(prompt)} prompt tokens and {max(wanted, 1)} to generate do not fit into "
                f"{self.longest} tokens",
                "prompt",
            )
        return wanted

    @property
    def queue_capacity(self) -> int:
        """Requests that may wait, besides those that run."""
        return self._max_waiting

    def check_count(self, count: int) -> None:
        """Raises TooMany for more requests at once than there are places."""
        most = self._max_waiting + self._sizes.running
        if count > most:
            raise TooMany(
                f"{count} prompts in one request: at most {most} fit, send fewer", "prompt"
            )

    def check_sizes(self, sizes: Sequence[int]) -> None:
        """Raises TooLong for a prompt of more characters than any text that fits has.

        To find the tokens of a text takes time and 100 times its bytes, however long it is.
        """
        most = self.longest * self.model.longest_token
        if sizes and max(sizes) > most:
            raise TooLong(
                f"a prompt of {max(sizes)} characters does not fit into {self.longest} tokens: "
                f"no text of more than {most} does",
                "prompt",
            )

    def make_room(self, count: int) -> None:
        """Raises QueueFull or EngineStopped unless `count` more requests may be submitted now."""
        if not self.alive:
            raise EngineStopped(self._stopped or "the engine's thread has died")
        free = self._max_waiting - len(self._waiting)
        free += self._sizes.running - len(self._running)
        if count > free:
            raise QueueFull(
                f"{len(self._running)} requests run and {len(self._waiting)} wait: try again later"
            )

    def submit(self, stream: TokenStream, deadline: float) -> None:
        """Queues a checked request; call `check` and `make_room` first, in the same loop step.

        `deadline` is on the event loop's clock; past it the stream raises TimedOut.
        """
        self._count += 1
        stream.name = f"r{self._count}"
        stream.blocks = -(-(len(stream.prompt) + stream.limit) // self._sizes.page)
        loop = asyncio.get_running_loop()
        stream.deadline = loop.call_at(deadline, self._expire, stream)
        self._waiting.append(stream)
        self._dispatch()

    def release(self, stream: TokenStream) -> None:
        """Frees the stream's place, wherever it stands; safe to repeat."""
        if stream.deadline is not None:
            stream.deadline.cancel()
        if self._running.pop(stream.name, None) is not None:
            self._reserved -= stream.blocks
            if not stream.finished:
                self._manager.cancel_request(stream.name)
        elif stream in self._waiting:
            self._waiting.remove(stream)
        self._dispatch()

    def deliver(self, outputs: Sequence[Any]) -> None:
        """Takes the outputs of one iteration, each with all tokens of its request so far."""
        for output in outputs:
            stream = self._running.get(output.request_id)
            if stream is None:
                if not output.is_finished():  # its cancellation overtook its arrival: once more
                    self._manager.cancel_request(output.request_id)
            elif output.error is not None:
                stream.finished = True
                stream.fail(EngineFailed("the engine failed on this request"))
                log.error("request failed: %s", output.error)
                self.release(stream)
            else:
                stream.feed(output.generated_tokens[stream.seen :], output.is_finished())
                if stream.finished:
                    self.release(stream)

    def _dispatch(self) -> None:
        while self._waiting and self._stopped is None:
            stream = self._waiting[0]
            full = len(self._running) >= self._sizes.running
            if full or self._reserved + stream.blocks > self._budget():
                return
            self._waiting.popleft()
            self._running[stream.name] = stream
            self._reserved += stream.blocks
            stream.on_dispatch()
            added = self._manager.add_request(
                list(stream.prompt),
                request_id=stream.name,
                max_new_tokens=stream.limit,
                streaming=True,
                **stream.options,
            )
            if added is None:  # the thread has just died: the watcher ends the others
                stream.fail(EngineFailed("the engine's thread has died"))
                self.release(stream)

    def _expire(self, stream: TokenStream) -> None:
        stream.fail(TimedOut("REQUEST_TIMEOUT passed before the answer was complete"))
        self.release(stream)

    def _fail_all(self, error: WorkerError) -> None:
        for stream in [*self._running.values(), *self._waiting]:
            if stream.deadline is not None:
                stream.deadline.cancel()
            stream.fail(error)
        self._running.clear()
        self._waiting.clear()
        self._reserved = 0

    async def _watch(self) -> None:
        while self._manager.is_running():  # noqa: ASYNC110  # a thread sets no asyncio.Event
            await asyncio.sleep(_WATCH)
        cause = self._manager.background_thread_status.fatal_error
        self._stopped = "the engine's thread has died"
        self._fail_all(EngineFailed(self._stopped))
        self._on_death(cause)

    def _blocks(self) -> int:
        processor = self._manager.batch_processor
        return 0 if processor is None else int(processor.cache.num_blocks)

    def _budget(self) -> int:
        return int(self._blocks() * (1.0 - MARGIN))
