"""`POST /thinking`: reasoning passes, an answer that has read them, and a score for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from tocsin_inference.bodies import JsonRoute, ThinkingBody, ask
from tocsin_inference.errors import EngineFailed
from tocsin_inference.generation import GenerationRequest
from tocsin_inference.responses import watched
from tocsin_inference.worker import Worker

router = APIRouter(route_class=JsonRoute)
STEP_TOKENS = 128
_SYSTEM = "You think about questions carefully and answer them correctly."
_STEP = "Think about the question. Write step {i} of {n} of your reasoning in one or two sentences."
_ANSWER = "Now answer the question briefly, using the reasoning above. Question: {question}"


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass: its prompt and answer as token ids, and its text."""

    prompt: list[int]
    answer: list[int]
    text: str


@router.post("/thinking", summary="Reason in several passes, then answer")
async def thinking(request: Request, body: ThinkingBody) -> Response:
    """`confidence_score` is the mean probability of the final answer's tokens under the model's raw
    logits, by one scoring pass: how sure the model is of its words, not whether they are true."""
    worker: Worker = request.app.state.worker
    return await watched(request, think(worker, body))


async def think(worker: Worker, body: ThinkingBody) -> dict[str, Any]:
    """`thinking_depth` passes that each read the ones before, one for the answer, one to score.

    Each pass is a request in the metrics; REQUEST_TIMEOUT holds for all of them together.
    """
    began = worker.clock()
    how = ask(worker, STEP_TOKENS, None, None)
    steps: list[str] = []
    for i in range(body.thinking_depth):
        order = _STEP.format(i=i + 1, n=body.thinking_depth)
        steps.append((await say(worker, conversation(body, steps, order), how)).text)
    final = await say(
        worker, conversation(body, steps, _ANSWER.format(question=body.question)), how
    )
    score = await confidence(worker, final)
    shown = steps if body.include_reasoning else []
    return {
        "question": body.question,
        "thinking_process": "\n".join(f"Step {i}: {s}" for i, s in enumerate(shown, 1)),
        "final_answer": final.text,
        "reasoning_steps": shown,
        "confidence_score": score,
        "processing_time": worker.clock() - began,
    }


def conversation(body: ThinkingBody, steps: list[str], order: str) -> list[dict[str, str]]:
    """The messages of the next pass: the question, the reasoning so far, and what to do now."""
    about = f"Context: {body.context}\n" if body.context else ""
    so_far = "".join(f"\nStep {i}: {step}" for i, step in enumerate(steps, 1))
    reasoning = f"\nReasoning so far:{so_far}" if steps else ""
    question = f"{about}Question: {body.question}{reasoning}\n\n{order}"
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]


async def say(worker: Worker, messages: list[dict[str, str]], how: GenerationRequest) -> Pass:
    """One pass of the model."""

    def encode() -> list[list[int]]:
        return [worker.model.encode(worker.model.chat_prompt(messages), special=False)]

    size = sum(len(message["content"]) for message in messages)
    (generation,) = await worker.begin([size], encode, how)
    with generation:
        text = await generation.rest()
    return Pass(list(generation.prompt), generation.ids, text.strip())


async def confidence(worker: Worker, answer: Pass) -> float:
    """The score of an answer after its prompt. Raises EngineFailed and Exhausted."""
    try:
        return await worker.scorer.score(worker.model.network, answer.prompt, answer.answer)
    except RuntimeError as error:
        raise EngineFailed(f"the scoring pass failed: {type(error).__name__}") from error
