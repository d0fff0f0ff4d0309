"""Asking one GPU: what it cannot say is absent by itself, and not asked again for a while."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from tocsin_exporter.snapshot import Labels, sorted_labels
from tocsin_exporter.threads import Threads

T = TypeVar("T")
log = logging.getLogger(__name__)

ASK_AGAIN_SECONDS = 300.0  # for what a GPU or the machine does not have
BLANK = (-1, 2**32 - 1, 2**64 - 1)  # NVML_VALUE_NOT_AVAILABLE: "no value" without an error


@lru_cache(maxsize=8192)  # the same few labels each second
def with_labels(labels: Labels, *more: tuple[str, str]) -> Labels:
    return sorted_labels(dict(labels) | dict(more))


@dataclass(frozen=True, slots=True)
class GpuLabels:
    """The labels of one GPU: DCGM's for its names, short ones for ours, and `gpu_info`'s."""

    dcgm: Labels
    own: Labels
    info: Labels

    def of(self, family: str) -> Labels:
        return self.dcgm if family.startswith("DCGM_") else self.own


@dataclass(slots=True)
class Absences:
    """What one GPU cannot say, and until when (Unix seconds) it is not asked again."""

    until: dict[str, float] = field(default_factory=dict)

    def has(self, name: str, now: float) -> bool:
        return self.until.get(name, 0.0) > now

    def add(self, name: str, now: float) -> None:
        self.until[name] = now + ASK_AGAIN_SECONDS


@dataclass(frozen=True, slots=True)
class GpuQuery:
    """One GPU in one round. `nvml` is the module pynvml or what behaves like it, `handle` its
    device handle, `now` Unix seconds."""

    nvml: Any
    handle: Any
    labels: GpuLabels
    now: float
    absences: Absences

    def ask(self, name: str, call: Callable[[], T]) -> T | None:
        """The answer, None where there is none. Raises NVMLError when the GPU is lost."""
        if self.absences.has(name, self.now):
            return None
        try:
            return call()
        except self.nvml.NVMLError as error:
            self.note(name, error)
            return None

    def call(self, name: str, function: str, *arguments: Any) -> Any:
        """The answer of one function about this GPU; as `ask`."""
        return self.ask(name, lambda: getattr(self.nvml, function)(self.handle, *arguments))

    def note(self, name: str, error: Exception) -> None:
        """What this GPU cannot say is not asked again for a while; a lost GPU ends the reading."""
        nvml, value = self.nvml, getattr(error, "value", None)
        if value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
            raise error
        if value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
            self.absences.add(name, self.now)
            return
        log.debug("GPU reading failed", extra={"reading": name, "error": str(error)})

    def own(self, **more: str) -> Labels:
        """The labels of our own families, with more."""
        return with_labels(self.labels.own, *more.items())


class Aside(Generic[T]):
    """A slow call on a thread of its own: who asks takes what is there, and waits a moment at
    most. `patience` is that moment in seconds."""

    def __init__(self, name: str, patience: float = 0.0) -> None:
        self._threads = Threads(1, name)
        self._patience = patience
        self._running: Future[T] | None = None

    def ask(self, call: Callable[[], T]) -> T | None:
        """The answer to an earlier `call` or to this one, None while there is none."""
        answer = self._ended()
        if self._running is None:
            try:
                self._running = self._threads.submit(call)
            except RuntimeError:  # no room for a thread: tried again next time
                return answer
            if answer is None and self._patience:
                answer = self._ended(self._patience)
        return answer

    def _ended(self, patience: float = 0.0) -> T | None:
        if self._running is None:
            return None
        try:
            answer = self._running.result(patience)
        except NotYet:
            return None
        except Exception:  # why: whatever it was, there is no answer, and it is asked again
            answer = None
        self._running = None
        return answer

    def close(self) -> None:
        self._threads.close()
