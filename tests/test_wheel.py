"""The wheel alone, in a clean environment and an empty directory: nothing needs the checkout."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_process import AgentProcess

ROOT = Path(__file__).parents[1]
MINUTES = 60


class Installed:
    """A virtual environment with the core and nothing else; commands run where nothing lies."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.empty = folder / "empty"
        self.empty.mkdir()
        wheels = folder / "wheels"
        _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", wheels, ROOT)
        (wheel,) = wheels.glob("tocsin-*.whl")
        _run(sys.executable, "-m", "venv", folder / "venv")
        _run(self.bin / "python", "-m", "pip", "install", "-c", ROOT / "constraints.txt", wheel)

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.empty,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=5 * MINUTES,
        )


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=5 * MINUTES, env=_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    yield Installed(tmp_path_factory.mktemp("installed"))


def test_it_holds_no_torch_and_nothing_of_the_checkout(installed: Installed) -> None:
    done = installed("python", "-c", "import tocsin_alerting; print(tocsin_alerting.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed.bin.parent)
    for name in ("torch", "transformers", "fastapi"):
        assert installed("python", "-c", f"import {name}").returncode == 1


def test_the_commands_say_their_version(installed: Installed) -> None:
    for tool in ("tocsin", "alertctl"):
        done = installed(tool, "--version")
        assert done.returncode == 0
        assert done.stdout.startswith(f"{tool}, version 0.")


def test_the_bundled_rules_are_checked(installed: Installed) -> None:
    done = installed("alertctl", "check")
    assert (done.returncode, done.stderr) == (0, "")
    bundled = sorted((ROOT / "rules").glob("*.yml"))
    assert [Path(line.split()[1]).name for line in done.stdout.splitlines()[::2]] == [
        path.name for path in bundled
    ]
    assert str(ROOT) not in done.stdout


def test_the_bundled_unit_tests_and_the_drill_run(installed: Installed) -> None:
    done = installed("alertctl", "test")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Configuration: the default configuration: SUCCESS, 3 rule files")
    assert done.stdout.count("  SUCCESS\n") == len(list((ROOT / "rules" / "tests").glob("*.yml")))
    assert done.stdout.count("Incident of severity P") == 5


def test_the_worker_says_what_it_needs(installed: Installed) -> None:
    done = installed("tocsin", "worker")
    assert done.returncode != 0
    assert "tocsin[inference]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_agent_runs(installed: Installed) -> None:
    agent = AgentProcess(
        installed.empty, "--no-worker", "--engine.url=http://127.0.0.1:9", binaries=installed.bin
    )
    with agent:
        assert "\nnode_load1 " in agent.text("/metrics")
        assert "tocsin_rule_group_interval_seconds" in agent.text("/metrics")
        assert agent.text("/runbooks/InferenceEngineDown").startswith("# InferenceEngineDown\n")
        assert len(agent.get("/api/v1/rules")["groups"]) >= 3
        assert agent.terminate() < 5
    assert "Traceback" not in agent.said()
