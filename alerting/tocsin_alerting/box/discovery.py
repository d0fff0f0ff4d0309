"""Which inference engines already run on this machine: asked on the ports that they use by default.

An engine is what answers as one: with the metrics of an engine we know, or with the OpenAI model
list. Any other web server on such a port is left alone.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tocsin_alerting.http import httpx

# vLLM and our worker, SGLang, TGI, llama.cpp, Ollama, TensorRT-LLM (with vLLM's), LMDeploy.
USUAL_PORTS = (8000, 30000, 3000, 8080, 11434, 23333)
_PREFIXES = {
    "vllm:": "vLLM",
    "sglang:": "SGLang",
    "tgi_": "TGI",
    "llamacpp:": "llama.cpp",
    "trtllm_": "TensorRT-LLM",
    "llm_": "Tocsin's worker",
}
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Engine:
    """`url` without a path; `kind` as its makers spell it."""

    url: str
    kind: str


async def engines(
    ports: Iterable[int] = USUAL_PORTS, timeout_s: float = 1.0, host: str = "127.0.0.1"
) -> list[Engine]:
    """The engines that answer, in the order of the ports; silence costs `timeout_s` once."""
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
        found = await asyncio.gather(
            *(_ask(client, f"http://{host}:{p}", timeout_s) for p in ports)
        )
    return [engine for engine in found if engine is not None]


async def _ask(client: httpx.AsyncClient, url: str, timeout_s: float) -> Engine | None:
    metrics, models = await asyncio.gather(
        _get(client, url + "/metrics", timeout_s), _get(client, url + "/v1/models", timeout_s)
    )
    for line in metrics.splitlines():
        for prefix, kind in _PREFIXES.items():
            if line.removeprefix("# HELP ").startswith(prefix):
                return Engine(url, kind)
    if '"data"' in models and '"object"' in models:
        return Engine(url, "an OpenAI-compatible engine")
    return None


async def _get(client: httpx.AsyncClient, url: str, timeout_s: float) -> str:
    """The body, or nothing: whatever goes wrong here means that no engine answers."""
    try:
        async with asyncio.timeout(timeout_s), client.stream("GET", url) as response:
            if response.status_code != 200:
                return ""
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    break
            return body.decode("utf-8", "replace")
    except (httpx.HTTPError, TimeoutError, OSError):
        return ""


def described(found: Sequence[Engine]) -> str:
    """`vLLM at http://127.0.0.1:8000 and SGLang at …`."""
    return " and ".join(f"{engine.kind} at {engine.url}" for engine in found)
