"""Real chat requests at a given rate, so that a first look at the dashboards shows movement.

Open loop: requests start by a Poisson process and do not wait for each other, as users do not. What
would be more than `MOST_AT_ONCE` in flight is left out and counted, so that a slow engine is not
buried.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from tocsin_alerting.http import httpx

log = logging.getLogger(__name__)

MOST_AT_ONCE = 32
_PROMPTS = (
    "Say hello in one sentence.",
    "Why is the sky blue? Answer in two sentences.",
    "Write a haiku about a bell.",
    "What is a GPU? Explain it to a child.",
    "Name three uses of a raspberry pi.",
    "Give me a short recipe for pancakes.",
)


@dataclass(slots=True)
class LoadCounts:
    started: int = 0
    answered: int = 0
    failed: int = 0
    left_out: int = 0


class Load:
    """`rps` requests a second on average to the engine at `url`, until cancelled."""

    def __init__(
        self, url: str, rps: float, dice: random.Random, on_error: Callable[[str], None]
    ) -> None:
        self.counts = LoadCounts()
        self._url = url
        self._rps = rps
        self._dice = dice
        self._on_error = on_error
        self._model = ""
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=60.0, trust_env=False) as client:
            try:
                while True:
                    await asyncio.sleep(self._dice.expovariate(self._rps))
                    self._start(client)
            finally:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, client: httpx.AsyncClient) -> None:
        if len(self._running) >= MOST_AT_ONCE:
            self.counts.left_out += 1
            return
        self.counts.started += 1
        task = asyncio.create_task(self._request(client))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _request(self, client: httpx.AsyncClient) -> None:
        try:
            self._model = self._model or await self._first_model(client)
            body = {
                "model": self._model,
                "messages": [{"role": "user", "content": self._dice.choice(_PROMPTS)}],
                "max_tokens": self._dice.randint(8, 48),
                "stream": True,
            }
            url = self._url + "/v1/chat/completions"
            async with client.stream("POST", url, json=body) as response:
                response.raise_for_status()
                async for _ in response.aiter_bytes():
                    pass
            self.counts.answered += 1
        except (httpx.HTTPError, ValueError, LookupError) as error:
            self.counts.failed += 1
            self._on_error(type(error).__name__)

    async def _first_model(self, client: httpx.AsyncClient) -> str:
        response = await client.get(self._url + "/v1/models")
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
