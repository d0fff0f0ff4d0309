"""`POST /v1/chat/completions`"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from tocsin_inference.bodies import ChatBody, JsonRoute
from tocsin_inference.generation import Generation
from tocsin_inference.responses import Chunks, EventStream, answer_identity, event, usage, watched
from tocsin_inference.worker import Worker

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/chat/completions", summary="Chat, as in the OpenAI API")
async def chat(request: Request, body: ChatBody) -> Response:
    """Streamed by server-sent events with `"stream": true`."""
    worker: Worker = request.app.state.worker
    limit = body.max_completion_tokens or body.max_tokens
    ask = body.ask(worker, limit)
    messages = [message.plain() for message in body.messages]

    def encode() -> list[list[int]]:
        return [worker.model.encode(worker.model.chat_prompt(messages), special=False)]

    size = sum(len(message["content"]) for message in messages)
    said = [message["content"] for message in messages if message["role"] == "user"]
    (generation,) = await worker.begin([size], encode, ask, said[-1:])
    about = answer_identity(f"chatcmpl-{uuid4().hex}", worker.model.name, request.app.state.wall())
    if body.stream:
        return EventStream(stream(generation, about, body.include_usage), [generation])
    return await watched(request, whole(generation, about))


async def whole(generation: Generation, about: dict[str, Any]) -> dict[str, Any]:
    """The answer in one piece."""
    with generation:
        text = await generation.rest()
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": None,
        "finish_reason": generation.finish,
    }
    done = {"object": "chat.completion", "choices": [choice], "usage": usage([generation])}
    return about | done


async def stream(generation: Generation, about: dict[str, Any], with_usage: bool) -> Chunks:
    """The answer in chunks: the role, the text as it comes, the reason, and the usage if asked."""
    about = about | {"object": "chat.completion.chunk"}

    def chunk(delta: dict[str, str]) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": generation.finish}
        return event(about | {"choices": [choice]})

    role = {"role": "assistant"}
    with generation:
        while (text := await generation.next()) is not None:
            if text or generation.finish:
                yield chunk(role | {"content": text})
                role = {}
    if with_usage:
        yield event(about | {"choices": [], "usage": usage([generation])})
