"""One tiny model for all tests of the worker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from support.worker_server import WorkerServer
    from tocsin_inference.model import Model

try:
    import torch
except ModuleNotFoundError:  # then the files here are skipped, each for its own imports
    pass
else:
    # At this size threads that wait for each other cost more than they bring.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-qwen3")


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Model:
    from tocsin_inference.model import load
    from tocsin_inference.weights import read_model_files

    return load(read_model_files(tiny_path), None, "cpu", "float32")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tiny: Model) -> AsyncIterator[WorkerServer]:
    """One server for the tests that leave it as they find it, its counters aside."""
    from support.worker_server import serving

    async with serving(tiny) as server:
        yield server


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Puts back what `logs.configure` sets for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("uvicorn.error", "uvicorn.access", "ContinuousBatchingLogger"):
        logging.getLogger(name).setLevel(logging.NOTSET)
