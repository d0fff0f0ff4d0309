"""How far a file was read, in a way that a rename, a truncation or a restart does not confuse.

A file is known by its device and inode, which the file system gives to another one once it is
deleted. So the bytes before the offset belong to the position: a file that does not have them there
is another one, or was truncated.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

TAIL_BYTES = 64
FileKey: TypeAlias = tuple[int, int]  # device and inode


@dataclass(slots=True)
class Position:
    """`offset` is behind the last line that was taken, `tail` what stands before it (at most
    TAIL_BYTES). `skipping`: the offset is inside of a line that was taken already. On disk is only
    a `digest` of the tail: a line may hold what a user wrote."""

    key: FileKey
    offset: int = 0
    tail: bytes = b""
    skipping: bool = False
    digest: str = ""

    def advance(self, taken: bytes) -> None:
        self.offset += len(taken)
        self.tail = (taken if len(taken) >= TAIL_BYTES else self.tail + taken)[-TAIL_BYTES:]

    @property
    def tail_bytes(self) -> int:
        return min(self.offset, TAIL_BYTES) if self.digest else len(self.tail)

    def follows(self, tail: bytes) -> bool:
        """Whether that stands before the offset."""
        return _digest(tail) == self.digest if self.digest else tail == self.tail

    def as_json(self) -> dict[str, Any]:
        return {
            "device": self.key[0],
            "inode": self.key[1],
            "offset": self.offset,
            "tail": self.digest or _digest(self.tail),
            "skipping": self.skipping,
        }


def position_of(data: Mapping[str, Any]) -> Position:
    """What `as_json` made. Raises ValueError, LookupError or TypeError for anything else."""
    key, offset = (int(data["device"]), int(data["inode"])), int(data["offset"])
    if offset < 0:
        raise ValueError("no position")
    return Position(key, offset, skipping=bool(data["skipping"]), digest=str(data["tail"]))


def _digest(tail: bytes) -> str:
    return hashlib.blake2b(tail, digest_size=8).hexdigest()


class Ledger:
    """The positions of all files of a source, those that are closed too."""

    def __init__(self, positions: Iterable[Position] = ()) -> None:
        self._known = {position.key: position for position in positions}

    def get(self, key: FileKey) -> Position | None:
        return self._known.get(key)

    def keep(self, position: Position) -> None:
        self._known[position.key] = position

    def forget(self, key: FileKey) -> None:
        self._known.pop(key, None)

    def keep_only(self, keys: Iterable[FileKey]) -> None:
        """What is gone from the disk is forgotten."""
        wanted = set(keys)
        self._known = {key: one for key, one in self._known.items() if key in wanted}

    def as_json(self) -> list[dict[str, Any]]:
        return [position.as_json() for position in self._known.values()]
