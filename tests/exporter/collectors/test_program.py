"""What a process runs, told from what its arguments only name."""

import pytest

from tocsin_exporter.collectors.host import PROCESS_GROUPS
from tocsin_exporter.collectors.program import by_comm, by_executable, by_line, parse


def stat(comm: str) -> str:
    return f"77 ({comm}) S 1 77 77\n"


def cmdline(*arguments: str) -> str:
    return "".join(f"{argument}\0" for argument in arguments)


PYTHON = "/opt/venv/bin/python3.11"


@pytest.mark.parametrize(
    ("comm", "arguments", "group"),
    [
        ("VLLM::EngineCor", ["VLLM::EngineCore"], "vllm"),
        ("VLLM::EngineCor", [], "vllm"),  # a zombie has no arguments any more
        ("vllm", [PYTHON, "/opt/venv/bin/vllm", "serve", "m", "--port", "8000"], "vllm"),
        ("python3", ["python3", "-m", "vllm.entrypoints.openai.api_server"], "vllm"),
        ("python3", ["python3", "-u", "-X", "dev", "-Im", "vllm.entrypoints.cli.main"], "vllm"),
        ("python3", ["python3", "-mvllm", "serve", "m"], "vllm"),
        ("python3", ["python3", "-m", "sglang.launch_server", "--model-path", "m"], "sglang"),
        ("sglang::schedul", ["sglang::scheduler_TP0"], "sglang"),
        ("text-generation", ["text-generation-launcher", "--model-id", "m"], "tgi"),
        ("llama-server", ["/usr/bin/llama-server", "-m", "x.gguf"], "llama-server"),
        ("tocsin", ["/v/bin/python", "/v/bin/tocsin", "up", "--load", "2"], "tocsin"),
        ("tocsin", ["/v/bin/python", "/v/bin/tocsin", "worker"], "tocsin-worker"),
        ("python", ["/v/bin/python", "-m", "tocsin_inference"], "tocsin-worker"),
        ("grep", ["grep", "-r", "vllm serve"], None),
        ("vim", ["vim", "llama-server.service"], None),
        ("pip", ["pip", "install", "sglang"], None),
        ("python3", ["python3", "-c", "import time", "run notes: vllm serve qwen"], None),
        ("python3", ["python3", "-c", "print()", "vllm", "serve"], None),
        ("python3", ["python3", "-c", "vllm serve"], None),
        ("bash", ["bash", "-lc", "llama-server"], None),
        ("python3", ["python3"], None),
        ("", [], None),
        ("python3", ["python3", "-uc", "print()", "-m", "vllm.x"], None),
        ("python3", ["python3", "notes.py", "-m", "vllm.x", "tocsin up"], None),
        ("python3", ["python3", "/srv/vllm serve/notes.py"], None),
        ("bash", ["bash", "-c", "vllm serve m"], None),
        ("bash", ["bash", "watch.sh", "vllm serve"], None),
        ("ssh", ["ssh", "gpu7", "tocsin up"], None),
        ("tail", ["tail", "-f", "/var/log/tocsin exporter"], None),
        ("less", ["less", "VLLM::EngineCore"], None),
    ],
)
def test_engines_are_known_by_what_was_started(
    comm: str, arguments: list[str], group: str | None
) -> None:
    program = parse(stat(comm), cmdline(*arguments))
    fitting = [name for name, match in PROCESS_GROUPS.items() if match(program)]
    assert fitting == ([group] if group else [])


def test_an_executable_is_known_by_path_or_name_and_a_script_as_well() -> None:
    program = parse(stat("python3"), cmdline(PYTHON, "-I", "/opt/venv/bin/vllm", "serve", "api"))
    for name in (PYTHON, "python3.11", "/opt/venv/bin/vllm", "vllm"):
        assert by_executable(name)(program), name
    for name in ("python3", "serve", "api", "bin/vllm", ""):
        assert not by_executable(name)(program), name
    editor = parse(stat("vi"), cmdline("vi", "vllm"))
    assert not by_executable("vllm")(editor)


def test_a_name_may_hold_anything() -> None:
    program = parse(stat("tricky) (name"), cmdline("x"))
    assert by_comm("tricky) (name")(program)
    assert not by_comm("tricky")(program)


def test_a_pattern_is_searched_in_name_and_command_line() -> None:
    program = parse(stat("python3"), cmdline("python3", "-c", "1", "job 7"))
    assert by_line(r"^python3 python3.*job \d$")(program)
    assert not by_line("job 8")(program)
