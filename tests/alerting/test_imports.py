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


# What `tocsin exporter` has no use for: it runs beside a model that wants the memory.
HEAVY = {"pydantic", "httpx2", "httpcore2", "jinja2", "dns", "re2", "psutil", "rich"}
HEAVY |= {"apscheduler", "aiosmtplib", "orjson", "multipart", "prometheus_client"}
AGENTS = ("rules", "incidents", "notify", "tsdb", "promql", "api", "config", "loops")


def test_the_exporter_loads_neither_the_agent_nor_what_only_engines_need() -> None:
    code = "import sys, tocsin_alerting.exporter_startup; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "tocsin_exporter.exporter" in modules
    assert not HEAVY & {name.partition(".")[0] for name in modules}
    agents = tuple(f"tocsin_alerting.{part}" for part in AGENTS)
    assert [name for name in modules if name.startswith(agents)] == []
    of_engines = ("collectors.engine", "collectors.scraped_page", "engine_access", "http")
    loaded = [f"tocsin_exporter.{part}" for part in of_engines]
    assert [name for name in modules if name in loaded] == []
