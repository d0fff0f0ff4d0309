"""Several prompts of one request: they end together."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tocsin_inference.completions import texts
from tocsin_inference.errors import EngineStopped, WorkerError
from tocsin_inference.generation import Generation


class Prompt:
    """One that fails with `error`, or is never answered."""

    def __init__(self, error: WorkerError | None = None) -> None:
        self.read_on: bool | None = None
        self._error = error

    async def rest(self) -> str:
        self.read_on = True
        try:
            if self._error is not None:
                raise self._error
            return await asyncio.Event().wait() and ""
        finally:
            self.read_on = False

    def __enter__(self) -> Prompt:
        return self

    def __exit__(self, *_: object) -> None:
        return


async def test_when_one_fails_nobody_waits_on_for_the_others() -> None:
    prompts = [Prompt(), Prompt(EngineStopped("the engine stops")), Prompt()]
    with pytest.raises(EngineStopped, match="the engine stops"):
        await texts(cast("list[Generation]", prompts))
    assert [prompt.read_on for prompt in prompts] == [False] * 3
