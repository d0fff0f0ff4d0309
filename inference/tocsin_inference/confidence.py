"""How sure the model is of an answer, from one scoring pass.

The batching thread's own log-probabilities are taken after temperature, top_p and top_k, where a
greedy choice always has probability 1. So the answer is read once more, in one forward pass without
a cache, and the score is the arithmetic mean of softmax(raw logits)[answer token] over the answer.

The pass runs on a thread of its own beside the batching thread. Both only read the weights, and the
attention implementation stays the one that batching uses, which without `cache` among its arguments
is plain causal attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_ROWS = 64  # logits of this many positions at a time: 12 MiB for a vocabulary of 49,152


@torch.no_grad()
def mean_probability(network: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Mean probability of `answer`'s tokens after `prompt`, 0 to 1; 0.0 for an empty answer."""
    if not answer:
        return 0.0
    ids = torch.tensor([[*prompt, *answer]], device=network.device)
    total = 0.0
    hidden = network.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    states = hidden[len(prompt) - 1 : -1]  # position t predicts token t + 1: [answer, hidden]
    targets = ids[0, len(prompt) :]
    head = network.get_output_embeddings()
    for at in range(0, len(answer), _ROWS):
        rows = slice(at, at + _ROWS)
        probabilities = head(states[rows]).float().softmax(-1)
        total += float(probabilities.gather(1, targets[rows].unsqueeze(1)).sum())
    return total / len(answer)
