"""The choice of the next token for a whole batch, each row under parameters of its own.

transformers' stock processors sort the vocabulary once for top_k and again for top_p and then draw
from all of it: 80 ms for 16 rows of 49,152 on two cores, as long as the forward pass. Here the
candidates come from one partial selection (1.5 ms), and only a row whose nucleus does not close
among them is drawn again from the whole vocabulary, so the result is exact and rarely slow.

Drawing is the Gumbel-max trick: argmax(log p - log E) with E ~ Exp(1) picks token i with
probability p_i. The noise is a hash of (seed, position, token), not a generator's state: a seeded
request draws the same noise whatever else is in the batch, and a CUDA graph can replay it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

CANDIDATES = 256
GREEDY_BELOW = 0.01  # a temperature under which float32 logits would overflow for no visible change
_REAL_ROWS = 2  # temperature, top_p: float32 stored as int32, the type of the shared tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """One request's sampling. temperature 0 or top_p 0 mean greedy; top_k 0 means no limit."""

    temperature: float
    top_p: float
    top_k: int
    seed: int

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW or self.top_p <= 0.0 or self.top_k == 1


class _State(Protocol):
    logit_processor_kwargs: dict[str, Any]
    position_offset: int


class _Future(Protocol):
    state: _State
    has_new_token: bool


GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=1, seed=0)


class Sampler:
    """Stands where the manager has its `ContinuousBatchingLogitsProcessorList`, with its interface.

    It returns scores in which the chosen token is +inf; the manager, built with do_sample=False,
    takes the argmax. (The stock list cannot be extended: it has one int32 row a processor.)
    """

    tensors_required = 5
    do_processing = True

    def __init__(self, on_host: bool) -> None:
        """`on_host`: logits are on the CPU, where looking at values to skip work costs nothing."""
        self._on_host = on_host

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Raises TypeError (the request fails, the batch lives) for anything but a Sampling."""
        if kwargs and not isinstance(kwargs.get("sampling"), Sampling):
            raise TypeError("a request carries its parameters as sampling=Sampling(...)")

    def clear(self) -> None:
        """Part of the interface; there is no state to clear."""

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        """`int32_tensor` is [5, 1]: unused columns are greedy."""
        int32_tensor.copy_(_pack([(GREEDY, 0)]))

    def prepare_tensor_args(
        self, requests_in_batch: Sequence[_Future], arg_storage: Tensor
    ) -> Tensor:
        """Writes one column for each row of logits; `arg_storage` is int32 [5, max tokens + 1]."""
        columns = [
            (f.state.logit_processor_kwargs.get("sampling", GREEDY), f.state.position_offset)
            for f in requests_in_batch
            if f.has_new_token
        ]
        if columns:
            packed = _pack(columns)
            arg_storage[:, : packed.shape[1]] = packed.to(arg_storage.device)
        return arg_storage

    def __call__(self, input_ids: Tensor, scores: Tensor, logits_processor_args: Tensor) -> Tensor:
        """scores: float32 [B, V]; args: int32 [5, >= B]. Returns [B, V] with +inf at the choice."""
        del input_ids
        rows = SamplingRows.unpack(logits_processor_args[:, : scores.shape[0]])
        if self._on_host:
            if not bool((rows.top_k != 1).any()):
                return scores
            chosen = _choose_on_host(scores, rows)
        else:
            chosen, _ = draw(scores, rows, scores.shape[1])
        return scores.scatter(1, chosen.unsqueeze(1), float("inf"))


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """The parameters of B rows, each a tensor [B]; greedy rows have top_k 1 and temperature 1."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    seed: Tensor
    position: Tensor

    @classmethod
    def unpack(cls, packed: Tensor) -> SamplingRows:
        real = packed[:_REAL_ROWS].view(torch.float32)
        return cls(real[0], real[1], packed[2], packed[3], packed[4])

    def only(self, mask: Tensor) -> SamplingRows:
        return SamplingRows(
            self.temperature[mask],
            self.top_p[mask],
            self.top_k[mask],
            self.seed[mask],
            self.position[mask],
        )


def draw(scores: Tensor, rows: SamplingRows, k: int) -> tuple[Tensor, Tensor]:
    """Draws each row among its `k` likeliest tokens: scores [B, V] -> tokens [B], closed [B].

    Where `closed` is false, the row's own limits reach beyond the k candidates, and its draw is
    from a cut distribution. As in Hugging Face's and vLLM's samplers, top_p is measured on what
    top_k leaves, after the temperature.
    """
    heat = rows.temperature.unsqueeze(1)
    values, ids = scores.topk(k, dim=1)
    values = values / heat
    rank = torch.arange(k, device=scores.device).unsqueeze(0)
    top_k = torch.where(rows.top_k > 0, rows.top_k, scores.shape[1]).unsqueeze(1)
    among_top_k = values.masked_fill(rank >= top_k, float("-inf"))
    limited = top_k <= k
    total = torch.where(
        limited, among_top_k.logsumexp(1, keepdim=True), (scores / heat).logsumexp(1, keepdim=True)
    )
    mass = (among_top_k - total).exp()
    reached = mass.cumsum(1)
    outside = (reached - mass) >= rows.top_p.unsqueeze(1)
    outside[:, 0] = False
    race = among_top_k.masked_fill(outside, float("-inf")) - exponential(rows, ids).log()
    tokens = ids.gather(1, race.argmax(1, keepdim=True)).squeeze(1)
    closed = limited.squeeze(1) | (reached[:, -1] >= rows.top_p) | (k == scores.shape[1])
    return tokens, closed & ((rows.top_p < 1.0) | limited.squeeze(1) | (k == scores.shape[1]))


def exponential(rows: SamplingRows, ids: Tensor) -> Tensor:
    """Exp(1) noise [B, K] from a hash of (seed, position, token id); ids is [B, K] or [1, K]."""
    salt = _mix(_mix(rows.seed.int()) + rows.position.int()).unsqueeze(1)
    bits = _mix(_mix(ids.int() ^ salt) + salt)
    uniform = ((bits & 0xFFFFFF).float() + 0.5) / float(1 << 24)
    return -torch.log1p(-uniform)


def _choose_on_host(scores: Tensor, rows: SamplingRows) -> Tensor:
    vocabulary = scores.shape[1]
    free = (rows.top_k == 0) & (rows.top_p >= 1.0)  # nothing to cut: no need to sort
    chosen, closed = draw(scores, rows, min(CANDIDATES, vocabulary))
    if bool(free.any()):
        free_rows = rows.only(free)
        every = torch.arange(vocabulary).unsqueeze(0)
        race = (
            scores[free] / free_rows.temperature.unsqueeze(1) - exponential(free_rows, every).log()
        )
        chosen[free] = race.argmax(1)
    again = ~(closed | free)
    if bool(again.any()):
        chosen[again] = draw(scores[again], rows.only(again), vocabulary)[0]
    return chosen


def _pack(columns: Sequence[tuple[Sampling, int]]) -> Tensor:
    """int32 [5, n] on the host, laid out as the fields of Rows."""
    real = [
        [1.0 if s.greedy else s.temperature for s, _ in columns],
        [1.0 if s.greedy else s.top_p for s, _ in columns],
    ]
    whole = [
        [1 if s.greedy else s.top_k for s, _ in columns],
        [s.seed for s, _ in columns],
        [position for _, position in columns],
    ]
    as_bits = torch.tensor(real, dtype=torch.float32).view(torch.int32)
    return torch.cat([as_bits, torch.tensor(whole, dtype=torch.int32)])


def _mix(x: Tensor) -> Tensor:
    """Chris Wellons' "lowbias32" integer hash on int32, whose products wrap; shifts are masked
    because int32 has no logical right shift."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * -2073254261  # 0x846CA68B
    return x ^ ((x >> 16) & 0xFFFF)
