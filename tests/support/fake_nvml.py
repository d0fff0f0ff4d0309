"""A fake libnvidia-ml.so.1, compiled from C, so that tests go through the real pynvml."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


@cache
def library() -> Path:
    """The compiled library; put its folder on LD_LIBRARY_PATH for a process of its own."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("cc is not installed")
    path = Path(mkdtemp(prefix="fake-nvml-")) / "libnvidia-ml.so.1"
    options = ["-shared", "-fPIC", "-O1", "-Wl,-soname,libnvidia-ml.so.1", "-lpthread"]
    subprocess.run([compiler, *options, "-o", str(path), str(SOURCE)], check=True)
    return path


class FakeNvml:
    """The library's handles; `nvml` is the real pynvml on top of it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(library()), mode=ctypes.RTLD_GLOBAL)  # found by its soname
        import pynvml

        self.nvml: ModuleType = pynvml

    def fail(self, function: str, code: int, gpu: int = -1) -> None:
        self._library.fake_fail(function.encode(), gpu, code)

    def hang(self, function: str, on: bool = True, gpu: int = -1) -> None:
        self._library.fake_hang(function.encode(), gpu, int(on))

    def blank(self, function: str, on: bool = True) -> None:
        """Its answers are NVML_VALUE_NOT_AVAILABLE."""
        self._library.fake_blank(function.encode(), int(on))

    def minor(self, gpu: int, minor: int) -> None:
        self._library.fake_minor(gpu, minor)

    def split(self, gpu: int, on: bool = True) -> None:
        """MIG: two GPU instances, 3 and 5, the second with two compute instances."""
        self._library.fake_split(gpu, int(on))

    def gpus(self, count: int) -> None:
        self._library.fake_gpus(count)

    def event_sets(self) -> int:
        """How many were created since the library was loaded."""
        return int(self._library.fake_event_sets())

    def xid(self, gpu: int, xid: int) -> None:
        self._library.fake_xid(gpu, ctypes.c_ulonglong(xid))
