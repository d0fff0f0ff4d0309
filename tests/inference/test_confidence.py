"""The score is the model's own probability, also while the batching thread works."""

from __future__ import annotations

import asyncio

import pytest
import torch

from support.worker_server import serving
from tocsin_inference.confidence import mean_probability
from tocsin_inference.model import Model


def naive(model: Model, prompt: list[int], answer: list[int]) -> float:
    """One forward pass a token, as the definition has it."""
    total = 0.0
    with torch.no_grad():
        for i, token in enumerate(answer):
            ids = torch.tensor([prompt + answer[:i]])
            total += float(model.network(ids).logits[0, -1].float().softmax(-1)[token])
    return total / len(answer)


def test_it_is_the_mean_of_the_raw_probabilities(tiny: Model) -> None:
    prompt, answer = [5, 6, 7], [8, 9, 200, 3]
    assert mean_probability(tiny.network, prompt, answer) == pytest.approx(
        naive(tiny, prompt, answer), rel=1e-4
    )
    long = [(7 * i) % 258 for i in range(150)]  # more than one piece of logits
    assert mean_probability(tiny.network, prompt, long) == pytest.approx(
        naive(tiny, prompt, long), rel=1e-4
    )
    assert mean_probability(tiny.network, prompt, []) == 0.0


async def test_scoring_and_streams_do_not_disturb_each_other(tiny: Model) -> None:
    prompt, answer = list(range(2, 60)), list(range(60, 120))
    body = {"prompt": [4, 5, 6], "max_tokens": 300, "temperature": 0, "ignore_eos": True}
    async with serving(tiny) as server:
        alone = (await server.client.post("/v1/completions", json=body)).json()["choices"]
        expected = mean_probability(tiny.network, prompt, answer)
        streams = [server.client.post("/v1/completions", json=body) for _ in range(4)]
        running = asyncio.gather(*streams)
        scores = []
        while not running.done():
            scores.append(await asyncio.to_thread(mean_probability, tiny.network, prompt, answer))
        together = [reply.json()["choices"] for reply in await running]
    assert len(scores) > 3
    assert scores == pytest.approx([expected] * len(scores), rel=1e-4)
    assert together == [alone] * 4
