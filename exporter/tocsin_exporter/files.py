"""Small files that people name: read to a bound, and never waited for.

Whoever opens a pipe waits for somebody who writes it, perhaps for ever: it stands in the way of a
start, or of the loop when a secret is read anew.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_SECRET_BYTES = 64 << 10
_DEVICES = (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISBLK)


def open_file(path: str | Path) -> BinaryIO:
    """`path` for reading. Raises OSError, also for a pipe, a socket, a disk or a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if any(is_device(mode) for is_device in _DEVICES):
            raise OSError(errno.EINVAL, "it is a pipe or a device; a file is needed", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:  # why: whatever happens, the descriptor is not left open
        os.close(descriptor)
        raise


def file_bytes(path: str | Path, most_bytes: int, advice: str = "") -> bytes:
    """What stands in `path`. Raises OSError as `open_file`, and for more than `most_bytes`."""
    data = b""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size  # 0 for a device and in /proc
        if size <= most_bytes:
            data = file.read(size + 1 if size else most_bytes + 1) or b""  # None: a silent terminal
            size = len(data)
    if size > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes:,} bytes{advice}", str(path))
    return data


def check_file(path: str | Path | None) -> None:
    """Before it is given to a library that would wait for it. Raises OSError as `open_file`."""
    if path is not None:
        open_file(path).close()
