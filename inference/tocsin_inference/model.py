"""The loaded model and its tokenizer: what the engine runs and what the API says about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from tocsin_inference.errors import Invalid, cut
from tocsin_inference.weights import ModelFiles, WeightsError, one_line, remedy, unreadable

_FAST_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Model:
    """A causal language model on its device. `context` is its limit in tokens, `longest_token` the
    most characters that one token stands for."""

    network: Any
    tokenizer: Any
    source: ModelFiles
    name: str
    context: int
    vocabulary: int
    longest_token: int
    stop_ids: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        return torch.device(self.network.device)

    @property
    def kind(self) -> str:
        return str(self.network.config.model_type)

    @property
    def quantization(self) -> str | None:
        """The method in which the weights lie in memory; None where they are plain numbers, also if
        they were made of a quantized file."""
        declared = getattr(self.network.config, "quantization_config", None)
        method = getattr(declared, "quant_method", None)
        return str(method) if method else None

    def weight_bytes(self) -> int:
        """Bytes of parameters and buffers; tied tensors count once."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        return sum({t.data_ptr(): t.nbytes for t in tensors}.values())

    def encode(self, text: str, special: bool) -> list[int]:
        """Token ids; `special` adds what the model expects around plain text. Raises Invalid.

        `encode_batch_fast` releases the GIL. `encode` does not: 100,000 tokens held every other
        stream for 1.5 s.
        """
        backend = self.tokenizer.backend_tokenizer
        try:
            encoded = backend.encode_batch_fast([text], add_special_tokens=special)[0]
        except Exception as error:  # why: it depends on the text alone, and is the client's to mend
            raise Invalid(
                f"the tokenizer cannot read this text: {cut(str(error))}", "prompt"
            ) from error
        return list(encoded.ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True))

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """The conversation in the model's own template. Raises Invalid."""
        if not self.tokenizer.chat_template:
            raise Invalid(f"{self.name} has no chat template: use /v1/completions", "messages")
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # why: a template is the model's code and may raise anything
            message = f"the chat template refuses these messages: {cut(str(error))}"
            raise Invalid(message, "messages") from error
        return str(text)


def load(source: ModelFiles, served_name: str | None, device: str, dtype: str) -> Model:
    """Loads a model for inference. Raises WeightsError where the device or files cannot serve."""
    if device == "cuda" and not torch.cuda.is_available():
        raise WeightsError("--device cuda: torch sees no CUDA device; use --device cpu")
    kind = choose_dtype(device, Path("/proc/cpuinfo")) if dtype == "auto" else _DTYPES[dtype]
    check_files(source.directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.directory, local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.directory,
            dtype=kind,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # why: for files that are not a model transformers raises anything
        raise WeightsError(
            f"cannot load {source.directory}: {one_line(error)}; {remedy(source.directory)}"
        ) from error
    network, report = loaded
    if report["missing_keys"]:  # transformers would fill them with noise and serve that
        lost = ", ".join(sorted(report["missing_keys"])[:3])
        raise WeightsError(
            f"{source.directory}: {len(report['missing_keys'])} tensors are missing "
            f"({lost}); {remedy(source.directory)}"
        )
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise WeightsError(f"{source.directory}: its tokenizer has no tokenizer.json")
    text = network.config.get_text_config()
    network.to(device)
    return Model(
        network=network.eval(),
        tokenizer=tokenizer,
        source=source,
        name=served_name or source.name,
        context=int(text.max_position_embeddings),
        vocabulary=int(text.vocab_size),
        longest_token=max(map(len, tokenizer.get_vocab())),
        stop_ids=stop_ids(network, tokenizer),
    )


def check_files(directory: Path) -> None:
    """Opens what transformers will load, since of a file that cannot be read it says only that
    there is none. Raises WeightsError."""
    weights = sorted(directory.glob("*.safetensors"))
    for file in [*sorted(directory.glob("*.json")), *weights]:
        try:
            with file.open("rb"):
                pass
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            else:
                with safe_open(file, "pt"):
                    pass
        except OSError as error:
            raise unreadable(error, file) from error
        except (SafetensorError, ValueError) as error:
            raise WeightsError(
                f"{file}: cut off or damaged ({one_line(error)}); {remedy(directory)}"
            ) from error


def choose_dtype(device: str, cpuinfo: Path) -> torch.dtype:
    """bfloat16 where the hardware computes in it. Where a CPU only emulates it, float32 is twice as
    fast (112 against 51 tokens/s at 16 requests on two AVX2 cores)."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    try:
        words = set(cpuinfo.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return torch.float32
    return torch.bfloat16 if words & _FAST_BF16 else torch.float32


def stop_ids(network: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every id that ends an answer: the generation configuration's and the tokenizer's."""
    ids: set[int] = set()
    for value in (network.generation_config.eos_token_id, tokenizer.eos_token_id):
        if isinstance(value, int):
            ids.add(value)
        elif value is not None:
            ids.update(value)
    return tuple(sorted(ids))
