"""What the agent may not import: the worker's libraries, which a core install does not have."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["tocsin_alerting.app", "tocsin_alerting.startup", "tocsin_exporter.exporter"]
)
def test_the_core_imports_neither_torch_nor_transformers(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert module.partition(".")[0] in loaded
    assert not loaded & {"torch", "transformers", "safetensors", "fastapi", "tocsin_inference"}
