"""Real chat requests at a given rate, so that a first look at the dashboards shows movement.

Open loop: requests start by a Poisson process and do not wait for each other, as users do not. But
a first look must not page, so the load never makes an engine queue. It begins with one request in
flight, allows one more after each answer within `QUICK_SECONDS`, up to `MOST_AT_ONCE`, and half as
many after each that took longer. An engine that takes `SLOW_SECONDS` for one request alone is then
left in peace for `REST_SECONDS`: our latency rules want ten requests in five minutes before they
speak. What would be more is left out and counted.
"""

import asyncio
import json
import logging
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tocsin_alerting.http import BadAnswer, engine_lookup, httpx, looking_up, read_text

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 6  # well below the worker's 16 places on a CPU
QUICK_SECONDS = 2.0
SLOW_SECONDS = 3.0  # a median over this is what the rules call slow
REST_SECONDS = 40.0
_PATIENCE_SECONDS = 60.0
_MAX_BYTES = 1 << 20
_REQUEST_ERRORS = (httpx.HTTPError, ValueError, LookupError, TypeError, RecursionError)
_TOKEN_RANGE = (4, 16)
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


class LoadGenerator:
    """`rps` requests a second on average to the engine at `url`, until cancelled.

    `headers` are sent with each, keys among them. `on_error` is told `HTTP 401`, or the name of
    what went wrong.
    """

    def __init__(
        self,
        url: str,
        rps: float,
        dice: random.Random,
        on_error: Callable[[str], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.counts = LoadCounts()
        self.most = 1
        self._rest_until = -math.inf  # on the event loop's clock
        self._url = url
        self._rps = rps
        self._random = dice
        self._on_error = on_error
        self._headers = dict(headers or {})
        self._model = ""
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        headers = {"Accept-Encoding": "identity", **self._headers}
        patience = _PATIENCE_SECONDS
        plain = httpx.AsyncClient(timeout=patience, trust_env=False, headers=headers)
        async with looking_up(plain, engine_lookup(self._url)) as client:
            try:
                while True:
                    await asyncio.sleep(self._random.expovariate(self._rps))
                    self._start(client)
            finally:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, client: httpx.AsyncClient) -> None:
        clock = asyncio.get_running_loop().time
        if len(self._running) >= self.most or clock() < self._rest_until:
            self.counts.left_out += 1
            return
        self.counts.started += 1
        task = asyncio.create_task(self._request(client, clock))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _request(self, client: httpx.AsyncClient, clock: Callable[[], float]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                self._model = self._model or await self._first_model(client)
                began, allowed = clock(), self.most
                await self._chat(client)
            self.counts.answered += 1
            self._adapt(allowed, clock() - began, clock())
        except httpx.HTTPStatusError as error:
            self._failed(f"HTTP {error.response.status_code}")
        except (BadAnswer, TimeoutError, *_REQUEST_ERRORS) as error:
            self._failed(type(error).__name__)

    def _adapt(self, allowed: int, seconds: float, now: float) -> None:
        """After an answer that took `seconds` and began when `allowed` could be in flight."""
        if seconds <= QUICK_SECONDS:
            self.most = min(MAX_IN_FLIGHT, self.most + 1)
        elif allowed > 1:
            self.most = min(self.most, allowed // 2)  # one step for all that were slow together
        else:
            self.most = 1
            self._rest_until = now + REST_SECONDS * (seconds > SLOW_SECONDS)

    def _failed(self, why: str) -> None:
        self.most = 1
        self.counts.failed += 1
        self._on_error(why)

    async def _chat(self, client: httpx.AsyncClient) -> None:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": self._random.choice(_PROMPTS)}],
            "max_tokens": self._random.randint(*_TOKEN_RANGE),
            "stream": True,
        }
        url = self._url + "/v1/chat/completions"
        async with client.stream("POST", url, json=body) as response:
            response.raise_for_status()
            await read_text(response, _MAX_BYTES)

    async def _first_model(self, client: httpx.AsyncClient) -> str:
        async with client.stream("GET", self._url + "/v1/models") as response:
            response.raise_for_status()
            text = await read_text(response, _MAX_BYTES)
        return str(json.loads(text)["data"][0]["id"])
