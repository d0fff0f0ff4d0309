"""The worker dies with its parent, however the parent dies, and before it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


_FIRST = 500  # of 1000: where memory is out, the kernel ends this process before a real engine


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


def die_first(score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """When memory is out, the guest goes: not the agent that must tell of it, nor an engine.

    The agent's own score would be inherited otherwise. Raising it takes no right.
    """
    try:
        score.write_text(f"{_FIRST}\n")
    except OSError:  # not Linux, or no /proc
        return
