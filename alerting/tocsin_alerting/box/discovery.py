"""Which inference engines already run on this machine: asked on the ports that they use by default.

An engine is what answers as one: with the metrics of an engine we know, or with the OpenAI model
list. Any other web server on such a port is left alone.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.identify import identify

# vLLM and our worker, SGLang, TGI, llama.cpp, Ollama, TensorRT-LLM (with vLLM's), LMDeploy.
USUAL_PORTS = (8000, 30000, 3000, 8080, 11434, 23333)
_KINDS = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tgi": "TGI",
    "llamacpp": "llama.cpp",
    "trtllm": "TensorRT-LLM",
    "triton": "Triton",
    "tocsin": "Tocsin's worker",
}


@dataclass(frozen=True, slots=True)
class Engine:
    """`kind` is its name as its makers spell it."""

    access: EngineAccess
    kind: str

    @property
    def url(self) -> str:
        return self.access.url


async def engines(
    ports: Iterable[int] = USUAL_PORTS, timeout_s: float = 1.0, host: str = "127.0.0.1"
) -> list[Engine]:
    """The engines that answer, in the order of the ports; silence costs `timeout_s` once."""
    asked = [EngineAccess.of(f"http://{host}:{port}") for port in ports]
    kinds = await asyncio.gather(*(identify(access, timeout_s) for access in asked))
    return [
        Engine(access, _KINDS.get(kind, "an OpenAI-compatible engine"))
        for access, kind in zip(asked, kinds, strict=True)
        if kind
    ]


def described(found: Sequence[Engine]) -> str:
    """`vLLM at http://127.0.0.1:8000 and SGLang at …`."""
    return " and ".join(f"{engine.kind} at {engine.url}" for engine in found)
