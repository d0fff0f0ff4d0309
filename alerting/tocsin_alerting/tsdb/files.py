"""The files of the samples' directory: their numbers, and how they get, change and lose a name."""

import errno
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

log = logging.getLogger(__name__)

ASIDE, UNFINISHED = ".broken", ".tmp"
PutAside = Callable[[Path, Exception, str], object]
"""Moves a damaged file out of the way: its path, what is wrong, and what is served instead."""


def numbered_files(directory: Path, suffix: str) -> list[Path]:
    """The files of ours with that suffix, in the order in which they were written. Raises OSError:
    Path.glob shows a directory that may not be listed as an empty one."""
    with os.scandir(directory) as entries:
        every = [directory / path.name for path in entries if path.name.endswith(suffix)]
    ours = (entry for entry in every if re.fullmatch("[0-9]{1,18}", entry.stem))
    return sorted(ours, key=lambda path: (int(path.stem), path.name))


def next_path(directory: Path, suffix: str, last: int = 0) -> Path:
    """The name after all that are there, and after number `last`. Raises OSError."""
    number = max([last, *(int(path.stem) for path in numbered_files(directory, suffix))]) + 1
    return directory / f"{number:010d}{suffix}"


def rename_new(unfinished: Path, path: Path) -> None:
    """Raises FileExistsError where a rename would put the file in the place of another."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    unfinished.rename(path)


def set_aside(path: Path, error: Exception, rest: str, now_s: float) -> bool:
    """A damaged file goes out of the way at `now_s` in Unix seconds, and is logged. Whether it did:
    one that cannot be moved stays."""
    aside = aside_path(path)
    try:
        path.rename(aside)
    except OSError as refused:
        log.error(
            "file damaged, setting it aside failed: %s: %s (%s); %s", path, error, refused, rest
        )
        return False
    with suppress(OSError):
        os.utime(aside, (now_s, now_s))
    log.error("file damaged: %s: %s; set aside as %s; %s", path, error, aside.name, rest)
    return True


def aside_path(path: Path) -> Path:
    """A name that no file has: blocks and logs have the same numbers, and a number may come
    again once its file is out of the way."""
    first = path.with_name(path.name + ASIDE)
    others = (path.with_name(f"{path.name}-{number}{ASIDE}") for number in count(2))
    return next(candidate for candidate in chain([first], others) if not os.path.lexists(candidate))


def same_file(path: Path, was: os.stat_result) -> bool:
    """Whether the file is still there: another agent may have put one of that name in its place."""
    try:
        return os.path.samestat(was, path.stat())
    except FileNotFoundError:
        return False


def remove_same(path: Path, was: os.stat_result) -> bool:
    """The file that was there, not another in its place. Whether it is gone: one that stays is
    logged, and is no reason to write nothing."""
    try:
        if same_file(path, was):
            path.unlink(missing_ok=True)
    except OSError as error:
        log.error("failed to remove file: %s: %s", path, error.strerror)
        return False
    return True


def sync_directory(directory: Path) -> None:
    """A new name in a directory is there after a power failure only when this was done."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
