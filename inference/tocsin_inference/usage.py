"""What every OpenAI answer carries beside its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tocsin_inference.generation import Generation


def head(name: str, model: str, now: float) -> dict[str, Any]:
    """Identity of an answer; `now` is Unix time in seconds."""
    return {"id": name, "created": int(now), "model": model}


def usage(generations: Sequence[Generation]) -> dict[str, int]:
    """Tokens that were read and generated; the one that ends an answer counts."""
    prompt = sum(len(g.prompt) for g in generations)
    completion = sum(len(g.ids) for g in generations)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
