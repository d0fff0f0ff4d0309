"""The wheel alone, in a clean environment and an empty directory: nothing needs the checkout."""

from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.installed import ROOT, Ahead, Installed


@pytest.fixture(scope="module")
def installed(wheel_ahead: Ahead) -> Installed:
    return wheel_ahead.installed.result()


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
    bundled = [*sorted((ROOT / "rules").glob("*.yml"))]
    bundled += sorted((ROOT / "rules" / "prometheus").glob("*.yml"))
    assert [Path(line.split()[1]).name for line in done.stdout.splitlines()[::2]] == [
        path.name for path in bundled
    ]
    assert str(ROOT) not in done.stdout


def test_the_bundled_unit_tests_and_the_drill_run(wheel_ahead: Ahead) -> None:
    done = wheel_ahead.rehearsal.result()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Configuration: the default configuration: SUCCESS, 7 rule files")
    assert done.stdout.count("  SUCCESS\n") == len(
        list((ROOT / "rules" / "tests").rglob("*.test.yml"))
    )
    assert done.stdout.count("Incident of severity P") == 5


def test_the_simulated_gpus_are_there(installed: Installed) -> None:
    done = installed("tocsin", "exporter", "--collector.gpu.simulate=bundled/0123456789abcd")
    assert done.returncode == 2
    assert "there are bundled/geforce-rtx, bundled/h100-8x" in done.stderr


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
