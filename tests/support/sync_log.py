"""What a process syncs, renames and removes, in order: seen where it calls the C library."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


def sync_log(script: Path, directory: Path) -> list[tuple[str, str]]:
    """Runs `script DIRECTORY`: (sync, rename or remove; the name of the file), "." for the
    directory itself. Files elsewhere are left out."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("cc is not installed")
    library, log = directory.with_suffix(".so"), directory.with_suffix(".calls")
    options = ["-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run([compiler, *options], check=True)
    path = ":".join([str(script.parents[1]), *sys.path])
    extra = {"LD_PRELOAD": str(library), "SYNC_LOG": str(log), "PYTHONPATH": path}
    subprocess.run(
        [sys.executable, str(script), str(directory)], check=True, env=os.environ | extra
    )
    calls = [line.split(" ", 1) for line in log.read_text().splitlines()]
    return [
        (call, os.path.relpath(path, directory))
        for call, path in calls
        if Path(path) == directory or Path(path).parent == directory
    ]
