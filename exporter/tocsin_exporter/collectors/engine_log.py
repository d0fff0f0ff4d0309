"""What vLLM says of its memory, which is in its log alone: weights, KV cache, activations, graphs.

It says so once, while it starts, so the file is read from its beginning and then followed. The
lines are those of vLLM 0.4 to 0.33 (worker/gpu_worker.py, gpu_model_runner.py, cpu_worker.py, and
kv_cache_utils.py); GB and GiB are both 2**30 bytes there.
"""

import asyncio
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.collectors.collector import Stuck, Unread
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Sample, labels

log = logging.getLogger(__name__)
GIB = 2.0**30
MOST_A_ROUND = 16 << 20  # bytes; a log of 1 GB is read in some minutes
_CHUNK = 1 << 20
_LONGEST_LINE = 8 << 10
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"


def _gib(name: str) -> str:
    return rf"(?P<{name}>{_NUMBER})\s*Gi?B"


_LINES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:Model loading|Loading model weights) took {_gib('weights')}",
        rf"Available KV cache memory: {_gib('kv_cache')}",
        rf"(?:Explicitly|Auto) set \((?P<kv_cache>{_NUMBER})/[\d.]+\) GiB for KV cache",
        rf"CUDA graph pool memory: {_gib('cuda_graphs')} \(actual\)",
        rf"Graph capturing finished in [\d.]+ secs?, took {_gib('cuda_graphs')}",
        rf"Actual usage is {_gib('consumed')} for consumed memory.*?"
        rf"{_gib('activations')} for peak activation.*?"
        rf"{_gib('cuda_graphs')} for CUDAGraph memory",
        rf"Actual usage is {_gib('weights')} for weight, "
        rf"{_gib('activations')} for peak activation, {_gib('other')} for non-torch.*?"
        rf"{_gib('cuda_graphs')} for CUDAGraph memory",
        rf"Current kv cache memory in use is {_gib('kv_cache')}",
        rf"model weights take {_gib('weights')}; non_torch_memory takes {_gib('other')}; "
        rf"PyTorch activation peak memory takes {_gib('activations')}; "
        rf".*KV Cache is {_gib('kv_cache')}",
        r"[GC]PU KV cache size: (?P<tokens>\d[\d,]{0,14}) tokens",
    )
)
_ANCHORS = (b"GiB", b" took ", b"KV cache size:", b"server version", b"non-default args")
_STARTS = re.compile(r"API server version|non-default args: |vLLM server version")
_PROCESS = re.compile(r"\((?:(?:Vllm|Ray)?Worker|EngineCore)[^()]*pid=\d+[^()]*\)")
_MEMORY = "llm_memory_bytes"
_RANK = re.compile(r"(?:DP|EngineCore_)(\d+)")

Memory = Mapping[str, Mapping[str, float]]  # by data-parallel rank and component


class EngineLogReader:
    """Reads an engine's log on a thread of its own, and says what is known from it as samples.

    A file that cannot be read, or whose disk hangs, costs what would have been learned from it.
    """

    def __init__(self, file: Path, target: str) -> None:
        self._log = EngineLog(file)
        self._target = target
        self._guard = HangGuard(f"log of {target}")
        self._memory: Memory = {}
        self._trouble = ""

    async def read(self, patience_seconds: float) -> None:
        """Wait at most that long; a reading that takes longer counts at a later round."""
        trouble = ""
        try:
            async with asyncio.timeout(patience_seconds):
                self._memory = await self._guard.run(self._log.read)
        except (OSError, TimeoutError, Stuck, Unread) as error:
            trouble = str(error) or "no answer of its disk"
        if trouble and trouble != self._trouble:
            log.warning("log of engine %s cannot be read: %s", self._target, trouble)
        self._trouble = trouble

    def samples(self, known: Sequence[Sample], families: Table) -> Iterator[Sample]:
        """What is added to what its page says; a page that speaks of memory itself is believed."""
        names = {sample.family.name for sample in known}
        models = {name for s in known for key, name in s.labels if key == "model_name"}
        model = next(iter(models)) if len(models) == 1 else ""
        for rank, by_component in self._memory.items():
            own = {"target": self._target, "engine": rank, "model_name": model}
            for component, value in by_component.items():
                name = "llm_kv_cache_capacity_tokens" if component == "tokens" else _MEMORY
                own_labels = own if component == "tokens" else {**own, "component": component}
                if name not in names:
                    yield Sample(families[name], value, labels(**own_labels))

    def close(self) -> None:
        self._guard.close()


class EngineLog:
    """A log file and what is known from it. Nothing is known before its end was reached once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._opened: tuple[int, int] | None = None  # device and inode
        self._at = 0
        self._rest = b""
        self._whole = False
        self._found: dict[tuple[str, str], dict[str, float]] = {}  # by rank and process

    def read(self) -> Memory:
        """Read on, up to MOST_A_ROUND; what is known then. It may wait for a disk. Raises
        OSError."""
        with open_file(self.file) as file:
            status = os.fstat(file.fileno())
            if self._opened != (status.st_dev, status.st_ino) or status.st_size < self._at:
                self._opened, self._at, self._rest = (status.st_dev, status.st_ino), 0, b""
            file.seek(self._at)
            for _ in range(MOST_A_ROUND // _CHUNK):
                chunk = file.read(_CHUNK)
                if not chunk:
                    break
                self._take(chunk)
            self._whole = self._whole or self._at >= status.st_size
        return self.memory()

    def memory(self) -> dict[str, dict[str, float]]:
        """Bytes by component of each data-parallel rank ("0", "1", ...), those of its processes
        added; `tokens` is what its KV cache holds. A component that no line names is absent."""
        ranks: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for (rank, _), found in self._found.items() if self._whole else ():
            for name, value in _components(found):
                known = ranks[rank].get(name)
                together = max if name == "tokens" else _add
                ranks[rank][name] = value if known is None else together(known, value)
        return dict(ranks)

    def _take(self, chunk: bytes) -> None:
        self._at += len(chunk)
        text = self._rest + chunk
        end = text.rfind(b"\n") + 1
        self._rest = text[end:][:_LONGEST_LINE]
        for line in _telling(text[:end]):
            self._learn(line)

    def _learn(self, line: str) -> None:
        if _STARTS.search(line):
            self._found.clear()  # vLLM starts anew, perhaps with fewer ranks
            return
        for pattern in _LINES:
            if match := pattern.search(line):
                said = _PROCESS.search(line[: match.start()])
                process = said[0] if said else ""
                rank = _RANK.search(process)
                found = self._found.setdefault((rank[1] if rank else "0", process), {})
                found.update(
                    (name, _number(name, text)) for name, text in match.groupdict().items()
                )


def _telling(text: bytes) -> Iterator[str]:
    """The lines that may say something, in their order: most of a log says nothing."""
    starts: set[int] = set()
    for anchor in _ANCHORS:
        at = text.find(anchor)
        while at >= 0:
            starts.add(text.rfind(b"\n", 0, at) + 1)
            at = text.find(anchor, text.find(b"\n", at))
    for start in sorted(starts):
        end = text.find(b"\n", start, start + _LONGEST_LINE)
        yield text[start : end if end >= 0 else start + _LONGEST_LINE].decode("utf-8", "replace")


def _number(name: str, text: str) -> float:
    return float(text.replace(",", "")) * (1.0 if name == "tokens" else GIB)


def _components(found: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Disjoint: what vLLM calls consumed is weights and what is not torch's."""
    for name, value in found.items():
        if name != "consumed":
            yield name, value
    if "consumed" in found and "weights" in found and "other" not in found:
        yield "other", max(0.0, found["consumed"] - found["weights"])


def _add(one: float, other: float) -> float:
    return one + other
