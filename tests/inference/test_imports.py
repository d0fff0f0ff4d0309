"""Of the exporter the worker may have the ground floor alone, and that costs it no library."""

import subprocess
import sys

import pytest

GROUND_FLOOR = {
    "answer_text",
    "connections",
    "http_server",
    "listen",
    "log_limit",
    "logs",
    "output",
    "relative_redirects",
    "socket_owner",
    "tasks",
    "threads",
}
_OTHERS = {"psutil", "pynvml", "httpx2", "pydantic", "numpy", "starlette", "prometheus_client"}


def loaded(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_worker_has_nothing_else_of_the_product() -> None:
    pytest.importorskip("torch")
    modules = loaded("import tocsin_inference.__main__, tocsin_inference.server")
    ours = {name for name in modules if name.startswith("tocsin_exporter.")}
    assert ours == {f"tocsin_exporter.{name}" for name in GROUND_FLOOR - {"listen"}}
    assert not {name for name in modules if name.startswith("tocsin_alerting")}


def test_the_ground_floor_imports_no_library_but_uvicorn() -> None:
    modules = loaded("\n".join(f"import tocsin_exporter.{name}" for name in GROUND_FLOOR))
    assert not {name.partition(".")[0] for name in modules} & _OTHERS
    assert not {
        name
        for name in modules
        if name.startswith("tocsin_exporter.") and name.split(".")[1] not in GROUND_FLOOR
    }


def test_a_wrong_flag_is_told_before_anything_large_is_imported() -> None:
    modules = loaded("import tocsin_inference.__main__")
    assert not {name.partition(".")[0] for name in modules} & {*_OTHERS, "torch", "uvicorn"}
    assert "asyncio" not in modules
