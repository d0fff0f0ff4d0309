"""The real promtool: what it says about a unit-test file of rules."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def run_tests(path: Path) -> tuple[bool, str]:
    """Whether the tests pass, and all that it prints."""
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr
