"""A small disk that can be filled to the last byte and freed again: a tmpfs, mounted as root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Not a byte is left."""
        with self._ballast.open("wb", buffering=0) as ballast:
            for size in (65536, 4096, 512, 1):
                with suppress(OSError):  # ENOSPC, as wanted
                    while ballast.write(bytes(size)):
                        pass

    def free(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(path: Path, size: str = "2m") -> Iterator[SmallDisk]:
    path.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs root to mount a tmpfs")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
