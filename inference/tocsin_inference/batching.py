"""transformers' ContinuousBatchingManager, built the one way that serves: checked, per request,
and reporting once an iteration to the event loop instead of once a token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.continuous_api import OutputRouter

from tocsin_inference.model import Model
from tocsin_inference.sampling import Sampler

Deliver = Callable[[list[Any]], None]
CPU_CACHE_TOKENS = 16384
# Below this share of free blocks the scheduler drops its prefix cache; admission stays clear of it.
MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes in tokens. `page` is the granularity of the cache, `chunk` the most tokens in one
    forward pass: prompts are prefilled in pieces of it, so it bounds how long others wait."""

    page: int
    chunk: int
    cache: int | None
    running: int


def shape(on_cpu: bool, cache: int | None, running: int) -> Shape:
    """A CPU wants small pages and short passes; on a GPU the manager sizes the cache itself."""
    if on_cpu:
        return Shape(32, 256, cache or CPU_CACHE_TOKENS, running)
    return Shape(256, 2048, cache, running)


class LoopRouter(OutputRouter):
    """Hands the outputs of one iteration to the event loop in one call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        super().__init__()
        self._loop = loop
        self._deliver = deliver

    def deliver(self, output: Any) -> None:
        self.deliver_batch([output])

    def deliver_batch(self, outputs: list[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, outputs)
        except RuntimeError:  # the loop is closed: the process ends and nobody listens
            return


def build(model: Model, sizes: Shape) -> Any:
    """A manager that is not started yet.

    `do_sample=False`: the sampler has drawn already, see `Sampler`. Asynchronous batching stays
    off: in transformers 5.23 a request that is cancelled while its batch is in flight makes
    `mark_complete_blocks` raise KeyError, which ends the thread and with it every other request.
    """
    generation = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=list(model.stop_ids) or -1
    )
    blocks = None if sizes.cache is None else -(-sizes.cache // sizes.page)
    config = ContinuousBatchingConfig(
        page_size=sizes.page,
        num_blocks=blocks,
        max_batch_tokens=max(sizes.chunk, sizes.running),
        max_requests_per_batch=sizes.running,
        safety_margin=MARGIN,
        use_async_batching=False,
    )
    manager = model.network.init_continuous_batching(generation, config)
    manager.logit_processor = Sampler(on_host=model.device.type == "cpu")
    return manager
