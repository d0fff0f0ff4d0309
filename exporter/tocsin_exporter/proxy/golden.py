"""Golden prompts: questions with known answers, put to the engine on a schedule, and scored.

They go to the engine directly: they take no client's place, and are in none of the metrics of
requests. What is measured of them has names of its own, `llm_synthetic_*`.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tocsin_exporter.catalogue import LLM
from tocsin_exporter.catalogue.llm import FIRST_TOKEN, LATENCY
from tocsin_exporter.proxy.exchange import Exchange, request_head
from tocsin_exporter.proxy.measurement import Measurement
from tocsin_exporter.proxy.metrics import BucketCounts, ProxyMetrics
from tocsin_exporter.proxy.upstream import Headers, Upstream, UpstreamFault
from tocsin_exporter.snapshot import Sample, labels

log = logging.getLogger(__name__)

PASS, FAIL, ERROR = "pass", "fail", "error"
_PATH = b"/v1/chat/completions"
_GRAM = 3


@dataclass(frozen=True, slots=True)
class GoldenExpectation:
    """What an answer must have: all of `contains` (in any case), a match of `regex`, JSON that has
    the keys of `json_keys`, JSON that `json_schema` takes, likeness of `least` or more to
    `similar_to`."""

    contains: Sequence[str] = ()
    regex: re.Pattern[str] | None = None
    json_keys: Sequence[str] | None = None
    json_schema: Callable[[object], bool] | None = None
    similar_to: str = ""
    least: float = 0.6


@dataclass(frozen=True, slots=True)
class GoldenPrompt:
    """`name` is the label evaluation_name."""

    name: str
    prompt: str
    expect: GoldenExpectation
    system: str = ""
    max_tokens: int = 64

    def body(self, model: str) -> bytes:
        messages = [{"role": "user", "content": self.prompt}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        asked: dict[str, Any] = {"messages": messages, "max_tokens": self.max_tokens}
        return orjson.dumps({"model": model, "temperature": 0, "stream": True, **asked})


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """All of them are asked one after the other, `every` so many seconds, of `model`."""

    prompts: Sequence[GoldenPrompt]
    model: str
    every: float = 300.0
    seconds: float = 60.0  # for one answer


def score(text: str, expect: GoldenExpectation) -> tuple[float, bool]:
    """(0 to 1, whether all is as expected): the mean of what was asked for."""
    parts: list[tuple[float, bool]] = []
    if expect.contains:
        lower = text.casefold()
        found = sum(word.casefold() in lower for word in expect.contains) / len(expect.contains)
        parts.append((found, found == 1))
    if expect.regex is not None:
        matches = expect.regex.search(text) is not None
        parts.append((float(matches), matches))
    if expect.json_keys is not None:
        share = _json_share(text, expect.json_keys)
        parts.append((share, share == 1))
    if expect.json_schema is not None:
        valid = _is_valid(text, expect.json_schema)
        parts.append((float(valid), valid))
    if expect.similar_to:
        alike = likeness(text, expect.similar_to)
        parts.append((alike, alike >= expect.least))
    return sum(part for part, _ in parts) / len(parts), all(passed for _, passed in parts)


def _json_share(text: str, keys: Sequence[str]) -> float:
    """The share of the keys that an object of JSON has; 0 for what is no object."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return 0.0
    if not isinstance(document, dict):
        return 0.0
    return sum(key in document for key in keys) / len(keys) if keys else 1.0


def _is_valid(text: str, check: Callable[[object], bool]) -> bool:
    try:
        return check(orjson.loads(text))
    except (orjson.JSONDecodeError, RecursionError):
        return False


def likeness(one: str, other: str) -> float:
    """Dice's coefficient of their groups of three characters, 0 to 1; case and spaces do not
    count."""
    first, second = _grams(one), _grams(other)
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 1.0


def _grams(text: str) -> Counter[str]:
    plain = " ".join(text.casefold().split())
    return Counter(plain[n : n + _GRAM] for n in range(max(1, len(plain) - _GRAM + 1)))


class _Asker:
    """The client's side of an exchange that nobody else sees."""

    keeps, old = True, False

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic

    def write(self, data: bytes) -> None:
        return

    def answered(self, keep: bool) -> None:
        return

    def drop_answer(self) -> None:
        return


@dataclass
class _Evaluations:
    """Of one prompt."""

    score: float | None = None
    counts: Counter[str] = field(default_factory=lambda: Counter({PASS: 0, FAIL: 0, ERROR: 0}))


class GoldenPrompts:
    """Asks, and remembers the last score of each. `headers` go with each request."""

    def __init__(
        self,
        golden: GoldenSet,
        upstream: Upstream,
        headers: Callable[[], Headers],
        monotonic: Callable[[], float],
    ) -> None:
        self._golden, self._upstream, self._headers = golden, upstream, headers
        self._monotonic = monotonic
        self._evaluations = {prompt.name: _Evaluations() for prompt in golden.prompts}
        self._first_token, self._latency = BucketCounts(FIRST_TOKEN), BucketCounts(LATENCY)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.round()
            await asyncio.sleep(self._golden.every)

    async def round(self) -> None:
        """All of them once. A prompt that cannot be asked counts as an error, and has no score."""
        for prompt in self._golden.prompts:
            kept = self._evaluations[prompt.name]
            try:
                text = await self._ask(prompt)
            except (UpstreamFault, TimeoutError) as error:
                kept.counts[ERROR] += 1
                kept.score = None
                log.warning("golden prompt got no answer: %s", error, extra={"prompt": prompt.name})
                continue
            kept.score, passed = score(text, prompt.expect)
            kept.counts[PASS if passed else FAIL] += 1

    async def _ask(self, prompt: GoldenPrompt) -> str:
        """The answer's text. Raises UpstreamFault or TimeoutError."""
        task = asyncio.current_task()
        assert task is not None
        address, body = self._upstream.address, prompt.body(self._golden.model)
        measured = Measurement(ProxyMetrics(address.target), self._monotonic())
        exchange = Exchange(_Asker(self._monotonic), measured, task)
        length = (b"Content-Length", str(len(body)).encode())
        headers = [(b"Content-Type", b"application/json"), length, *self._headers()]
        path = address.base.encode() + _PATH
        try:
            async with asyncio.timeout(self._golden.seconds):
                connection = await self._upstream.take()
                exchange.connection = connection
                head = request_head("POST", path, headers, frozenset(), ())
                connection.ask(head + body, exchange, False)
                connection.sent()
                await exchange.done
        finally:
            exchange.abort()
        return self._read(measured, exchange)

    def _read(self, measured: Measurement, exchange: Exchange) -> str:
        measured.read_rest()
        if exchange.status != 200 or measured.output.error:
            kind = measured.output.error or "no type of error"
            raise UpstreamFault(f"the engine answered {exchange.status} ({kind})")
        if measured.first is not None:
            self._first_token.observe(measured.first - measured.begun)
        self._latency.observe((exchange.ended_at or self._monotonic()) - measured.begun)
        return measured.output.text

    def samples(self) -> Iterator[Sample]:
        target, model = self._upstream.address.target, self._golden.model
        own = labels(model_name=model, target=target)
        yield from self._first_token.samples(LLM["llm_synthetic_time_to_first_token_seconds"], own)
        yield from self._latency.samples(LLM["llm_synthetic_e2e_seconds"], own)
        for name, kept in self._evaluations.items():
            about = {"model_name": model, "target": target, "evaluation_name": name}
            if kept.score is not None:
                yield Sample(LLM["llm_quality_score"], kept.score, labels(**about))
            for label, count in kept.counts.items():
                more = labels(**about, score_label=label)
                yield Sample(LLM["llm_evaluations_total"], count, more)
