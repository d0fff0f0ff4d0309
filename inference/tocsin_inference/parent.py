"""The worker dies with its parent, however the parent dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


class ParentGone(RuntimeError):
    """The process that should be the parent is not."""


def die_with(parent: int) -> None:
    """Asks the kernel for SIGKILL when the parent ends, then checks that `parent` still is it.

    The order matters: a parent that ended before the request would never be reported.
    Linux alone has the request; elsewhere only the check is made.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise ParentGone(f"--parent-pid {parent}: the parent is {os.getppid()}")
