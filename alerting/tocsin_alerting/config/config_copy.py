"""The last good copy of the configuration file, in the data directory: a start finds it when the
file itself is broken, empty or gone.

It may hold secrets, and names programs that are run: others may not read it, and one that others
could have written is none.
"""

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.watching import StorageSection
from tocsin_alerting.yaml_document import InvalidDocument, Problem, file_text, unreadable

log = logging.getLogger(__name__)

DIRECTORY = "config-copy"
_PRIVATE = 0o600
_BOM = "\ufeff"
_NOTHING = ("", "{}", "~", "null", "Null", "NULL")
_BLOCK = re.compile(r"^storage:[ \t]*(?:#.*)?\n(?:(?:[ \t#].*)?\n)*?[ \t]+path:(.*)", re.M)
_FLOW = re.compile(r"^storage:[ \t]*\{(?:[^}\n]*?,)?[ \t]*path:([^,}\n]*)", re.M)


@dataclass(frozen=True, slots=True)
class ConfigCopy:
    """`place` need not exist. It is named by the hash of the file's absolute path."""

    place: Path

    @classmethod
    def of(cls, storage_path: str, config_file: Path) -> "ConfigCopy":
        name = hashlib.sha256(os.fsencode(os.path.abspath(config_file))).hexdigest()[:32]
        return cls(Path(storage_path) / DIRECTORY / f"{name}.yml")

    def text(self) -> str | None:
        """What the file said when it was good last; None where nobody knows."""
        try:
            found = os.lstat(self.place)
            if not _is_ours(found):
                log.error("copy of the configuration refused, others may write it: %s", self.place)
                return None
            return file_text(self.place)
        except (OSError, UnicodeDecodeError):
            return None

    def keep(self, text: str) -> None:
        """The file is good. A disk that takes nothing costs the copy alone."""
        try:
            if self.text() != text:
                self._write(text)
        except OSError as error:
            log.warning("failed to keep a copy of the configuration: %s", error)

    def _write(self, text: str) -> None:
        self.place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.place.with_suffix(".part")
        fresh.unlink(missing_ok=True)  # one of before may have another mode
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, _PRIVATE), "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.place)


def _is_ours(found: os.stat_result) -> bool:
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not writable


def is_empty(text: str) -> bool:
    """A file that is being written, or was lost: it says nothing, which is no error in YAML. The
    begin of a document, a byte order mark and a mapping of nothing say nothing either."""
    lines = (line.partition(" #")[0].strip() for line in text.removeprefix(_BOM).splitlines())
    said = "".join(line for line in lines if not line.startswith(("#", "%")))
    return said.removeprefix("---").removesuffix("...").strip() in _NOTHING


def storage_path_in(text: str, default: str) -> str:
    """`storage.path` of a text that need not be YAML any more, as far as it can be told."""
    found = _BLOCK.search(text) or _FLOW.search(text)
    value = found[1].partition(" #")[0].strip() if found else ""
    return value.strip("\"'") or default


@dataclass(frozen=True, slots=True)
class FirstConfig:
    """`text` is what `config` was read from, None without a file; `broken` is what is wrong in the
    file, where that was its last good copy."""

    config: Config
    text: str | None = None
    broken: str = ""


def first_config(
    file: Path, storage_path: str | None, load: Callable[[str | None], Config], *, strict: bool
) -> FirstConfig:
    """What the file says at the start; where that is nothing, or wrong, what its last good copy
    says, unless it is `strict`. `load` takes the text in place of the file's own. Raises what it
    raises, where there is no copy, or one that is of no use either."""
    text, problem = _read(file)
    place = storage_path or storage_path_in(text or "", StorageSection().path)
    kept = None if strict else ConfigCopy.of(place, file).text()
    if kept is None or is_empty(kept):
        return FirstConfig(load(text), text)
    try:
        if problem is not None:
            raise problem
        if is_empty(text or ""):
            raise InvalidDocument([Problem(str(file), 1, 1, _EMPTIED)])
        return FirstConfig(load(text), text)
    except InvalidDocument as error:
        try:
            config = load(kept)
        except InvalidDocument:
            raise error from None
        log.error("configuration file failed to load, its last good copy runs: %s", error)
        return FirstConfig(config, kept, str(error))


def _read(file: Path) -> tuple[str | None, InvalidDocument | None]:
    try:
        return file_text(file), None
    except (OSError, UnicodeDecodeError) as error:
        return None, unreadable(str(file), error)


_EMPTIED = (
    "this file is empty, and was not when it was good last; to start with the defaults alone, write"
    " version: 1 into it"
)
