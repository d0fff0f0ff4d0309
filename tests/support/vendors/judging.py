"""A vendor's HTTP service as its documents describe it: it judges each request, and refuses what
they forbid."""

import asyncio
from contextlib import suppress

from support.webhook_sink import Answer, Received, WebhookSink


class JudgingSink(WebhookSink):
    """`answers` come first, as they stand; then what `judge` says. `complaints` are the refusals:
    of a right client there are none."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.complaints: list[str] = []

    def judge(self, request: Received) -> Answer:
        raise NotImplementedError

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
