"""A journal that is no database of ours any more, or not at its place: how one is known, and put
out of the way.

`incidents.db.broken-20261128T221503Z` lies beside the new one, with its `-wal` and `-shm`.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)

_ASIDE_MARK = ".broken-"
_ASIDE_TIME = "%Y%m%dT%H%M%SZ"
_BROKEN_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT)
_FOREIGN_SCHEMA = re.compile("no such (table|column)|has no column|malformed")
_FILE_ENDINGS = ("", "-wal", "-shm", "-journal")


def is_broken(path: Path, error: Exception, opened: bool, reading: bool) -> bool:
    """Whether trying again cannot help: what lies there is damaged, or none of ours. A disk that
    is full or fails, and a file that others hold, may come back. `opened`: it could be opened.
    `reading`: its rows were read back, and a row that cannot be understood is damaged."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BROKEN_CODES:
            return True
        return bool(_FOREIGN_SCHEMA.search(str(error))) or not (opened or _is_readable(path))
    return reading and isinstance(
        error, (ValueError, KeyError, TypeError, IndexError, AttributeError)
    )


def _is_readable(path: Path) -> bool:
    """Whether there is no file yet, or one that we may read."""
    try:
        if not path.parent.is_dir() or not os.path.lexists(path):
            return True
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:
        return True  # the disk says nothing now


def file_ids(path: Path) -> dict[str, tuple[int, int]]:
    """Device and inode of what lies at `path` and beside it, by the ending of its name."""
    return {
        ending: file_id for ending in _FILE_ENDINGS if (file_id := _inode(path, ending)) is not None
    }


def moved_files(path: Path, before: Mapping[str, tuple[int, int]]) -> list[str]:
    """The endings of what is not where it was: it was deleted, or another file took its place."""
    return [ending for ending, was in before.items() if _inode(path, ending, was) != was]


def file_sizes(path: Path) -> dict[str, int]:
    """The bytes of the database and its WAL, by the ending of the name; they never get fewer while
    they are open, but when somebody vacuums the one or has the other written back."""
    bytes_by_ending = {}
    for ending in _FILE_ENDINGS[:2]:
        try:
            bytes_by_ending[ending] = path.with_name(path.name + ending).stat().st_size
        except OSError:
            continue  # it is gone, which `moved` tells, or the disk says nothing now
    return bytes_by_ending


def shortened_files(path: Path, before: Mapping[str, int]) -> list[str]:
    """The endings of what is shorter than it was."""
    now = file_sizes(path)
    return [ending for ending, size in before.items() if now.get(ending, size) < size]


def is_whole(path: Path) -> bool:
    """Whether the database is as long as it says itself (sqlite.org/fileformat2.html, 1.3)."""
    with path.open("rb") as file:
        head = file.read(32)
        page = int.from_bytes(head[16:18], "big")
        pages = int.from_bytes(head[28:32], "big")
        return len(head) == 32 and file.seek(0, 2) == pages * (65536 if page == 1 else page)


def _inode(
    path: Path, ending: str, unknown: tuple[int, int] | None = None
) -> tuple[int, int] | None:
    try:
        status = path.with_name(path.name + ending).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return unknown  # the disk says nothing now
    return status.st_dev, status.st_ino


def set_aside(path: Path, at_s: float) -> Path:
    """The new place of what lies at `path`. Raises OSError."""
    mark = _ASIDE_MARK + datetime.fromtimestamp(at_s, UTC).strftime(_ASIDE_TIME)
    aside, number = path.with_name(path.name + mark), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}{mark}-{number}")
    for ending in _FILE_ENDINGS:
        beside = path.with_name(path.name + ending)
        if os.path.lexists(beside):
            beside.rename(aside.with_name(aside.name + ending))
    return aside


def times_set_aside(path: Path) -> Iterator[float]:
    """When files were, in Unix seconds, by the names that lie there."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return
    for name in names:
        text = name.removeprefix(path.name + _ASIDE_MARK)[:16]
        if text != name[:16]:
            try:
                yield datetime.strptime(text, _ASIDE_TIME).replace(tzinfo=UTC).timestamp()
            except ValueError:
                continue  # somebody else's file
