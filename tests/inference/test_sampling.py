"""The sampler against Hugging Face's own warpers, and its draws against their probabilities."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tocsin_inference.sampling import Sampler, Sampling


def drawn(scores: Tensor, how: list[Sampling], position: int, on_host: bool = True) -> Tensor:
    """The tokens that the manager would take: argmax of what the sampler returns."""
    sampler = Sampler(on_host)
    storage = torch.zeros((sampler.tensors_required, 512), dtype=torch.int32)
    batch = [
        SimpleNamespace(
            state=SimpleNamespace(logit_processor_kwargs={"sampling": s}, position_offset=position),
            has_new_token=True,
        )
        for s in how
    ]
    sampler.prepare_tensor_args(batch, storage)
    return sampler(torch.empty(0), scores.clone(), storage[:, : len(how)]).argmax(1)


def reference(scores: Tensor, how: Sampling) -> Tensor:
    """Probabilities [V] by transformers' processors."""
    ids = torch.zeros((1, 1), dtype=torch.int64)
    out = TemperatureLogitsWarper(how.temperature)(ids, scores)
    out = TopKLogitsWarper(how.top_k)(ids, out) if how.top_k else out
    out = TopPLogitsWarper(how.top_p)(ids, out) if how.top_p < 1 else out
    return torch.softmax(out, -1)[0]


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize(
    ("vocabulary", "spread", "temperature", "top_p", "top_k"),
    [
        (40, 2.0, 0.7, 0.9, 0),
        (40, 2.0, 1.0, 1.0, 0),
        (40, 2.0, 1.3, 0.5, 7),
        (40, 2.0, 1.0, 1.0, 3),
        (900, 1.0, 1.0, 0.95, 0),  # the nucleus reaches past the candidates
        (900, 1.0, 1.0, 1.0, 0),
        (900, 1.0, 1.0, 1.0, 400),
    ],
)
def test_draws_follow_the_probabilities(
    vocabulary: int, spread: float, temperature: float, top_p: float, top_k: int, on_host: bool
) -> None:
    torch.manual_seed(1)
    scores = torch.randn(1, vocabulary) * spread
    how = Sampling(temperature, top_p, top_k, seed=11)
    expected = reference(scores, how)
    rows, rounds = 400, 20
    counts = torch.zeros(vocabulary)
    for position in range(rounds):
        batch = [Sampling(temperature, top_p, top_k, seed=1000 + i) for i in range(rows)]
        tokens = drawn(scores.expand(rows, -1), batch, position, on_host)
        counts += torch.bincount(tokens, minlength=vocabulary)
    assert counts[expected == 0].sum() == 0, "a token outside the limits was drawn"
    total = rows * rounds
    likely = expected * total >= 5  # where the chi-square statistic is valid
    chi = ((counts - expected * total) ** 2 / (expected * total))[likely].sum()
    freedom = int(likely.sum())
    assert chi < freedom + 5 * (2 * freedom) ** 0.5, "more than five deviations off"


def test_greedy_rows_take_the_largest_beside_others() -> None:
    torch.manual_seed(2)
    scores = torch.randn(4, 500)
    how = [
        Sampling(0.0, 0.9, 0, 1),
        Sampling(1.0, 0.0, 0, 2),
        Sampling(5.0, 1.0, 0, 3),
        Sampling(1.0, 1.0, 1, 4),
    ]
    tokens = drawn(scores, how, 5)
    best = scores.argmax(1)
    assert (tokens == best).tolist() == [True, True, False, True]


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    torch.manual_seed(3)
    scores = torch.randn(3, 5000)
    how = [Sampling(1.0, 0.9, 0, 7), Sampling(0.0, 1.0, 0, 0), Sampling(1.0, 1.0, 0, 9)]
    together = drawn(scores, how, 3).tolist()
    alone = [int(drawn(scores[i : i + 1], how[i : i + 1], 3)) for i in range(3)]
    assert together == alone
    assert drawn(scores, how, 4).tolist() != together


def test_an_unknown_parameter_is_the_requests_own_error() -> None:
    with pytest.raises(TypeError, match="sampling"):
        Sampler(True).check_kwargs({"temperature": 0.5})
