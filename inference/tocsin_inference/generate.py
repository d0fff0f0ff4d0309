"""`POST /generate` and `POST /batch_generate`"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from tocsin_inference.bodies import BatchBody, GenerateBody, JsonRoute, ask
from tocsin_inference.completions import texts
from tocsin_inference.generation import GenerationRequest
from tocsin_inference.responses import watched
from tocsin_inference.worker import Worker

router = APIRouter(route_class=JsonRoute)


@router.post("/generate", summary="Continue one prompt")
async def generate(request: Request, body: GenerateBody) -> Response:
    """`do_sample: false` is greedy whatever the temperature."""
    worker: Worker = request.app.state.worker
    temperature = body.temperature if body.do_sample else 0.0
    how = ask(worker, body.max_length, temperature, body.top_p)

    async def work() -> dict[str, Any]:
        return (await answers(worker, [body.prompt], how))[0]

    return await watched(request, work())


@router.post("/batch_generate", summary="Continue several prompts")
async def batch_generate(request: Request, body: BatchBody) -> Response:
    """All prompts are admitted or none; the results stand in their order."""
    worker: Worker = request.app.state.worker
    how = ask(worker, body.max_length, body.temperature, None)

    async def work() -> dict[str, Any]:
        began = worker.clock()
        results = await answers(worker, body.prompts, how)
        return {"results": results, "total_time": worker.clock() - began}

    return await watched(request, work())


async def answers(
    worker: Worker, prompts: list[str], how: GenerationRequest
) -> list[dict[str, Any]]:
    """One result a prompt; times in seconds."""
    began = worker.clock()

    def encode() -> list[list[int]]:
        return [worker.model.encode(prompt, special=True) for prompt in prompts]

    generations = await worker.begin([*map(len, prompts)], encode, how, prompts)
    written = await texts(generations)
    about = {"model_type": worker.model.kind, "quantization": worker.model.quantization}
    return [
        {
            "generated_text": text,
            "prompt": prompt,
            "generation_time": generation.seconds(began),
            "token_count": len(generation.ids),
            "model_info": about,
        }
        for prompt, text, generation in zip(prompts, written, generations, strict=True)
    ]
