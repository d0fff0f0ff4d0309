"""Names that a log is given when it is rotated."""

import os
import re
from collections.abc import Iterable

MOST_SIBLINGS = 1_000
# app.log.1, app.log-20261130, app.log.2026-11-30_10, app.log.old; not worker-1 beside worker.
_ROTATED = re.compile(r"(?:\.\d[\w.:-]*|-\d{6,}[\w.:-]*|\.old|\.bak)")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")


def is_rotated(name: str, of: str) -> bool:
    """Whether a file of that name is what the log `of` was called after a rotation."""
    return (
        name.startswith(of)
        and _ROTATED.fullmatch(name, len(of)) is not None
        and not name.endswith(_PACKED)
    )


def siblings(path: str) -> list[tuple[str, os.stat_result]]:
    """What is left of a log beside it, the oldest first. Raises OSError for its directory."""
    directory, name = os.path.split(path)
    found: list[tuple[str, os.stat_result]] = []
    with os.scandir(directory or ".") as entries:
        for entry in entries:
            if len(found) >= MOST_SIBLINGS or not is_rotated(entry.name, name):
                continue
            try:
                found.append((entry.path, os.stat(entry.path)))
            except OSError:  # rotated away meanwhile
                continue
    return sorted(found, key=lambda one: one[1].st_mtime_ns)


def without_rotated(paths: Iterable[str]) -> list[str]:
    """Paths that a pattern found, without those that are followed as another one's past."""
    unique = sorted(set(paths))
    by_directory: dict[str, list[str]] = {}
    for path in unique:
        directory, name = os.path.split(path)
        by_directory.setdefault(directory, []).append(name)
    return [
        path
        for path in unique
        if not path.endswith(_PACKED)
        and not any(
            is_rotated(os.path.basename(path), name)
            for name in _shorter(os.path.basename(path), by_directory[os.path.dirname(path)])
        )
    ]


def _shorter(name: str, names: Iterable[str]) -> Iterable[str]:
    return (other for other in names if len(other) < len(name) and name.startswith(other))
