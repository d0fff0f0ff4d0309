"""What the agent may not import, the worker's libraries, which a core install does not have; and
what a short command need not, which would take longer than all that it does."""

import subprocess
import sys
from pathlib import Path

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
HEAVY |= {"yaml", "bcrypt"}
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


RULES = "groups: [{name: g, rules: [{alert: Down, expr: up == 0, labels: {severity: P1}}]}]"
TEST = """
rule_files: [rules.yml]
tests:
- input_series: [{series: up, values: '0 0 0'}]
  alert_rule_test: [{eval_time: 1m, alertname: Down, exp_alerts: [{exp_labels: {severity: P1}}]}]
"""
_OF_THE_AGENT = (
    *("apscheduler", "httpx2", "jinja2", "prometheus_client", "psutil", "pydantic", "rich"),
    *("starlette", "uvicorn", "uvloop", "sqlite3", "gotime", "gotpl", "xml"),
)
NOT_OF = {
    "--help": (*_OF_THE_AGENT, "asyncio", "numpy", "yaml"),
    "check": (*_OF_THE_AGENT, "asyncio", "numpy"),
    "test": _OF_THE_AGENT,
}


@pytest.mark.parametrize("command", NOT_OF)
def test_a_command_on_files_imports_nothing_that_it_does_not_need(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "test.yml").write_text(TEST)
    files = {"check": "rules.yml", "test": "test.yml"}
    words = [command, *([files[command]] if command in files else [])]
    code = (
        "import sys; from tocsin_alerting.cli.alertctl import main\n"
        f"try: main({words})\nexcept SystemExit as ended: assert not ended.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    loaded = set(done.stdout.split())
    assert not loaded & set(NOT_OF[command])
    others = {
        f"tocsin_alerting.cli.{name}" for name in ("alerts", "backtest", "incidents", "query")
    }
    assert command == "--help" or not loaded & others
