"""The file of bearer tokens, which holds their hashes alone.

It is a file of its own, so that a broken journal locks nobody out. A token has 256 random bits:
nobody finds it by trying, so that its SHA-256 can be stored, and compared at once.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tocsin_exporter.files import file_bytes

FILE_NAME = "tokens.json"
PREFIX = "tocsin_"
ROLES = ("read", "respond", "admin")
MOST_TOKENS = 1000
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


class InvalidTokens(ValueError):
    """The file cannot be used, or what is asked of it cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """`sha256` is of the whole token, in hex; `created` RFC 3339."""

    name: str
    role: str
    sha256: str
    created: str


def digest(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class TokenFile:
    """The tokens in `path`, which need not exist: then there are none. Every call reads it anew,
    and may wait for the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[ApiToken, ...]:
        """Raises InvalidTokens."""
        try:
            text = file_bytes(self.path, _MOST_BYTES)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise InvalidTokens(f"cannot read {self.path}: {error.strerror or error}") from None
        return tuple(_parsed(self.path, text))

    def add(self, name: str, role: str, created: str) -> str:
        """A new token, which is shown this once. Raises InvalidTokens."""
        if not _NAME.fullmatch(name):
            raise InvalidTokens(
                f'invalid name "{name[:80]}"; use up to 64 letters, digits, ".", "_", "@" and "-"'
            )
        if role not in ROLES:
            raise InvalidTokens(f'invalid role "{role[:40]}"; use {", ".join(ROLES)}')
        with self._changing() as tokens:
            if any(token.name == name for token in tokens):
                raise InvalidTokens(f'a token is called "{name}" already; revoke it first')
            if len(tokens) >= MOST_TOKENS:
                raise InvalidTokens(f"there are {MOST_TOKENS} tokens already; revoke some")
            text = PREFIX + secrets.token_urlsafe(32)
            self._write([*tokens, ApiToken(name, role, digest(text), created)])
        return text

    def revoke(self, name: str) -> None:
        """Raises InvalidTokens where no token has this name."""
        with self._changing() as tokens:
            kept = [token for token in tokens if token.name != name]
            if len(kept) == len(tokens):
                raise InvalidTokens(f'no token is called "{name[:80]}"')
            self._write(kept)

    @contextmanager
    def _changing(self) -> Iterator[tuple[ApiToken, ...]]:
        """One at a time: the agent and a person at the command line may both add one."""
        try:
            lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                self._give_to_agent(lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield self.read()
            finally:
                os.close(lock)
        except OSError as error:
            raise InvalidTokens(f"cannot write {self.path}: {error.strerror or error}") from None

    def _write(self, tokens: Sequence[ApiToken]) -> None:
        """Whole or not at all."""
        text = json.dumps({"version": 1, "tokens": [asdict(t) for t in tokens]}, indent=1)
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            self._give_to_agent(file.fileno())
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def _give_to_agent(self, descriptor: int) -> None:
        """Whose the directory is: root may have asked."""
        if os.geteuid() == 0:
            owner = self.path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _parsed(path: Path, text: bytes) -> Iterator[ApiToken]:
    try:
        data = json.loads(text)
        if data["version"] != 1:
            raise InvalidTokens(f"{path} is of a newer version")
        for row in data["tokens"]:
            yield _token(path, row)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, InvalidTokens):
            raise
        raise InvalidTokens(f"{path} is damaged; restore it, or remove it and add tokens") from None


def _token(path: Path, row: Mapping[str, object]) -> ApiToken:
    """Unknown keys are a later version's."""
    name, role, sha256 = str(row["name"]), str(row["role"]), str(row["sha256"])
    if role not in ROLES or not _HASH.fullmatch(sha256):
        raise InvalidTokens(f'{path}: token "{name[:80]}" is damaged; remove it and add it again')
    return ApiToken(name, role, sha256, str(row.get("created", "")))
