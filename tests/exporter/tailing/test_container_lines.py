"""What is around a line in the files of container runtimes."""

import json

import pytest

from tocsin_exporter.tailing.container_lines import ContainerLines, pod_name
from tocsin_exporter.tailing.tailed_file import LONGEST_LINE


def docker(text: str, stream: str = "stdout") -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": "2026-11-30T10:00:00Z"}).encode()


def cri(tag: str, text: str, stream: str = "stdout") -> bytes:
    return f"2026-11-30T10:00:00.123456789Z {stream} {tag} {text}".encode()


@pytest.mark.parametrize("wrap", [docker, cri])
def test_streams_are_joined_apart(wrap: object) -> None:
    lines = (
        [docker("out 1 "), docker("err\n", "stderr"), docker("out 2\n")]
        if wrap is docker
        else [cri("P", "out 1 "), cri("F", "err", "stderr"), cri("F", "out 2")]
    )
    assert ContainerLines().unwrap(lines) == [b"err", b"out 1 out 2"]


def test_a_line_in_no_known_format_is_taken_as_it_is() -> None:
    odd = [b"plain", b"{", b'{"log": 1}', b"[]", b"{" * 10_000, b""]
    assert ContainerLines().unwrap(odd) == odd


def test_parts_without_an_end_are_bounded() -> None:
    lines = ContainerLines()
    assert lines.unwrap([docker("x" * 10_000)] * 50) == []
    assert [len(line) for line in lines.unwrap([docker("x\n")])] == [LONGEST_LINE]


def test_names_of_pods() -> None:
    assert pod_name("/var/log/pods/llm_vllm-0_1f/engine/0.log") == "llm/vllm-0/engine"
    assert pod_name("/var/log/other/engine/0.log") == ""
