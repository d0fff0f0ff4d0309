"""A vendor's HTTP service as its documents describe it: it judges each request, and refuses what
they forbid."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from support.webhook_sink import Answer, Misbehaviour, Received, WebhookSink


class JudgingSink(WebhookSink):
    """`answers` come first, as they stand, and what they answer is not judged; then what `judge`
    says, which is that there are too many a minute only while it is `limited`. `complaints` are the
    refusals: of a right client there are none. `taken` is what was accepted, where it is kept."""

    limited = True

    def __init__(self, *answers: Answer | Misbehaviour, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.complaints: list[str] = []
        self.taken: list[dict[str, Any]] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def judge(self, request: Received) -> Answer:
        raise NotImplementedError

    def complain(self, status: int, body: Mapping[str, Any], text: str) -> Answer:
        self.complaints.append(text)
        return as_json(status, body)

    def recent(self, request: Received, span_s: float) -> int:
        """How many requests came in the `span_s` before this one."""
        others = (one for one in self.requests if one is not request)
        return sum(one.at > request.at - span_s for one in others) if self.limited else 0

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if self.answers:
            await super()._answer(request, writer)
            return
        self.requests.append(request)
        answer = self.judge(request)
        async with self._arrived:
            self._arrived.notify_all()
        with suppress(OSError):
            writer.write(answer.encoded())
            await writer.drain()


def as_json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())
