"""What the operator may set: environment first, flags over it. Parsed once, frozen, checked."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tocsin_inference import logs

# Variables of other servers that look as if they worked here, and what to write instead.
NOT_READ = {
    "QUANTIZATION_FORMAT": "name a model of that format with MODEL_PATH",
    "BATCH_SIZE": "write --max-running",
    "MAX_BATCH_SIZE": "write --max-running",
    "MAX_WORKERS": "one process serves; start further ones on ports of their own",
    "WORKERS": "one process serves; start further ones on ports of their own",
    "MAX_CONNECTIONS": "write --max-running and --max-waiting",
    "ENABLE_CONNECTION_POOLING": "leave it out; connections are kept open",
    "ENABLE_CPU_OFFLOAD": "write --device cpu, or take a smaller model",
    "ENABLE_METRICS": "leave it out; /metrics is always there",
    "ENABLE_MIXED_PRECISION": "write --dtype",
    "ENABLE_DYNAMIC_BATCHING": "leave it out; requests are always batched",
    "GRADIENT_ACCUMULATION_STEPS": "leave it out; nothing is trained here",
    "CUDA_MEMORY_FRACTION": "write --kv-cache-tokens",
    "DEFAULT_DO_SAMPLE": "write DEFAULT_TEMPERATURE=0 for greedy answers",
    "DO_SAMPLE": "write DEFAULT_TEMPERATURE=0 for greedy answers",
    "MAX_LENGTH": "write DEFAULT_MAX_LENGTH",
    "TEMPERATURE": "write DEFAULT_TEMPERATURE",
    "TOP_P": "write DEFAULT_TOP_P",
    "DEVICE": "write --device",
    "MODEL_NAME": "write --served-name",
    "API_KEY": "write API_KEYS; without it any client is served",
    "TIMEOUT": "write REQUEST_TIMEOUT",
}
LOG_LEVELS = ("critical", "error", "warning", "info", "debug")


class SettingsError(ValueError):
    """A variable or flag that cannot be used; the message names it, its value and the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The worker's settings. Lengths are in tokens, times in seconds; None means "choose"."""

    model_path: Path | None
    served_name: str | None
    cache_dir: Path
    host: str
    port: int
    device: str
    dtype: str
    threads: int | None
    log_level: str
    log_format: str
    default_max_length: int
    default_temperature: float
    default_top_p: float
    request_timeout: float
    max_running: int
    max_waiting: int
    kv_cache_tokens: int | None
    api_keys: tuple[str, ...] = field(repr=False)
    output_anomalies: bool
    parent_pid: int | None


def parser(prog: str) -> argparse.ArgumentParser:
    """The command line; every default is None so that the environment can be told from a flag."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Serve a local model on the OpenAI API, or fetch the default model.",
        epilog="Flags win over the environment variables in capitals.",
    )
    add = result.add_argument
    add(
        "command",
        nargs="?",
        choices=("serve", "fetch"),
        default="serve",
        help="Serve the model, or fetch it and exit. [default: serve]",
    )
    add(
        "--model-path",
        help="Directory of safetensors, or a GGUF file. [MODEL_PATH, default: the default model]",
    )
    add("--served-name", help="Name in /v1/models and in metrics. [default: the model's own]")
    add(
        "--cache-dir",
        help="Directory of the default model. [TOCSIN_CACHE_DIR, default: ~/.cache/tocsin]",
    )
    add("--host", help="Address to listen on. [HOST, default: 127.0.0.1]")
    add("--port", help="Port to listen on; 0 takes a free one. [PORT, default: 8000]")
    add("--device", choices=("cpu", "cuda"), help="Device of the model. [default: cpu]")
    add(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="Data type of the weights. [default: auto]",
    )
    add("--threads", help="CPU threads for a forward pass. [default: all cores of the process]")
    add(
        "--log-level",
        choices=LOG_LEVELS,
        help="Log messages of this level and above. [LOG_LEVEL, default: info]",
    )
    add("--log-format", choices=logs.FORMATS, help="Format of log lines. [default: logfmt]")
    add(
        "--request-timeout",
        help="Seconds after which a request gets 504. [REQUEST_TIMEOUT, default: 300]",
    )
    add(
        "--max-running",
        help="Maximum number of requests generated at the same time. [default: 16, with CUDA 256]",
    )
    add(
        "--max-waiting",
        help="Maximum number of requests in the queue; others get 429. [default: 4 x max-running]",
    )
    add(
        "--kv-cache-tokens",
        help="Size of the KV cache in tokens. [default: 16384, with CUDA from free memory]",
    )
    add("--parent-pid", help="Exit when this process, the parent, exits. [default: none]")
    return result


def read(argv: Sequence[str], env: Mapping[str, str], prog: str) -> tuple[str, Settings]:
    """The command (`serve` or `fetch`) and the settings from `argv` over `env`.

    Raises SettingsError for a value out of range; argparse exits with 2 for an unknown flag.
    """
    flags = vars(parser(prog).parse_args(argv))
    source = _Source(flags, env)
    device = source.text("device", "", "cpu")
    running = source.number("max_running", "", 256 if device == "cuda" else 16, low=1)
    return flags["command"], Settings(
        model_path=source.path("model_path", "MODEL_PATH"),
        served_name=source.get("served_name", ""),
        cache_dir=source.path("cache_dir", "TOCSIN_CACHE_DIR") or default_cache(env),
        host=source.text("host", "HOST", "127.0.0.1"),
        port=source.number("port", "PORT", 8000, low=0, high=65535),
        device=device,
        dtype=source.text("dtype", "", "auto"),
        threads=source.number("threads", "", 0, low=0) or None,
        log_level=source.choice("log_level", "LOG_LEVEL", "info", LOG_LEVELS),
        log_format=source.text("log_format", "", "logfmt"),
        default_max_length=source.number("", "DEFAULT_MAX_LENGTH", 256, low=1),
        default_temperature=source.real("", "DEFAULT_TEMPERATURE", 0.7, 0.0, 2.0),
        default_top_p=source.real("", "DEFAULT_TOP_P", 0.9, 0.0, 1.0),
        request_timeout=source.real("request_timeout", "REQUEST_TIMEOUT", 300.0, 0.001, 86400.0),
        max_running=running,
        max_waiting=source.number("max_waiting", "", 4 * running, low=0),
        kv_cache_tokens=source.number("kv_cache_tokens", "", 0, low=0) or None,
        api_keys=tuple(k.strip() for k in env.get("API_KEYS", "").split(",") if k.strip()),
        output_anomalies=source.choice("", "OUTPUT_ANOMALIES", "false", ("false", "true"))
        == "true",
        parent_pid=source.number("parent_pid", "", 0, low=0) or None,
    )


def unread(env: Mapping[str, str]) -> Iterator[str]:
    """What `env` sets that does nothing, each with what to write instead; never its value."""
    for name, instead in NOT_READ.items():
        if env.get(name):
            yield f"environment variable {name} has no effect here: {instead}"


def default_cache(env: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/tocsin`, else `~/.cache/tocsin`."""
    root = env.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "tocsin"


@dataclass(frozen=True, slots=True)
class _Source:
    flags: Mapping[str, Any]
    env: Mapping[str, str]

    def get(self, flag: str, variable: str) -> str | None:
        value = self.flags.get(flag)
        return value if value is not None else (self.env.get(variable) or None)

    def text(self, flag: str, variable: str, default: str) -> str:
        return self.get(flag, variable) or default

    def path(self, flag: str, variable: str) -> Path | None:
        value = self.get(flag, variable)
        return Path(value).expanduser() if value else None

    def choice(self, flag: str, variable: str, default: str, allowed: Sequence[str]) -> str:
        value = self.text(flag, variable, default).lower()
        if value not in allowed:
            raise SettingsError(f"{variable}={value!r}: must be one of {', '.join(allowed)}")
        return value

    def switch(self, variable: str) -> bool:
        return self.choice("", variable, "false", ("false", "true")) == "true"

    def number(
        self, flag: str, variable: str, default: int, low: int, high: int | None = None
    ) -> int:
        return int(self._within(flag, variable, default, low, high, int))

    def real(self, flag: str, variable: str, default: float, low: float, high: float) -> float:
        return float(self._within(flag, variable, default, low, high, float))

    def _within(
        self,
        flag: str,
        variable: str,
        default: float,
        low: float,
        high: float | None,
        kind: type[int] | type[float],
    ) -> float:
        raw = self.get(flag, variable)
        name = variable or "--" + flag.replace("_", "-")
        try:
            value = default if raw is None else kind(raw)
        except ValueError:
            raise SettingsError(f"{name}={raw!r}: must be a number") from None
        if not low <= value or (high is not None and not value <= high):
            limits = f"at least {low}" if high is None else f"between {low} and {high}"
            raise SettingsError(f"{name}={raw!r}: must be {limits}")
        return value
