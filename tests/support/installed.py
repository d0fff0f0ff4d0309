"""The wheel alone in a clean environment, built and installed while other tests run."""

import os
import subprocess
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINUTES = 60
Ended = subprocess.CompletedProcess[str]


class Installed:
    """A virtual environment with the core and nothing else; commands run where nothing lies."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.bin = folder / "venv" / "bin"
        self.empty = folder / "empty"
        self.empty.mkdir()
        self.environment = environment
        wheels = folder / "wheels"
        self._run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", wheels, ROOT)
        (wheel,) = wheels.glob("tocsin-*.whl")
        self._run(sys.executable, "-m", "venv", folder / "venv")
        pins = ROOT / "constraints.txt"
        self._run(self.bin / "python", "-m", "pip", "install", "-c", pins, wheel)

    def __call__(self, *command: str) -> Ended:
        return self._ended(self.bin / command[0], *command[1:])

    def _run(self, *command: str | Path) -> None:
        done = self._ended(*command)
        assert done.returncode == 0, done.stdout + done.stderr

    def _ended(self, *command: str | Path) -> Ended:
        """Politely: it shares the machine with tests that look at the clock."""
        return subprocess.run(
            ["nice", "-n", "10", *command],
            cwd=self.empty,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=20 * MINUTES,
        )


class Ahead:
    """What the tests of the wheel will ask for, begun on a thread of `executor`."""

    def __init__(self, folder: Path, executor: Executor) -> None:
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.installed: Future[Installed] = executor.submit(Installed, folder, environment)
        self.rehearsal: Future[Ended] = executor.submit(self._rehearsed)

    def _rehearsed(self) -> Ended:
        return self.installed.result()("alertctl", "test")
