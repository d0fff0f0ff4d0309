"""The data directory: made if it is not there, and held by one agent at a time."""

import fcntl
import os
import re
from pathlib import Path

_FLOCK = re.compile(r"\d+: FLOCK .*? (?P<pid>\d{1,10}) \S+:(?P<inode>\d{1,20}) \S+ \S+\s*")


class InUse(Exception):
    """Another agent holds the directory; `pid` is 0 where nobody can tell whose."""

    def __init__(self, path: Path, pid: int) -> None:
        self.pid = pid
        who = f"tocsin (pid {pid})" if pid else "another tocsin"
        super().__init__(
            f"{path} is in use by {who}; end it, or choose another with --storage.path"
        )


def hold(path: Path) -> int:
    """Make the directory and hold it until the process ends, however it ends.

    The lock lies on the directory itself, so that a full disk has room for it. The descriptor is
    not inherited by children. Raises InUse, and OSError for what cannot be made or read.
    """
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = holder(os.fstat(descriptor).st_ino)
        os.close(descriptor)
        raise InUse(path, pid) from None
    return descriptor


def holder(inode: int, locks: Path = Path("/proc/locks")) -> int:
    """The process in `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF` (proc(5))."""
    try:
        lines = locks.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return 0
    for line in lines:
        found = _FLOCK.fullmatch(line)
        if found and int(found["inode"]) == inode:
            return int(found["pid"])
    return 0
