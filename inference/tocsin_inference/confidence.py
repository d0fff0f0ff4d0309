"""How sure the model is of an answer, from one scoring pass.

The batching thread's own log-probabilities are taken after temperature, top_p and top_k, where a
greedy choice always has probability 1. So the answer is read once more, in one forward pass without
a cache, and the score is the arithmetic mean of softmax(raw logits)[answer token] over the answer.

The pass runs on a thread of its own beside the batching thread. Both only read the weights, but
transformers keeps one thing about a call in the shared configuration while the call lasts: whether
attention is causal (`merge_with_config_defaults`, 5.23). Two calls at once leave it wrong for good,
so the scoring pass goes through a view of the model that has a configuration of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from tocsin_inference.request_reader import RequestReader

_ROWS = 64  # logits of this many positions at a time: 12 MiB for a vocabulary of 49,152


class Scorer:
    """One scoring pass at a time, on a thread of its own, so that they cannot pile up beside the
    streams and the end of the process need not wait for one."""

    def __init__(self) -> None:
        self._thread = RequestReader("scoring")

    async def score(self, network: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:
        """`mean_probability`, when its turn comes. Raises Exhausted and what torch raises."""
        return await self._thread.run(lambda: mean_probability(network, prompt, answer))


@torch.no_grad()
def mean_probability(network: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Mean probability of `answer`'s tokens after `prompt`, 0 to 1; 0.0 for an empty answer."""
    if not answer:
        return 0.0
    ids = torch.tensor([[*prompt, *answer]], device=network.device)
    total = 0.0
    base = view(network.base_model)  # whose copied is_causal may be another call's, so it is given
    hidden = base(input_ids=ids, use_cache=False, is_causal=True).last_hidden_state[0]
    states = hidden[len(prompt) - 1 : -1]  # position t predicts token t + 1: [answer, hidden]
    targets = ids[0, len(prompt) :]
    head = network.get_output_embeddings()
    for at in range(0, len(answer), _ROWS):
        rows = slice(at, at + _ROWS)
        probabilities = head(states[rows]).float().softmax(-1)
        total += float(probabilities.gather(1, targets[rows].unsqueeze(1)).sum())
    return total / len(answer)


def view(network: Any) -> Any:
    """The same modules and weights under a copied configuration."""
    other = copy.copy(network)
    other.config = copy.deepcopy(network.config)
    return other
