"""The last good copy of the configuration file, in the data directory: a start finds it when the
file itself is broken, empty or gone.

It may hold secrets, and names programs that are run: others may not read it, and one that others
could have written is none. Where the data directory is, a file that is gone no longer says: that is
noted beside it, or where systemd keeps state, if nobody may write there.
"""

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.watching import StorageSection
from tocsin_alerting.yaml_document import InvalidDocument, Problem, file_text, unreadable

log = logging.getLogger(__name__)

DIRECTORY = "config-copy"
_PRIVATE = 0o600
_PRIVATE_DIRECTORY = 0o700
_STATE_DIRECTORY = "STATE_DIRECTORY"  # of a systemd unit, the first of several
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
        return cls(Path(storage_path) / DIRECTORY / f"{_name_of(config_file)}.yml")

    def text(self) -> str | None:
        """What the file said when it was good last; None where nobody knows."""
        try:
            if self._is_others(self.place) or self._is_others(self.place.parent):
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

    def _is_others(self, path: Path) -> bool:
        """Whether others may have written it: in a directory of theirs they can put another file
        in its place."""
        trouble = _not_ours(os.lstat(path))
        if trouble:
            log.error("copy of the configuration refused: %s %s", path, trouble)
        return trouble != ""

    def _write(self, text: str) -> None:
        directory = self.place.parent
        directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        found = os.lstat(directory)
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{directory} {_not_ours(found)}; remove it")
        os.chmod(directory, _PRIVATE_DIRECTORY)  # if it was widened; what others put there goes
        _write_private(self.place, text)


@dataclass(frozen=True, slots=True)
class StorageNote:
    """Where the data directory is that a configuration file names. `places` are tried in turn."""

    places: tuple[Path, ...]

    @classmethod
    def of(cls, config_file: Path, env: Mapping[str, str] = os.environ) -> "StorageNote":
        state = env.get(_STATE_DIRECTORY, "").split(":")[0]
        beside = Path(os.path.abspath(config_file))
        beside = beside.with_name(f".{beside.name}.storage-path")
        kept = (Path(state) / DIRECTORY / f"{_name_of(config_file)}.storage-path",) if state else ()
        return cls((beside, *kept))

    def storage_path(self) -> str:
        """ "" where nobody knows."""
        for place in self.places:
            try:
                if not _not_ours(os.lstat(place)):
                    return file_text(place).strip()
            except (OSError, UnicodeDecodeError):
                continue
        return ""

    def keep(self, storage_path: str, text: str) -> None:
        """Of a file that says `text`; one that names no path needs no note."""
        wanted = os.path.abspath(storage_path) if storage_path_in(text, "") else ""
        if self.storage_path() != wanted:
            any(self._tries(place, wanted) for place in self.places)

    def _tries(self, place: Path, wanted: str) -> bool:
        """Whether it is noted there."""
        try:
            if not wanted:
                place.unlink(missing_ok=True)
                return False  # nor may it stand elsewhere
            place.parent.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            _write_private(place, f"{wanted}\n")
        except OSError:  # a directory of the administrator's
            return False
        return True


def _name_of(config_file: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(config_file))).hexdigest()[:32]


def _write_private(place: Path, text: str) -> None:
    fresh = place.with_name(f"{place.name}.part")
    fresh.unlink(missing_ok=True)  # one of before may have another mode
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, _PRIVATE), "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, place)


def _not_ours(found: os.stat_result) -> str:
    """Why others may have written it, "" if nobody can have."""
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return "is no file of its own"
    if found.st_uid != os.geteuid():
        return f"belongs to another user ({found.st_uid})"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        return f"can be written by others (mode {mode:04o}); look whether its text is yours"
    return ""


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
    named = storage_path or storage_path_in(text or "", "")
    place = named or StorageNote.of(file).storage_path() or StorageSection().path
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
