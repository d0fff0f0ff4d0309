"""`POST /v1/completions`"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from tocsin_exporter.tasks import task_group
from tocsin_inference.bodies import CompletionBody, JsonRoute
from tocsin_inference.errors import Invalid
from tocsin_inference.generation import Generation
from tocsin_inference.responses import Chunks, EventStream, answer_identity, event, usage, watched
from tocsin_inference.worker import Worker

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/completions", summary="Plain completion, as in the OpenAI API")
async def completions(request: Request, body: CompletionBody) -> Response:
    """Continues each prompt as it stands, without the chat template."""
    worker: Worker = request.app.state.worker
    ask = body.ask(worker, body.max_tokens)
    prompts = body.prompts()
    if not prompts:
        raise Invalid("at least one prompt", "prompt")

    def encode() -> list[list[int]]:
        return [worker.model.encode(p, special=True) if isinstance(p, str) else p for p in prompts]

    said = [prompt if isinstance(prompt, str) else "" for prompt in prompts]
    generations = await worker.begin([*map(len, prompts)], encode, ask, said)
    about = answer_identity(f"cmpl-{uuid4().hex}", worker.model.name, request.app.state.wall())
    about |= {"object": "text_completion"}
    if body.stream:
        return EventStream(stream(generations, about, body.include_usage), generations)
    return await watched(request, whole(generations, about))


async def texts(generations: Sequence[Generation]) -> list[str]:
    """Reads all answers to their ends; the first failure closes the others."""
    with ExitStack() as stack:
        for generation in generations:
            stack.enter_context(generation)
        async with task_group() as group:
            read = [group.create_task(generation.rest()) for generation in generations]
        return [future.result() for future in read]


async def whole(generations: Sequence[Generation], about: dict[str, Any]) -> dict[str, Any]:
    """The answers in one piece."""
    choices = [
        {"index": i, "text": text, "logprobs": None, "finish_reason": g.finish}
        for i, (text, g) in enumerate(zip(await texts(generations), generations, strict=True))
    ]
    return about | {"choices": choices, "usage": usage(generations)}


async def stream(
    generations: Sequence[Generation], about: dict[str, Any], with_usage: bool
) -> Chunks:
    """The answers in chunks, one after the other; all are generated at the same time."""
    for index, generation in enumerate(generations):
        with generation:
            while (text := await generation.next()) is not None:
                if text or generation.finish:
                    reason = generation.finish
                    choice = {
                        "index": index,
                        "text": text,
                        "logprobs": None,
                        "finish_reason": reason,
                    }
                    yield event(about | {"choices": [choice]})
    if with_usage:
        yield event(about | {"choices": [], "usage": usage(generations)})
